//! `cairn snapshot`: everything, or one collection, into a file and back.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use cairn_index::Database;
use serde_json::json;

use crate::args::Snapshot;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, wanted: &Snapshot, as_json: bool) -> Outcome {
    let db = Database::open_with(&settings.data_dir, settings.index.clone())?;
    match wanted {
        Snapshot::Create { file, collection } => {
            let bytes = create(&db, file, collection.as_deref())?;
            if as_json {
                out::json(&json!({ "file": file, "bytes": bytes }));
            } else {
                out::line(format!("{}: {bytes} bytes", file.display()));
            }
        }
        Snapshot::Restore { file, collection } => {
            let restored = match collection {
                Some(name) => vec![db.restore(name, file)?.name().to_owned()],
                None => db.restore_all(file)?,
            };
            if as_json {
                out::json(&json!({ "restored": restored }));
            } else {
                out::line(format!("restored: {}", restored.join(", ")));
            }
        }
    }
    Ok(())
}

/// The file gets its name when it is whole; says its bytes.
fn create(db: &Database, file: &Path, collection: Option<&str>) -> Outcome<u64> {
    let partial = partial_of(file);
    let written = packed(db, &partial, collection);
    let renamed = written.and_then(|()| std::fs::rename(&partial, file).map_err(|e| failed(file, e).into()));
    if let Err(error) = renamed {
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    Ok(std::fs::metadata(file).map_err(|error| failed(file, error))?.len())
}

fn packed(db: &Database, file: &Path, collection: Option<&str>) -> Outcome {
    let out = File::create(file).map_err(|error| failed(file, error))?;
    let mut buffered = BufWriter::new(&out);
    // The copy in the data directory has served once it is packed.
    if let Some(name) = collection {
        let collection = db.collection(name)?;
        let made = collection.create_snapshot()?;
        let done = made.pack(&mut buffered);
        collection.delete_snapshot(&made.name)?;
        done?;
    } else {
        let made = db.create_snapshot()?;
        let done = made.pack(&mut buffered);
        db.delete_snapshot(&made.name)?;
        done?;
    }
    drop(buffered);
    Ok(out.sync_all().map_err(|error| failed(file, error))?)
}

fn failed(file: &Path, source: std::io::Error) -> Failure {
    Failure::Write { path: file.to_owned(), source }
}

fn partial_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
