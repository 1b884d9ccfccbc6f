//! Where a document comes from: what tells, without reading it, whether its file
//! has changed since.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The file of a document, kept in the payload of its first passage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Source {
    /// The folder that was added; empty for a file that was named itself.
    pub(crate) root: String,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// When it was last changed, nanoseconds since 1970; 0 where that does not
    /// prove anything.
    pub(crate) modified_ns: u64,
    /// SHA-256 of it; empty for a file of many documents.
    pub(crate) sha256: String,
    /// How files were read and cut.
    pub(crate) recipe: String,
}

/// A file changed so recently can change again without getting another time.
const SETTLED: Duration = Duration::from_secs(2);

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified_ns: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age >= SETTLED);
        let modified_ns = if settled { since.as_nanos() as u64 } else { 0 };
        Self { size: metadata.len(), modified_ns }
    }
}

impl Source {
    /// Whether a file with this stamp, read like this, must be what was read.
    pub(super) fn is_same(&self, root: &str, stamp: Stamp, recipe: &str) -> bool {
        stamp.modified_ns != 0
            && (self.size, self.modified_ns) == (stamp.size, stamp.modified_ns)
            && (self.root.as_str(), self.recipe.as_str()) == (root, recipe)
    }

    /// Whether a file of these bytes, read like this, gives the same document.
    pub(super) fn has_bytes(&self, sha256: &str, recipe: &str) -> bool {
        !self.sha256.is_empty() && (self.sha256.as_str(), self.recipe.as_str()) == (sha256, recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_only_with_its_size_time_folder_and_recipe() {
        let source =
            Source { root: "/a".into(), size: 5, modified_ns: 7, sha256: "s".into(), recipe: "r".into() };
        let stamp = Stamp { size: 5, modified_ns: 7 };
        assert!(source.is_same("/a", stamp, "r"));
        assert!(!source.is_same("/b", stamp, "r") && !source.is_same("/a", stamp, "q"));
        assert!(!source.is_same("/a", Stamp { size: 6, ..stamp }, "r"));
        assert!(!source.is_same("/a", Stamp { modified_ns: 8, ..stamp }, "r"));
        assert!(source.has_bytes("s", "r") && !source.has_bytes("t", "r"));
    }

    #[test]
    fn a_time_that_may_come_twice_proves_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Stamp::of(&file.as_file().metadata().unwrap()).modified_ns, 0);
        let stamp = Stamp { size: 0, modified_ns: 0 };
        assert!(!Source::default().is_same("", stamp, ""));
    }
}
