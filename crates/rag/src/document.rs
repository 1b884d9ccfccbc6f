//! Documents as they are handed in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, Result};

/// A text to be found and quoted later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Chosen by the caller, unique in its collection.
    pub id: String,
    /// Shown with citations; the id stands in when it is empty.
    #[serde(default)]
    pub title: String,
    /// The source text, which citations quote.
    pub text: String,
    /// Anything the application wants to filter by or get back.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The character of the text that each page begins with, ascending, where it
    /// has pages. Passages then end with their page, and citations name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<usize>,
}

/// How the text of a document is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Markdown: headings give sections, markup is not quoted as sentences.
    /// Plain prose is valid Markdown, so this is the default.
    #[default]
    Markdown,
    /// Plain text: blank lines separate paragraphs.
    Text,
}

impl Document {
    /// Whether a collection can take it.
    ///
    /// # Errors
    /// [`Error::Document`] with what is wrong and the mend.
    pub fn check(&self) -> Result<()> {
        if self.id.is_empty() {
            return Err(Error::Document { id: String::new(), reason: "its id is empty, give it one" });
        }
        // Such ids cannot be part of an address.
        if self.id == "." || self.id == ".." {
            return Err(Error::Document { id: self.id.clone(), reason: "its id must not be a dot or two" });
        }
        if !self.pages.is_sorted() {
            let reason = "its pages must begin one after the other";
            return Err(Error::Document { id: self.id.clone(), reason });
        }
        if self.text.trim().is_empty() {
            return Err(Error::Document { id: self.id.clone(), reason: "its text is empty, leave it out" });
        }
        Ok(())
    }

    /// The title, or the id where there is none.
    pub fn shown_title(&self) -> &str {
        if self.title.trim().is_empty() { &self.id } else { self.title.trim() }
    }

    /// Changes whenever anything that reaches the passages changes.
    pub(crate) fn fingerprint(&self, format: Format, recipe: &str) -> String {
        let metadata = serde_json::to_string(&self.metadata).expect("keys are strings");
        let pages = if self.pages.is_empty() { String::new() } else { format!("{:?}", self.pages) };
        let format = format!("{format:?}{pages}");
        let parts = [recipe, &format, &self.title, &metadata, &self.text].join("\0");
        Uuid::new_v5(&Uuid::NAMESPACE_OID, parts.as_bytes()).simple().to_string()
    }
}
