//! Which files there are below the paths that were given.

use std::fs;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::error::{Error, Result};
use crate::parse::is_known;

/// A file that was found.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// The folder that was given, its full path; empty for a file named itself.
    pub(super) root: String,
    /// The document's id: the path below the folder, or as it was named.
    pub(super) id: String,
}

/// What a walk finds, one after the other.
pub(super) enum Step {
    File(Entry),
    /// A file that is left out.
    Skipped(PathBuf, String),
    /// A folder that cannot be read: what is below it is not known.
    Lost(PathBuf, String),
}

/// A path that was given.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    path: PathBuf,
    /// Its full path if it is a folder.
    folder: Option<String>,
}

impl Root {
    /// # Errors
    /// [`Error::Path`] when there is nothing, or it cannot be looked at.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let failed = |source| Error::Path { path: path.to_owned(), source };
        let is_folder = fs::metadata(path).map_err(failed)?.is_dir();
        let folder = is_folder.then(|| fs::canonicalize(path)).transpose().map_err(failed)?;
        let folder = folder.map(|folder| folder.display().to_string());
        Ok(Self { path: path.to_owned(), folder })
    }

    /// The full path of a folder.
    pub(crate) fn folder(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// Finds the files, in the order of their names, until `tell` says that
    /// nobody listens. Links and hidden files below a folder are left out, and
    /// so is the folder `but`.
    pub(super) fn walk(&self, gitignore: bool, but: &Path, tell: &mut dyn FnMut(Step) -> bool) -> bool {
        let Some(root) = &self.folder else {
            let id = self.path.display().to_string();
            return tell(Step::File(Entry { path: self.path.clone(), root: String::new(), id }));
        };
        let but = but.to_owned();
        let walk = WalkBuilder::new(&self.path)
            .standard_filters(false)
            .hidden(true)
            .git_ignore(gitignore)
            .git_exclude(gitignore)
            .parents(gitignore)
            .require_git(false)
            .follow_links(false)
            .sort_by_file_name(Ord::cmp)
            .filter_entry(move |entry| {
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                !is_folder || fs::canonicalize(entry.path()).map_or(true, |path| path != but)
            })
            .build();
        for entry in walk {
            let step = match entry {
                Ok(entry) if !entry.file_type().is_some_and(|kind| kind.is_file()) => continue,
                Ok(entry) => found(root, &self.path, entry.into_path()),
                Err(error) => {
                    let (path, reason) = lost(&error, &self.path);
                    Step::Lost(path, reason)
                }
            };
            if !tell(step) {
                return false;
            }
        }
        true
    }
}

fn found(root: &str, given: &Path, path: PathBuf) -> Step {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !is_corpus(&path) && !is_known(&name) {
        return Step::Skipped(path, "files of this kind are not read from folders".to_owned());
    }
    let id = path.strip_prefix(given).unwrap_or(&path).display().to_string();
    Step::File(Entry { root: root.to_owned(), id, path })
}

fn lost(error: &ignore::Error, root: &Path) -> (PathBuf, String) {
    match error {
        ignore::Error::WithPath { path, err } => (path.clone(), err.to_string()),
        ignore::Error::WithDepth { err, .. } => lost(err, root),
        other => (root.to_owned(), other.to_string()),
    }
}

/// A file of many documents, a line each, if its lines are like that.
pub(super) fn is_corpus(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("jsonl") || end.eq_ignore_ascii_case("ndjson"))
}
