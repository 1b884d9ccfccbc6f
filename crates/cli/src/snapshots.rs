//! `cairn snapshot`: everything, or one collection, into a file and back.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use cairn_index::Database;
use serde_json::json;

use crate::args::Snapshot;
use crate::failure::Outcome;
use crate::out;
use crate::settings::Settings;
use crate::whole;

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

/// Says the bytes of the file.
fn create(db: &Database, file: &Path, collection: Option<&str>) -> Outcome<u64> {
    whole::write(file, |out| packed(db, out, collection))?;
    Ok(std::fs::metadata(file).map_err(|error| whole::failed(file, error))?.len())
}

fn packed(db: &Database, out: &File, collection: Option<&str>) -> Outcome {
    let mut buffered = BufWriter::new(out);
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
    Ok(())
}
