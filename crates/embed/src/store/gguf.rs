//! Language models in GGUF files, by path or by name.
//!
//! A name is that of a model of the hub, `organisation/model`, whose files are in
//! our cache or in the hub's; often it has one file for each precision, and
//! `organisation/model:Q4_K_M` says which.

use std::path::{Path, PathBuf};

use super::hub_cache::folders;
use super::{ModelStore, flat};
use crate::{Error, Result};

impl ModelStore {
    /// The GGUF file a name stands for: a file, a folder with one such file, or
    /// `organisation/model` in a cache, where `organisation/model:part` takes the
    /// file whose name has that part. Never uses the network.
    ///
    /// # Errors
    /// [`Error::Gguf`] if there is none, or several; [`Error::UnknownModel`] if it
    /// can be no name.
    pub fn find_gguf(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(name);
        if path.is_file() {
            return Ok(path.to_owned());
        }
        if path.is_dir() {
            return one_of(path, files(path), "");
        }
        let looks_like_a_path = path.is_absolute()
            || name.starts_with(['.', '~'])
            || path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if looks_like_a_path {
            return Err(Error::Gguf { path: path.into(), reason: "there is no such file or folder".into() });
        }
        let (model, part) = name.split_once(':').unwrap_or((name, ""));
        self.check_name(model)?;
        let ours = self.cache.join(flat(model));
        let snapshots = self.hub_cache().model(model).join("snapshots");
        let places = [vec![ours.clone()], folders(&ours), folders(&snapshots)].concat();
        let found = places.iter().map(|folder| files(folder)).find(|files| !files.is_empty());
        match found {
            Some(files) => one_of(Path::new(name), files, part),
            None => Err(Error::Gguf {
                path: name.into(),
                reason: format!(
                    "no .gguf file of it is in {} nor in {}; put the file there, for example with \
                     `hf download {model}`, or give its path",
                    ours.display(),
                    snapshots.display()
                ),
            }),
        }
    }
}

/// The GGUF files of a folder, in order; none if it cannot be read.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_gguf).collect();
    files.sort();
    files
}

/// The only file whose name has `part`, in any case.
fn one_of(of: &Path, mut files: Vec<PathBuf>, part: &str) -> Result<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let all: Vec<String> = files.iter().map(name).collect();
    let part = part.to_lowercase();
    files.retain(|path| name(path).to_lowercase().contains(&part));
    let reason = match files.len() {
        1 => return Ok(files.remove(0)),
        _ if all.is_empty() => "the folder has no .gguf file".to_owned(),
        0 => format!("none of its files has `{part}` in its name: {}", all.join(", ")),
        _ => format!("several of its files fit, name one of {}", all.join(", ")),
    };
    Err(Error::Gguf { path: of.into(), reason })
}
