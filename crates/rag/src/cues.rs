//! What kind of thing a question asks for, and whether a sentence has one.
//!
//! "When" wants a date, "how many" a number, "who" and "where" a name. A
//! sentence without such a thing seldom answers, however alike its words are.
//! The cues are those of English questions; others want nothing in particular.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

/// What an answer has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Number,
    Date,
    Name,
    Reason,
    Anything,
}

impl Wanted {
    /// By the words a question asks with.
    pub(crate) fn by(question: &str) -> Self {
        let words: Vec<String> = question.unicode_words().map(str::to_lowercase).collect();
        let pairs: Vec<[&str; 2]> =
            words.windows(2).map(|pair| [pair[0].as_str(), pair[1].as_str()]).collect();
        let follows = |firsts: &[&str], seconds: &[&str]| {
            pairs.iter().any(|[first, second]| firsts.contains(first) && seconds.contains(second))
        };
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let which: &[&str] = &["what", "which"];
        if follows(&["how"], MEASURES) || follows(which, AMOUNTS) {
            Self::Number
        } else if has(&["when"]) || follows(which, TIMES) {
            Self::Date
        } else if has(&["who", "whom", "whose", "where"]) || follows(which, PLACES) {
            Self::Name
        } else if has(&["why"]) || follows(which, &["caused", "causes", "reason"]) {
            Self::Reason
        } else {
            Self::Anything
        }
    }

    /// Whether a sentence has such a thing that the question does not have
    /// already.
    pub(crate) fn is_in(self, sentence: &str, question: &HashSet<String>) -> bool {
        let words = || sentence.unicode_words();
        match self {
            Self::Anything => true,
            Self::Number => words().any(|word| {
                word.contains(|c: char| c.is_ascii_digit()) || NUMBERS.contains(&word.to_lowercase().as_str())
            }),
            Self::Date => words().any(|word| {
                is_year(word)
                    || is_calendar(word)
                    || ["century", "decade"].contains(&word.to_lowercase().as_str())
            }),
            // The first word has a capital in any case.
            Self::Name => words()
                .skip(1)
                .any(|word| word.starts_with(char::is_uppercase) && !question.contains(&word.to_lowercase())),
            Self::Reason => {
                let lower = sentence.to_lowercase();
                REASONS.iter().any(|reason| lower.contains(reason))
            }
        }
    }
}

fn is_year(word: &str) -> bool {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
    digits.len() == 4 && digits.parse().is_ok_and(|year: u32| (1000..2100).contains(&year))
}

fn is_calendar(word: &str) -> bool {
    word.starts_with(char::is_uppercase) && CALENDAR.contains(&word.to_lowercase().as_str())
}

pub(crate) const MEASURES: &[&str] = &[
    "many", "much", "old", "long", "far", "large", "big", "high", "tall", "often", "fast", "deep", "wide",
    "hot", "few", "heavy",
];
pub(crate) const AMOUNTS: &[&str] =
    &["percent", "percentage", "number", "amount", "age", "size", "population", "fraction", "proportion"];
pub(crate) const TIMES: &[&str] =
    &["year", "years", "date", "day", "month", "century", "decade", "era", "period", "time"];
const PLACES: &[&str] = &[
    "country",
    "city",
    "state",
    "place",
    "region",
    "continent",
    "county",
    "town",
    "area",
    "location",
    "street",
    "river",
    "island",
];
const NUMBERS: &[&str] = &[
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fifteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    "hundred", "thousand", "million", "billion", "half", "third", "quarter", "dozen", "first", "second",
    "once", "twice", "percent",
];
pub(crate) const CALENDAR: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const REASONS: &[&str] = &[
    "because",
    "due to",
    "since ",
    "so that",
    "in order to",
    "as a result",
    "caused",
    "reason",
    "therefore",
    "to avoid",
    "led to",
    "leads to",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_tells_what_its_answer_has() {
        for (question, wanted) in [
            ("How many stones are in a cairn?", Wanted::Number),
            ("What percentage of hikers get lost?", Wanted::Number),
            ("In which year was the lamp lit?", Wanted::Date),
            ("When did it burn?", Wanted::Date),
            ("Who built it?", Wanted::Name),
            ("Which city has it?", Wanted::Name),
            ("Why does bread rise?", Wanted::Reason),
            ("What is a cairn?", Wanted::Anything),
            ("", Wanted::Anything),
        ] {
            assert_eq!(Wanted::by(question), wanted, "{question}");
        }
    }

    #[test]
    fn a_sentence_has_it_or_not() {
        let question = HashSet::from(["cordouan".to_owned()]);
        for (wanted, sentence, has) in [
            (Wanted::Date, "The first one shone in 1823.", true),
            (Wanted::Date, "It shone in May.", true),
            (Wanted::Date, "It may shine 12345 times.", false),
            (Wanted::Number, "It has seven lenses.", true),
            (Wanted::Number, "It has lenses.", false),
            (Wanted::Name, "Built by Fresnel.", true),
            (Wanted::Name, "The tower of Cordouan shone.", false),
            (Wanted::Reason, "It rises because of yeast.", true),
            (Wanted::Anything, "Whatever.", true),
        ] {
            assert_eq!(wanted.is_in(sentence, &question), has, "{sentence}");
        }
    }
}
