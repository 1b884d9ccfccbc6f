//! Words that carry no subject.

/// Whether an English word, in lower case, says nothing about the subject.
pub(crate) fn is_stop_word(word: &str) -> bool {
    word.chars().count() < 2 || STOP_WORDS.contains(&word)
}

const STOP_WORDS: [&str; 79] = [
    "the", "and", "are", "was", "were", "for", "from", "with", "what", "which", "who", "whom", "whose",
    "when", "where", "why", "how", "does", "did", "has", "had", "have", "that", "this", "these", "those",
    "its", "their", "there", "can", "could", "would", "should", "will", "may", "might", "been", "being",
    "into", "onto", "than", "then", "many", "much", "about", "between", "after", "before", "a", "an", "of",
    "in", "on", "at", "by", "to", "is", "be", "do", "as", "or", "if", "it", "he", "she", "we", "you", "they",
    "my", "your", "our", "not", "no", "so", "but", "also", "me", "us", "any",
];
