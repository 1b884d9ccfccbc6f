//! Conversations: what was asked and answered before, kept between requests.
//!
//! Each conversation is a JSON file in the folder `conversations` of the data
//! directory, replaced as a whole with each turn. It belongs to one collection
//! and is not seen from another.
//! What a question takes from those before it is said in `follow_up`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// How much of a conversation is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConversationOptions {
    /// Turns that are kept; older ones are forgotten.
    pub max_turns: usize,
    /// Characters of earlier turns that a language model is told at most.
    pub max_chars: usize,
    /// Conversations nobody went on with are deleted after so many days; 0
    /// keeps them.
    pub keep_days: u64,
}

impl Default for ConversationOptions {
    fn default() -> Self {
        Self { max_turns: 20, max_chars: 8000, keep_days: 30 }
    }
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// As it was asked.
    pub question: String,
    /// As it was searched.
    #[serde(default)]
    pub query: String,
    /// The answer.
    pub answer: String,
    /// When, in milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
}

/// What was asked and answered so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// The collection it is about.
    pub collection: String,
    /// The turns, oldest first.
    pub turns: Vec<Turn>,
}

/// The conversations of a data directory.
pub(crate) struct Conversations {
    folder: PathBuf,
    options: ConversationOptions,
    /// Held while a file is replaced.
    writing: Mutex<()>,
}

const MAX_ID: usize = 64;

impl Conversations {
    pub(crate) fn new(data_dir: &Path, options: ConversationOptions) -> Self {
        Self { folder: data_dir.join("conversations"), options, writing: Mutex::new(()) }
    }

    /// Starts one and returns it; those nobody went on with are cleared away.
    pub(crate) fn start(&self, collection: &str) -> Result<Conversation> {
        self.clear()?;
        let id = Uuid::new_v4().simple().to_string();
        let started = Conversation { id, collection: collection.to_owned(), turns: Vec::new() };
        let _writing = self.writing.lock();
        self.write(&started)?;
        Ok(started)
    }

    /// The conversation of this id about a collection.
    pub(crate) fn get(&self, collection: &str, id: &str) -> Result<Conversation> {
        let unknown = || Error::UnknownConversation { id: id.to_owned(), collection: collection.to_owned() };
        let right = (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !right {
            return Err(unknown());
        }
        let text = match fs::read_to_string(self.path(id)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            Err(source) => return Err(self.failed(source)),
        };
        let found: Conversation =
            serde_json::from_str(&text).map_err(|error| self.failed(std::io::Error::other(error)))?;
        // What was said about one collection is nothing for readers of another.
        if found.collection == collection { Ok(found) } else { Err(unknown()) }
    }

    /// Adds a turn.
    pub(crate) fn add(&self, collection: &str, id: &str, turn: Turn) -> Result<()> {
        let _writing = self.writing.lock();
        let mut conversation = self.get(collection, id)?;
        conversation.turns.push(turn);
        let over = conversation.turns.len().saturating_sub(self.options.max_turns.max(1));
        conversation.turns.drain(..over);
        self.write(&conversation)
    }

    /// Deletes one.
    pub(crate) fn delete(&self, collection: &str, id: &str) -> Result<()> {
        let _writing = self.writing.lock();
        self.get(collection, id)?;
        fs::remove_file(self.path(id)).map_err(|source| self.failed(source))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn write(&self, conversation: &Conversation) -> Result<()> {
        let text = serde_json::to_vec(conversation).expect("a conversation has string keys");
        let path = self.path(&conversation.id);
        let partial = path.with_extension("partial");
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&partial, text))
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| self.failed(source))
    }

    fn clear(&self) -> Result<()> {
        if self.options.keep_days == 0 || !self.folder.exists() {
            return Ok(());
        }
        let _writing = self.writing.lock();
        let keep = Duration::from_secs(self.options.keep_days.saturating_mul(86_400));
        let entries = fs::read_dir(&self.folder).map_err(|source| self.failed(source))?;
        for entry in entries.flatten() {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            let old =
                changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > keep));
            if old && entry.path().extension().is_some_and(|extension| extension == "json") {
                fs::remove_file(entry.path()).map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Conversation { folder: self.folder.clone(), source }
    }
}

/// The last turns that together have at most `max_chars` characters.
pub(crate) fn remembered(turns: &[Turn], max_chars: usize) -> &[Turn] {
    let mut chars = 0;
    let fits = turns.iter().rev().take_while(|turn| {
        chars += turn.question.chars().count() + turn.answer.chars().count();
        chars <= max_chars
    });
    let count = fits.count();
    &turns[turns.len() - count..]
}

/// A conversation as a text, for a model that rewrites its last question.
pub(crate) fn transcript(turns: &[Turn], question: &str) -> String {
    let mut text = String::new();
    for turn in turns {
        text.push_str(&format!("Question: {}\nAnswer: {}\n", turn.question, turn.answer));
    }
    text + &format!("Last question: {question}")
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(number: usize) -> Turn {
        Turn {
            question: format!("question {number}"),
            query: String::new(),
            answer: "yes".to_owned(),
            at_ms: 0,
        }
    }

    #[test]
    fn turns_are_kept_up_to_the_limit_and_only_for_their_collection() {
        let dir = tempfile::tempdir().unwrap();
        let options = ConversationOptions { max_turns: 3, ..ConversationOptions::default() };
        let all = Conversations::new(dir.path(), options);
        let id = all.start("a").unwrap().id;
        for number in 0..5 {
            all.add("a", &id, turn(number)).unwrap();
        }
        let questions: Vec<String> =
            all.get("a", &id).unwrap().turns.into_iter().map(|turn| turn.question).collect();
        assert_eq!(questions, ["question 2", "question 3", "question 4"]);
        assert!(matches!(all.get("b", &id), Err(Error::UnknownConversation { .. })));
        for bad in ["", "../a", "x/y", &"x".repeat(65)] {
            assert!(matches!(all.get("a", bad), Err(Error::UnknownConversation { .. })), "{bad}");
        }
        all.delete("a", &id).unwrap();
        assert!(matches!(all.get("a", &id), Err(Error::UnknownConversation { .. })));
    }

    #[test]
    fn what_a_model_is_told_keeps_to_its_limit_and_drops_the_oldest() {
        let turns: Vec<Turn> = (0..4).map(turn).collect();
        assert_eq!(remembered(&turns, 26), &turns[2..]);
        assert_eq!(remembered(&turns, 5), &[]);
        assert_eq!(remembered(&turns, 1000), &turns[..]);
    }
}
