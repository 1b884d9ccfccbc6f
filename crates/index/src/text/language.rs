//! Languages by name: which have a Snowball stemmer and which a stop-word list.

use rust_stemmers::Algorithm;

use crate::error::{Error, Result};

struct Language {
    name: &'static str,
    /// ISO 639-1.
    code: &'static str,
    stemmer: Option<Algorithm>,
    has_stop_words: bool,
}

const fn both(name: &'static str, code: &'static str, stemmer: Algorithm) -> Language {
    Language { name, code, stemmer: Some(stemmer), has_stop_words: true }
}

const fn words(name: &'static str, code: &'static str) -> Language {
    Language { name, code, stemmer: None, has_stop_words: true }
}

const LANGUAGES: &[Language] = &[
    words("afrikaans", "af"),
    both("arabic", "ar", Algorithm::Arabic),
    words("armenian", "hy"),
    words("azerbaijani", "az"),
    words("basque", "eu"),
    words("bengali", "bn"),
    words("breton", "br"),
    words("bulgarian", "bg"),
    words("catalan", "ca"),
    words("chinese", "zh"),
    words("croatian", "hr"),
    words("czech", "cs"),
    both("danish", "da", Algorithm::Danish),
    both("dutch", "nl", Algorithm::Dutch),
    both("english", "en", Algorithm::English),
    words("esperanto", "eo"),
    words("estonian", "et"),
    both("finnish", "fi", Algorithm::Finnish),
    both("french", "fr", Algorithm::French),
    words("galician", "gl"),
    both("german", "de", Algorithm::German),
    both("greek", "el", Algorithm::Greek),
    words("gujarati", "gu"),
    words("hausa", "ha"),
    words("hebrew", "he"),
    words("hindi", "hi"),
    both("hungarian", "hu", Algorithm::Hungarian),
    words("indonesian", "id"),
    words("irish", "ga"),
    both("italian", "it", Algorithm::Italian),
    words("japanese", "ja"),
    words("kazakh", "kk"),
    words("korean", "ko"),
    words("kurdish", "ku"),
    words("latin", "la"),
    words("latvian", "lv"),
    words("lithuanian", "lt"),
    words("malay", "ms"),
    words("marathi", "mr"),
    words("nepali", "ne"),
    both("norwegian", "no", Algorithm::Norwegian),
    words("persian", "fa"),
    words("polish", "pl"),
    both("portuguese", "pt", Algorithm::Portuguese),
    both("romanian", "ro", Algorithm::Romanian),
    both("russian", "ru", Algorithm::Russian),
    words("slovak", "sk"),
    words("slovene", "sl"),
    words("somali", "so"),
    words("sotho", "st"),
    both("spanish", "es", Algorithm::Spanish),
    words("swahili", "sw"),
    both("swedish", "sv", Algorithm::Swedish),
    words("tagalog", "tl"),
    words("tajik", "tg"),
    Language { name: "tamil", code: "ta", stemmer: Some(Algorithm::Tamil), has_stop_words: false },
    words("thai", "th"),
    both("turkish", "tr", Algorithm::Turkish),
    words("ukrainian", "uk"),
    words("urdu", "ur"),
    words("vietnamese", "vi"),
    words("yoruba", "yo"),
    words("zulu", "zu"),
];

/// The Snowball algorithm of a language, by its English name or ISO code.
pub(crate) fn stemmer_of(language: &str) -> Result<Algorithm> {
    let found = find(language).and_then(|language| language.stemmer);
    found.ok_or_else(|| unknown("stemmer", language, |known| known.stemmer.is_some()))
}

/// The stop words of a language, by its English name or ISO code.
pub(crate) fn stop_words_of(language: &str) -> Result<&'static [&'static str]> {
    match find(language).filter(|language| language.has_stop_words) {
        Some(language) => Ok(stop_words::get(language.code)),
        None => Err(unknown("stop words", language, |known| known.has_stop_words)),
    }
}

fn find(language: &str) -> Option<&'static Language> {
    let wanted = language.trim();
    let is = |name: &str| name.eq_ignore_ascii_case(wanted);
    LANGUAGES.iter().find(|known| is(known.name) || is(known.code))
}

fn unknown(what: &str, language: &str, has: impl Fn(&Language) -> bool) -> Error {
    let known: Vec<&str> = LANGUAGES.iter().filter(|known| has(known)).map(|known| known.name).collect();
    Error::Request(format!("no {what} for language `{language}`, choose one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_what_the_table_says() {
        for language in LANGUAGES {
            assert_eq!(stop_words_of(language.name).is_ok(), language.has_stop_words, "{}", language.name);
            assert_eq!(stemmer_of(language.code).is_ok(), language.stemmer.is_some(), "{}", language.name);
        }
        assert!(stop_words_of("English").unwrap().contains(&"the"));
    }

    #[test]
    fn an_unknown_language_is_told_the_known_ones() {
        let error = stemmer_of("klingon").unwrap_err().to_string();
        assert!(
            error.starts_with("no stemmer for language `klingon`, choose one of arabic, danish"),
            "{error}"
        );
        assert!(!error.contains("polish"));
        assert!(stop_words_of("klingon").unwrap_err().to_string().contains("polish"));
    }
}
