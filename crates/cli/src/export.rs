//! `cairn export`: the points of a collection as lines of JSON.

use std::io::{BufWriter, Write};
use std::path::Path;

use cairn_index::{Collection, Database};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::args::Export;
use crate::failure::Outcome;
use crate::out;
use crate::progress::bytes;
use crate::settings::Settings;
use crate::whole;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

pub(crate) fn run(settings: &Settings, wanted: &Export, as_json: bool) -> Outcome {
    let db = Database::open_with(&settings.data_dir, settings.index.clone())?;
    let collection = db.collection(&wanted.collection)?;
    if wanted.file == Path::new("-") {
        export(&collection, &wanted.file, out::Stdout)?;
        return Ok(());
    }
    let bar = bytes("exporting", None);
    let file = &wanted.file;
    let points = whole::write(file, |open| export(&collection, file, bar.wrap_write(open)));
    bar.finish_and_clear();
    let points = points?;
    if as_json {
        out::json(&json!({ "file": file, "points": points }));
    } else {
        out::line(format!("{}: {points} points", file.display()));
    }
    Ok(())
}

/// Packs the lines where the name says so.
fn export(collection: &Collection, name: &Path, out: impl Write) -> Outcome<usize> {
    let failed = |error| whole::failed(name, error);
    let mut out = BufWriter::with_capacity(BUFFER, out);
    if !is_packed(name) {
        let points = collection.export(&mut out)?;
        out.flush().map_err(failed)?;
        return Ok(points);
    }
    let mut packed = GzEncoder::new(out, Compression::default());
    let points = collection.export(&mut packed)?;
    packed.finish().and_then(|mut out| out.flush()).map_err(failed)?;
    Ok(points)
}

pub(crate) fn is_packed(name: &Path) -> bool {
    name.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"))
}
