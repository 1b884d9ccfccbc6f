use serde_json::json;

use super::*;

fn analyzer(options: &serde_json::Value) -> Analyzer {
    Analyzer::new(&serde_json::from_value(options.clone()).unwrap()).unwrap()
}

fn tokens(options: &serde_json::Value, text: &str) -> Vec<String> {
    let analyzer = analyzer(options);
    let tokens = analyzer.document_tokens(text);
    assert_eq!(tokens, analyzer.query_tokens(text));
    tokens
}

#[test]
fn words_are_runs_of_letters_and_digits_in_lower_case() {
    let text = "Don't PANIC: 42 ways, e-mail_me. ";
    assert_eq!(tokens(&json!({}), text), ["don", "t", "panic", "42", "ways", "e", "mail", "me"]);
    let kept = tokens(&json!({"tokenizer": "word", "lowercase": false}), text);
    assert_eq!(kept[..3], ["Don", "t", "PANIC"]);
    // The accent of the second one is a character of its own.
    assert_eq!(tokens(&json!({}), "CAFÉ Cafe\u{301}s"), ["café", "cafe\u{301}s"]);
}

#[test]
fn white_space_leaves_punctuation_alone() {
    let got = tokens(&json!({"tokenizer": "whitespace"}), " Rock'n'Roll,\u{a0}baby!\n");
    assert_eq!(got, ["rock'n'roll,", "baby!"]);
}

#[test]
fn multilingual_text_is_cut_where_unicode_says() {
    let options = json!({"tokenizer": "multilingual"});
    assert_eq!(tokens(&options, "Can't pay 3.50 €!"), ["can't", "pay", "3.50"]);
    assert_eq!(tokens(&options, "東京へ行く"), ["東", "京", "へ", "行", "く"]);
    assert_eq!(tokens(&options, "데이터베이스 검색"), ["데이터베이스", "검색"]);
}

#[test]
fn code_is_cut_where_case_changes() {
    let got = tokens(&json!({"tokenizer": "code"}), "parseHTTPRequest(max_len: U32, utf8Text) -> IO");
    assert_eq!(got, ["parse", "http", "request", "max", "len", "u32", "utf8", "text", "io"]);
}

#[test]
fn documents_have_all_prefixes_and_queries_the_word() {
    let options = json!({"tokenizer": "prefix", "min_token_len": 2, "max_token_len": 4});
    let analyzer = analyzer(&options);
    assert_eq!(analyzer.document_tokens("Größe a it"), ["gr", "grö", "größ", "it"]);
    assert_eq!(analyzer.query_tokens("Größenwahn a it"), ["größ", "it"]);
    let unbounded = super::tests::analyzer(&json!({"tokenizer": "prefix"}));
    assert_eq!(unbounded.document_tokens("abc"), ["a", "ab", "abc"]);
    assert_eq!(unbounded.document_tokens(&"x".repeat(10_000)).len(), LONGEST_PREFIX);
}

#[test]
fn folding_takes_marks_from_latin_letters_only() {
    let options = json!({"ascii_folding": true});
    assert_eq!(tokens(&options, "Ação Łódź STRAßE ﬁn Ⅳ"), ["acao", "lodz", "strasse", "fin", "iv"]);
    assert_eq!(tokens(&options, "й हिन्दी 한국"), ["й", "हिन्दी", "한국"]);
    assert_eq!(tokens(&json!({}), "Ação"), ["ação"]);
}

#[test]
fn lengths_are_counted_in_characters() {
    let options = json!({"min_token_len": 2, "max_token_len": 4});
    assert_eq!(tokens(&options, "é éé éééé ééééé a ab abcd abcde"), ["éé", "éééé", "ab", "abcd"]);
}

#[test]
fn stop_words_go_before_stems_are_taken() {
    let options = json!({
        "stopwords": {"languages": ["english", "de"], "custom": ["Running", "Été"]},
        "stemmer": {"type": "snowball", "language": "english"},
        "ascii_folding": true,
    });
    let got = tokens(&options, "The RUNNING runners und die ponies of l'été");
    assert_eq!(got, ["runner", "poni", "l"]);
    let none = json!({"stopwords": "english", "stemmer": {"type": "none"}});
    assert_eq!(tokens(&none, "these ponies"), ["ponies"]);
}

#[test]
fn options_come_back_as_they_were_written() {
    for written in [
        json!({"tokenizer": "word"}),
        json!({"tokenizer": "multilingual", "lowercase": true, "ascii_folding": false, "phrase_matching": true}),
        json!({"tokenizer": "prefix", "min_token_len": 1, "max_token_len": 9, "stopwords": "english"}),
        json!({"tokenizer": "word", "stopwords": {"languages": ["english"], "custom": ["x"]}}),
        json!({"tokenizer": "code", "stemmer": {"type": "snowball", "language": "english"}, "scoring": true}),
        json!({"tokenizer": "word", "stemmer": {"type": "none"}, "scoring": {"type": "bm25"}}),
    ] {
        let options: TextOptions = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&options).unwrap(), written);
    }
    // What all payload indexes have in common is read by others.
    let options: TextOptions =
        serde_json::from_value(json!({"type": "text", "on_disk": true, "lowercase": null})).unwrap();
    assert_eq!(options, TextOptions::default());
}

#[test]
fn options_without_meaning_are_refused() {
    for (options, part) in [
        (json!({"min_token_len": 3, "max_token_len": 2}), "from 3 to 2"),
        (json!({"max_token_len": 0}), "from 0 to 0"),
        (json!({"tokenizer": "prefix", "min_token_len": 1000}), "up to 128"),
        (json!({"stopwords": "klingon"}), "`klingon`"),
        (json!({"stemmer": {"type": "snowball", "language": "klingon"}}), "`klingon`"),
    ] {
        let error = Analyzer::new(&serde_json::from_value(options).unwrap()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn no_text_makes_an_analyzer_fail() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let seed = 11;
    let mut random = StdRng::seed_from_u64(seed);
    let alphabets: [&[char]; 6] = [
        &['a', 'e', 's', 't', 'i', 'n', 'g', 'y', '\''],
        &['ا', 'ل', 'و', 'ن', 'ي', 'ة', 'ت', 'ء'],
        &['க', 'ா', '்', 'ை', 'வ', 'ம', 'ு', 'ன'],
        &['α', 'ό', 'σ', 'ς', 'ν', 'ι', 'υ', 'ή'],
        &['ş', 'ı', 'ğ', 'l', 'a', 'r', 'd', 'i'],
        &['é', 'ß', 'İ', 'ø', 'я', '東', '\u{301}', '😀'],
    ];
    let languages = [
        "arabic",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hungarian",
        "italian",
    ];
    let more = ["norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish"];
    for language in languages.into_iter().chain(more) {
        let options =
            json!({"stemmer": {"type": "snowball", "language": language}, "ascii_folding": language > "g"});
        let analyzer = analyzer(&options);
        for _ in 0..3_000 {
            let alphabet = alphabets[random.random_range(0..alphabets.len())];
            let len = random.random_range(0..14);
            let word: String = (0..len).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect();
            let stemmed = std::panic::catch_unwind(|| analyzer.document_tokens(&word));
            assert!(stemmed.is_ok(), "{language} of `{word}`, seed {seed}");
        }
    }
}
