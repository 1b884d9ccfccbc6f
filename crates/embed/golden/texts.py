"""The hundred texts of minilm.json: empty-ish, short, long, code, many scripts."""

SENTENCES = [
    "A cairn is a pile of stones that marks a path.",
    "The harbour freezes in the second week of January most years.",
    "Refunds are paid within fourteen days of the return reaching us.",
    "She measured the beam twice and cut it once.",
    "Water boils at a lower temperature on top of a mountain.",
    "The committee postponed its decision until the figures were checked.",
    "Every request carries an id, so a retry changes nothing.",
    "My grandmother kept bees behind the old railway station.",
    "An index is only as good as the questions asked of it.",
    "The train to Graz leaves from platform seven at 09:42.",
    "Copper conducts heat better than iron, but it costs more.",
    "He could not remember where he had left the second key.",
    "Photosynthesis turns light, water and carbon dioxide into sugar.",
    "The contract ends unless both sides renew it in writing.",
    "Rain was forecast, so the concert moved indoors.",
    "A hash table trades memory for speed.",
    "The patient should take one tablet in the morning after breakfast.",
    "Two rivers meet below the castle and flow on to the sea.",
    "Interest rates rose by a quarter of a percentage point in May.",
    "Children under six travel free when an adult has a ticket.",
    "The error appeared only when two writers opened the same file.",
    "Volcanic soil makes the terraces good for vines.",
    "Press and hold the button for ten seconds to reset the device.",
    "Nobody had expected the smaller team to win the final.",
    "The library closes early on public holidays.",
    "Glaciers carve wide valleys with steep sides.",
    "Her second novel was written on a ship between two continents.",
    "A good error message says what happened and what to do about it.",
    "The bakery sells rye bread on Tuesdays and Fridays.",
    "Satellites lose height slowly because the air is never quite empty.",
]

SHORT = [
    "", " ", "\n\t ", "a", "?", ".", "cairn", "Cairn", "CAIRN", "42", "3.14159", "don't", "e-mail",
    "[MASK] [SEP] [CLS]", "[UNK]", "hello world", "hello, world!", "HELLO WORLD", "how do refunds work",
    "what marks a path?", "x" * 99, "x" * 101, "antidisestablishmentarianism", "the the the the",
    "$1,299.00", "2026-11-23T10:00:00Z", "user@example.org", "https://example.org/a/b?c=d&e=f#g",
]

SCRIPTS = [
    "Grüße aus Köln, schöne Straße!", "déjà vu à la carte", "cafe\u0301 and café", "naïve façade coöperate",
    "Ελληνικά γράμματα και τόνοι", "Привет, как дела сегодня?", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "你好，世界", "東京は日本の首都です。", "안녕하세요 세계", "İstanbul'da ılık bir gün",
    "🙂🚀 emoji 👩‍👩‍👧 family", "ﬁne ﬂour ligatures Ⅷ ²", "zero\u200bwidth\u00adsoft", "tab\tand\u00a0space\u2003em",
    "\ufeffbyte order mark", "null\u0000byte and \ufffd", "mixed 漢字 and latin مع عربي", "ß ẞ ı I i İ",
]

CODE = [
    "fn main() { println!(\"hello\"); }", "SELECT id, name FROM users WHERE age >= 21 ORDER BY name;",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }", "def f(x):\n    return x ** 2 + 1\n",
    "<div class=\"hit\"><a href=\"#top\">up</a></div>", "{\"id\": 7, \"tags\": [\"a\", \"b\"], \"score\": 0.25}",
    "grep -rn 'TODO' src | wc -l", "0x7fff_ffff & ~0b1010", "let v: Vec<_> = xs.iter().map(|x| x * 2).collect();",
    "#include <stdio.h>\nint main(void) { return 0; }",
]


def texts():
    """A hundred texts, the same each time."""
    found = SHORT + SCRIPTS + CODE + SENTENCES[:12]
    # Paragraphs from two sentences to far beyond 256 tokens.
    for count in range(2, 2 + 100 - len(found)):
        take = [SENTENCES[(count * 7 + i * 11) % len(SENTENCES)] for i in range(count * count // 8 + 2)]
        found.append((" " if count % 3 else "\n\n").join(take))
    assert len(found) == 100
    return found
