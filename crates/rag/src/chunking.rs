//! How documents are cut: the settings, and what a collection keeps of them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How documents are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkOptions {
    /// Length of a passage at most, in tokens of the model. The model's own
    /// limit holds besides.
    pub max_tokens: usize,
    /// Tokens at most of the sentences before a passage that are embedded and
    /// counted with it. They are not part of its text, so nothing is quoted
    /// twice. At most half of `max_tokens`, whose room they take.
    pub overlap: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { max_tokens: 200, overlap: 0 }
    }
}

/// What of [`ChunkOptions`] is to be otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkChange {
    /// Of [`ChunkOptions::max_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Of [`ChunkOptions::overlap`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<usize>,
}

impl ChunkOptions {
    /// These options, changed.
    #[must_use]
    pub fn with(&self, change: ChunkChange) -> Self {
        Self {
            max_tokens: change.max_tokens.unwrap_or(self.max_tokens),
            overlap: change.overlap.unwrap_or(self.overlap),
        }
    }

    /// # Errors
    /// [`Error::Option`] for what is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let out_of_range = |field, value: usize, range: String| {
            Err(Error::Option { field, value: value.to_string(), range })
        };
        if self.max_tokens == 0 {
            return out_of_range("chunk.max_tokens", 0, "1 or larger".to_owned());
        }
        if self.overlap > self.max_tokens / 2 {
            let range = format!("from 0 to {}, half of max_tokens", self.max_tokens / 2);
            return out_of_range("chunk.overlap", self.overlap, range);
        }
        Ok(())
    }

    /// The same within what a model sees.
    pub(crate) fn within(&self, max_tokens: usize) -> Self {
        let max_tokens = self.max_tokens.min(max_tokens).max(1);
        Self { max_tokens, overlap: self.overlap.min(max_tokens / 2) }
    }

    /// Changes with every setting; as older versions wrote it where it can be.
    pub(crate) fn recipe(&self) -> String {
        match self.overlap {
            0 => self.max_tokens.to_string(),
            overlap => format!("{}+{overlap}", self.max_tokens),
        }
    }
}
