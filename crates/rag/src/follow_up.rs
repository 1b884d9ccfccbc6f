//! Whether a question of a conversation can be understood without it.
//!
//! Told by the words of the question alone, which are English: pronouns and
//! what they may stand for, questions cut short, and how many words of its own
//! name a subject. Where that does not tell, it is not guessed: both readings
//! are searched and what they find decides; see `standalone`.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use crate::conversation::Turn;
use crate::cues::{AMOUNTS, CALENDAR, MEASURES, TIMES};
use crate::stop_words::is_stop_word;

/// How a question stands to what was said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It names what it is about.
    Alone,
    /// It points back, or says too little to be searched.
    Dependent,
    /// Either may be.
    Unsure,
}

/// Where a word of a question points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Points {
    Nowhere,
    /// Perhaps at something in the question itself.
    Within,
    Back,
}

impl Standing {
    pub(crate) fn of(question: &str) -> Self {
        let words = Words::of(question);
        let subjects = words.subjects();
        let points = (0..words.lower.len()).map(|at| words.points(at)).max().unwrap_or(Points::Back);
        if points == Points::Back || subjects.is_empty() || words.is_cut_short(subjects.len()) {
            return Self::Dependent;
        }
        let named = subjects.iter().any(|at| words.is_name(*at));
        if words.goes_on() {
            return if subjects.len() < 2 && !named { Self::Dependent } else { Self::Unsure };
        }
        // Without a word that is known to be English, nothing is known of it.
        let is_english = words.lower.iter().any(|word| is_stop_word(word));
        if points == Points::Within || !is_english {
            return Self::Unsure;
        }
        let is_new = subjects.iter().any(|at| words.is_introduced(*at));
        let enough = match subjects.len() {
            1 | 2 => named || is_new,
            3 => named || !words.has("the"),
            _ => true,
        };
        if enough { Self::Alone } else { Self::Unsure }
    }
}

/// A question with the words of the one before it that it lacks.
pub(crate) fn joined(question: &str, before: &str) -> String {
    let own: HashSet<String> = question.unicode_words().map(str::to_lowercase).collect();
    let mut seen = HashSet::new();
    let carried: Vec<&str> = before
        .unicode_words()
        .filter(|word| {
            let word = word.to_lowercase();
            is_subject(&word) && !own.contains(&word) && seen.insert(word)
        })
        .collect();
    if carried.is_empty() { question.to_owned() } else { format!("{question} {}", carried.join(" ")) }
}

/// The last question as it was searched; where that is not known, with what it
/// lacked of those before it.
pub(crate) fn asked_before(history: &[Turn]) -> Option<String> {
    history.iter().fold(None, |before: Option<String>, turn| {
        let as_asked = turn.query.is_empty() || turn.query == turn.question;
        match before {
            _ if !as_asked => Some(turn.query.clone()),
            Some(before) if Standing::of(&turn.question) == Standing::Dependent => {
                Some(joined(&turn.question, &before))
            }
            _ => Some(turn.question.clone()),
        }
    })
}

/// The words of a question.
struct Words<'q> {
    shown: Vec<&'q str>,
    lower: Vec<String>,
}

impl<'q> Words<'q> {
    fn of(question: &'q str) -> Self {
        let shown: Vec<&str> = question.unicode_words().collect();
        // "it's" and "that’s" are two words.
        let plain = |word: &&str| {
            let word = word.to_lowercase();
            word.split(['\'', '’']).next().unwrap_or_default().to_owned()
        };
        Self { lower: shown.iter().map(plain).collect(), shown }
    }

    /// The word at a place; nothing beyond the ends.
    fn at(&self, place: Option<usize>) -> &str {
        place.and_then(|place| self.lower.get(place)).map_or("", String::as_str)
    }

    fn before(&self, place: usize) -> &str {
        self.at(place.checked_sub(1))
    }

    fn after(&self, place: usize) -> &str {
        self.at(Some(place + 1))
    }

    fn has(&self, wanted: &str) -> bool {
        self.lower.iter().any(|word| word == wanted)
    }

    fn has_any(&self, wanted: &[&str]) -> bool {
        self.lower.iter().any(|word| wanted.contains(&word.as_str()))
    }

    /// The places of words that name a subject.
    fn subjects(&self) -> Vec<usize> {
        (0..self.lower.len()).filter(|at| is_subject(&self.lower[*at])).collect()
    }

    fn subjects_after(&self, place: usize) -> usize {
        self.lower[place + 1..].iter().filter(|word| is_subject(word)).count()
    }

    /// A word with a capital where words have none; the days and months are no
    /// names of subjects.
    fn is_name(&self, at: usize) -> bool {
        at > 0 && self.shown[at].starts_with(char::is_uppercase) && !is_calendar(&self.lower[at])
    }

    /// "a cairn", "the price of coffee": named for the first time.
    fn is_introduced(&self, at: usize) -> bool {
        let about = ["a", "an", "of", "about"];
        about.contains(&self.before(at)) && !is_calendar(&self.lower[at])
    }

    /// "On Mondays?", "Which floor?", "What about the lamp?"
    fn is_cut_short(&self, subjects: usize) -> bool {
        let (first, second) = (self.at(Some(0)), self.at(Some(1)));
        if ["what", "how"].contains(&first) && second == "about" {
            return true;
        }
        if self.has_any(&AUXILIARIES) {
            return false;
        }
        let count = self.lower.len();
        (PREPOSITIONS.contains(&first) && subjects < 3)
            || (["how", "why", "when", "where", "which", "whose", "what"].contains(&first) && count < 3)
            || (first == "how" && ["many", "much"].contains(&second) && count < 4)
    }

    /// "And …", "What else …"
    fn goes_on(&self) -> bool {
        let first = self.at(Some(0));
        ["and", "but", "or", "so", "then", "also"].contains(&first) || self.has_any(&MORE)
    }

    /// Where the word at a place points, if it is one that stands for another.
    fn points(&self, at: usize) -> Points {
        let (before, after) = (self.before(at), self.after(at));
        match self.lower[at].as_str() {
            "it" if self.is_empty_it(at) => Points::Nowhere,
            "it" | "its" | "itself" => self.antecedent(at, &|word, _| !is_plural(word)),
            "they" | "them" | "their" | "theirs" | "themselves" => {
                let each = ["a", "an", "each", "every", "any"];
                self.antecedent(at, &|word, before| is_plural(word) || each.contains(&before))
            }
            "he" | "him" | "his" | "himself" | "she" | "her" | "hers" | "herself" => {
                self.antecedent(at, &|_, _| true)
            }
            "this" | "these" if NOW.contains(&after) => Points::Nowhere,
            "this" | "these" => Points::Back,
            "those" if RELATIVES.contains(&after) => Points::Nowhere,
            "those" => Points::Back,
            "that" if OPENERS.contains(&before) => Points::Nowhere,
            "that" if is_subject(before) && self.subjects_after(at) > 1 => Points::Within,
            "that" => Points::Back,
            "there" if !after.is_empty() && (BE.contains(&before) || BE.contains(&after)) => Points::Nowhere,
            "there" => Points::Back,
            "one" | "ones" if ONE_OF.contains(&before) && !RELATIVES.contains(&after) => Points::Back,
            "former" | "latter" if before == "the" && !is_subject(after) => Points::Back,
            "such" if after != "as" => Points::Back,
            "then" if after.is_empty() && at > 0 && before != "since" => Points::Back,
            "others" | "another" if after.is_empty() => Points::Back,
            "mentioned" | "aforementioned" => Points::Back,
            _ => Points::Nowhere,
        }
    }

    /// "Is it possible to …", "How long does it take to …", "Does it rain …"
    fn is_empty_it(&self, at: usize) -> bool {
        let after = self.after(at);
        let rest = &self.lower[at + 1..];
        let leads_on = rest.iter().take(4).any(|word| ["to", "that", "if"].contains(&word.as_str()));
        let is_judged = BE.contains(&self.before(at)) && JUDGED.contains(&after);
        let is_spent = ["take", "takes", "cost", "costs"].contains(&after);
        ["rain", "rains", "snow", "snows", "freeze"].contains(&after) || (leads_on && (is_judged || is_spent))
    }

    /// Whether what a pronoun stands for may be before it in the question: for a
    /// possessive one anywhere, for others in a clause before theirs.
    fn antecedent(&self, at: usize, fits: &dyn Fn(&str, &str) -> bool) -> Points {
        let is_possessive = ["its", "their", "his", "her"].contains(&self.lower[at].as_str())
            && !self.after(at).is_empty()
            || self.lower[at].ends_with("self")
            || self.lower[at].ends_with("selves");
        let may_stand = |place: usize| {
            is_subject(&self.lower[place])
                && fits(&self.lower[place], self.before(place))
                && (self.is_name(place) || LEAD_TO_NOUNS.contains(&self.before(place)))
                && (is_possessive
                    || self.lower[place + 1..at].iter().any(|word| CLAUSES.contains(&word.as_str())))
        };
        if (0..at).any(may_stand) { Points::Within } else { Points::Back }
    }
}

/// Whether a word in lower case can be what a question is about: "height" is
/// asked of something else.
fn is_subject(word: &str) -> bool {
    !word.is_empty()
        && !is_stop_word(word)
        && !LIGHT.contains(&word)
        && !ATTRIBUTES.contains(&word)
        && ![MEASURES, AMOUNTS, TIMES].iter().any(|list| list.contains(&word))
}

/// "monday", "mondays", "may"
fn is_calendar(word: &str) -> bool {
    CALENDAR.contains(&word.trim_end_matches('s'))
}

fn is_plural(word: &str) -> bool {
    let ends = word.ends_with('s')
        && !["ss", "us", "is", "as", "lens", "news"].iter().any(|end| word.ends_with(end));
    ends || ["people", "children", "men", "women", "mice", "data"].contains(&word)
}

const AUXILIARIES: [&str; 24] = [
    "is", "are", "was", "were", "be", "been", "do", "does", "did", "has", "have", "had", "can", "could",
    "will", "would", "should", "may", "might", "must", "shall", "isn", "doesn", "don",
];
const BE: [&str; 7] = ["is", "are", "was", "were", "be", "been", "isn"];
const PREPOSITIONS: [&str; 20] = [
    "on", "in", "at", "for", "by", "since", "until", "with", "without", "from", "to", "during", "after",
    "before", "between", "near", "under", "over", "of", "about",
];
/// What begins another clause.
const CLAUSES: [&str; 17] = [
    "when", "if", "while", "because", "and", "before", "after", "once", "that", "which", "who", "where",
    "but", "until", "so", "than", "or",
];
/// A noun follows.
const LEAD_TO_NOUNS: [&str; 26] = [
    "the", "a", "an", "each", "every", "any", "all", "my", "our", "your", "no", "some", "many", "most",
    "which", "do", "does", "did", "is", "are", "was", "were", "can", "could", "should", "would",
];
/// After "those" and "the one": what is meant follows.
const RELATIVES: [&str; 8] = ["who", "that", "which", "with", "without", "of", "in", "on"];
/// Before a "that" that opens a clause.
const OPENERS: [&str; 8] = ["so", "one", "ones", "those", "all", "everything", "something", "anything"];
/// Before a "one" that stands for a thing.
const ONE_OF: [&str; 12] =
    ["the", "which", "that", "this", "other", "another", "first", "second", "last", "next", "best", "what"];
/// After "this": a time, told from now.
const NOW: [&str; 14] = [
    "week",
    "month",
    "year",
    "morning",
    "afternoon",
    "evening",
    "spring",
    "summer",
    "autumn",
    "winter",
    "time",
    "days",
    "quarter",
    "century",
];
const JUDGED: [&str; 14] = [
    "possible",
    "safe",
    "allowed",
    "necessary",
    "true",
    "better",
    "best",
    "legal",
    "wise",
    "common",
    "normal",
    "important",
    "hard",
    "easy",
];
/// Ask for more of what was told.
const MORE: [&str; 9] = ["else", "too", "instead", "another", "others", "other", "same", "either", "neither"];
/// Words besides stop words that name no subject.
const LIGHT: [&str; 123] = [
    "i",
    "am",
    "again",
    "all",
    "already",
    "always",
    "another",
    "anyone",
    "anything",
    "around",
    "because",
    "both",
    "came",
    "come",
    "comes",
    "during",
    "each",
    "either",
    "else",
    "ever",
    "every",
    "everyone",
    "everything",
    "exactly",
    "explain",
    "few",
    "former",
    "further",
    "get",
    "gets",
    "give",
    "go",
    "goes",
    "got",
    "happen",
    "happened",
    "happens",
    "her",
    "hers",
    "herself",
    "him",
    "himself",
    "his",
    "in",
    "instead",
    "isn",
    "itself",
    "just",
    "kind",
    "kinds",
    "know",
    "known",
    "last",
    "later",
    "latter",
    "let",
    "like",
    "list",
    "made",
    "make",
    "makes",
    "mean",
    "means",
    "mention",
    "mentioned",
    "aforementioned",
    "more",
    "most",
    "must",
    "name",
    "near",
    "neither",
    "never",
    "next",
    "now",
    "off",
    "one",
    "ones",
    "only",
    "other",
    "others",
    "out",
    "over",
    "own",
    "per",
    "please",
    "put",
    "same",
    "say",
    "says",
    "shall",
    "show",
    "since",
    "some",
    "someone",
    "something",
    "sort",
    "still",
    "such",
    "tell",
    "them",
    "themselves",
    "theirs",
    "thing",
    "things",
    "too",
    "type",
    "types",
    "under",
    "until",
    "up",
    "use",
    "used",
    "uses",
    "very",
    "want",
    "well",
    "while",
    "with",
    "without",
    "doesn",
    "don",
    "yes",
];
/// What something has: the question is about that something.
const ATTRIBUTES: [&str; 68] = [
    "height",
    "width",
    "length",
    "depth",
    "weight",
    "price",
    "prices",
    "cost",
    "costs",
    "colour",
    "colours",
    "color",
    "colors",
    "purpose",
    "author",
    "owner",
    "address",
    "capacity",
    "capital",
    "result",
    "results",
    "difference",
    "differences",
    "advantage",
    "advantages",
    "disadvantage",
    "disadvantages",
    "example",
    "examples",
    "meaning",
    "effect",
    "effects",
    "cause",
    "causes",
    "reason",
    "reasons",
    "role",
    "origin",
    "history",
    "status",
    "limit",
    "limits",
    "detail",
    "details",
    "rest",
    "answer",
    "question",
    "source",
    "definition",
    "biggest",
    "largest",
    "smallest",
    "oldest",
    "newest",
    "tallest",
    "longest",
    "best",
    "worst",
    "cheapest",
    "cheap",
    "expensive",
    "small",
    "short",
    "new",
    "beginning",
    "end",
    "names",
    "dates",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_tells_whether_it_stands_by_itself() {
        for (question, standing) in [
            ("And when was it restored?", Standing::Dependent),
            ("What about the lamp?", Standing::Dependent),
            ("How tall?", Standing::Dependent),
            ("Why?", Standing::Dependent),
            ("?", Standing::Dependent),
            ("And on Mondays?", Standing::Dependent),
            ("On Mondays?", Standing::Dependent),
            ("In which year?", Standing::Dependent),
            ("Who built it?", Standing::Dependent),
            ("What does he say about tapes?", Standing::Dependent),
            ("Is that allowed?", Standing::Dependent),
            ("Who built that tower?", Standing::Dependent),
            ("How old are they?", Standing::Dependent),
            ("Which one is the oldest?", Standing::Dependent),
            ("And the second?", Standing::Dependent),
            ("What is the height?", Standing::Dependent),
            ("How many floors?", Standing::Dependent),
            ("What else?", Standing::Dependent),
            ("Why is that?", Standing::Dependent),
            ("And then?", Standing::Dependent),
            ("Who lives there?", Standing::Dependent),
            ("What happened after that?", Standing::Dependent),
            ("What were his reasons?", Standing::Dependent),
            ("Tell me more", Standing::Dependent),
            ("Is there another?", Standing::Dependent),
            ("What did the latter do?", Standing::Dependent),
            ("Why do hikers build them?", Standing::Dependent),
            ("Where can I find these?", Standing::Dependent),
            ("Which colours are used?", Standing::Dependent),
            ("Who cleans its lens?", Standing::Dependent),
            ("What is a cairn?", Standing::Alone),
            ("Who was Augustin Fresnel?", Standing::Alone),
            ("When was the Eiffel tower built?", Standing::Alone),
            ("Which metals conduct heat best?", Standing::Alone),
            ("How long does it take to climb Mount Kenya?", Standing::Alone),
            ("Is it possible to bring dogs into mountain huts?", Standing::Alone),
            ("Are there any toilets on the ground floor of the museum?", Standing::Alone),
            ("What is the price of coffee?", Standing::Alone),
            ("Which medicines, such as aspirin, thin the blood?", Standing::Alone),
            ("Who are those who climbed Everest first?", Standing::Alone),
            ("What happens to rivers when forests burn?", Standing::Alone),
            ("How much does a ticket to Paris cost?", Standing::Alone),
            ("How many stones are in a cairn?", Standing::Alone),
            ("What does Ariane weigh at launch?", Standing::Alone),
            ("Where are marmots found in winter?", Standing::Alone),
            ("What is served on Mondays?", Standing::Unsure),
            ("What does the canteen serve on Mondays?", Standing::Unsure),
            ("When was the lens lit?", Standing::Unsure),
            ("And who painted the Mona Lisa?", Standing::Unsure),
            ("Who else worked on the lighthouse?", Standing::Unsure),
            ("Is the museum open this week?", Standing::Unsure),
            ("How do bees find their way home?", Standing::Unsure),
            ("What does a lens do when it is dirty?", Standing::Unsure),
            ("Who said that bread rises?", Standing::Unsure),
            ("opening hours museum", Standing::Unsure),
            ("Mondays?", Standing::Unsure),
            ("Wann wurde der Turm gebaut?", Standing::Unsure),
        ] {
            assert_eq!(Standing::of(question), standing, "{question}");
        }
    }

    #[test]
    fn a_question_gets_the_words_it_lacks() {
        let before = "Who built the lighthouse of Cordouan?";
        for (question, want) in [
            ("And when was it restored?", "And when was it restored? built lighthouse Cordouan"),
            ("Who lit the lighthouse?", "Who lit the lighthouse? built Cordouan"),
            ("Who built the lighthouse of Cordouan?", "Who built the lighthouse of Cordouan?"),
        ] {
            assert_eq!(joined(question, before), want);
        }
        // What was asked about something is not asked again.
        assert_eq!(joined("And how old?", "How tall is the tower of Pisa?"), "And how old? tower Pisa");
    }

    #[test]
    fn a_question_keeps_what_those_before_it_were_about() {
        let turn = |question: &str, query: &str| Turn {
            question: question.to_owned(),
            query: query.to_owned(),
            answer: String::new(),
            at_ms: 0,
        };
        assert_eq!(asked_before(&[]), None);
        let tower = turn("Who built the tower of Pisa?", "");
        let tall = turn("How tall is it?", "How tall is it?");
        let known = turn("How tall is it?", "How tall is the tower of Pisa?");
        let before =
            |turns: &[&Turn]| asked_before(&turns.iter().copied().cloned().collect::<Vec<_>>()).unwrap();
        assert_eq!(before(&[&tower, &tall]), "How tall is it? built tower Pisa");
        assert_eq!(before(&[&tower, &known]), "How tall is the tower of Pisa?");
        assert_eq!(before(&[&known, &turn("What is a cairn?", "")]), "What is a cairn?");
        assert_eq!(before(&[&tall]), "How tall is it?");
    }
}
