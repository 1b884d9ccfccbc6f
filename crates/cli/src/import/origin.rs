//! Where an import comes from, told by what was typed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// Something that can be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    StandardInput,
    Lines(PathBuf),
    Parquet(PathBuf),
    /// A folder that Chroma keeps its data in.
    Chroma(PathBuf),
    Postgres(String),
    /// A collection of a server with the Qdrant API.
    Server(String),
}

/// What a name means; a folder may mean many files.
///
/// # Errors
/// When there is nothing of this name, or nothing in it that can be read.
pub(super) fn of(from: &str) -> Outcome<Vec<Origin>> {
    let one = |origin| Ok(vec![origin]);
    if from == "-" {
        return one(Origin::StandardInput);
    }
    match from.split_once("://").map(|(scheme, _)| scheme) {
        Some("http" | "https") => return one(Origin::Server(from.to_owned())),
        Some("postgres" | "postgresql") => return one(Origin::Postgres(from.to_owned())),
        _ => {}
    }
    let path = Path::new(from);
    let found = fs::metadata(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    if is_lance(path) {
        return Err(refused(from, LANCE).into());
    }
    if !found.is_dir() {
        return one(match path.file_name() {
            Some(name) if name == CHROMA => Origin::Chroma(folder_of(path)),
            _ if ends(path, "parquet") => Origin::Parquet(path.to_owned()),
            _ => Origin::Lines(path.to_owned()),
        });
    }
    if path.join(CHROMA).is_file() {
        return one(Origin::Chroma(path.to_owned()));
    }
    let mut files = Vec::new();
    collect(path, &mut files)?;
    if files.is_empty() {
        let reason =
            "there is no .parquet and no .jsonl file in it, packed (.gz) or not, and no chroma.sqlite3";
        return Err(refused(from, reason).into());
    }
    Ok(files)
}

/// The file that a Chroma folder has.
const CHROMA: &str = "chroma.sqlite3";

const LANCE: &str = "Lance tables are not read here; in Python, write one as Parquet and import that: \
                     `import lancedb, pyarrow.parquet; pyarrow.parquet.write_table(lancedb.connect(\"FOLDER\")\
                     .open_table(\"NAME\").to_arrow(), \"NAME.parquet\")`";

fn refused(from: &str, reason: &str) -> Failure {
    Failure::Source { from: from.to_owned(), reason: reason.to_owned() }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

fn ends(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(end))
}

/// A table of Lance is a folder with its versions in it, usually called so.
fn is_lance(path: &Path) -> bool {
    let is_table = |path: &Path| path.is_dir() && (ends(path, "lance") || path.join("_versions").is_dir());
    if is_table(path) {
        return true;
    }
    let Ok(entries) = fs::read_dir(path) else { return false };
    let mut tables = entries.filter_map(Result::ok).map(|entry| entry.path());
    tables.any(|path| ends(&path, "lance") && is_table(&path))
}

/// The files of a folder and those below it, in the order of their names; hidden
/// ones are left out.
fn collect(folder: &Path, files: &mut Vec<Origin>) -> Outcome {
    let failed = |source| Failure::Read { path: folder.to_owned(), source };
    let mut entries = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        if path.is_dir() {
            // A link to a folder may lead in a circle.
            if !is_link {
                collect(&path, files)?;
            }
        } else if ends(&path, "parquet") {
            files.push(Origin::Parquet(path));
        } else {
            let unpacked = if ends(&path, "gz") { path.with_extension("") } else { path.clone() };
            if ends(&unpacked, "jsonl") || ends(&unpacked, "ndjson") {
                files.push(Origin::Lines(path));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_says_what_is_read() {
        let server = "http://host:6333/collections/a";
        assert_eq!(of(server).unwrap(), [Origin::Server(server.to_owned())]);
        let database = "postgresql://me@host/db";
        assert_eq!(of(database).unwrap(), [Origin::Postgres(database.to_owned())]);
        assert_eq!(of("-").unwrap(), [Origin::StandardInput]);
        assert!(of("no such file").unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn a_folder_is_its_files_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("data")).unwrap();
        for name in
            ["data/train-1.parquet", "data/train-0.PARQUET", "z.jsonl.gz", ".hidden.jsonl", "README.md"]
        {
            fs::write(at(name), "").unwrap();
        }
        let found = of(&dir.path().display().to_string()).unwrap();
        assert_eq!(
            found,
            [
                Origin::Parquet(at("data/train-0.PARQUET")),
                Origin::Parquet(at("data/train-1.parquet")),
                Origin::Lines(at("z.jsonl.gz")),
            ]
        );
        fs::write(at("chroma.sqlite3"), "").unwrap();
        assert_eq!(of(&dir.path().display().to_string()).unwrap(), [Origin::Chroma(dir.path().to_owned())]);
    }

    #[test]
    fn a_lance_table_is_refused_with_the_way_around() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a.lance/_versions")).unwrap();
        for path in [dir.path().to_owned(), dir.path().join("a.lance")] {
            let told = of(&path.display().to_string()).unwrap_err().to_string();
            assert!(told.contains("write_table"), "{told}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(of(&empty.path().display().to_string()).unwrap_err().to_string().contains(".parquet"));
    }
}
