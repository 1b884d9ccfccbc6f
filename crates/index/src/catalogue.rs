//! What the store knows of a collection besides its log: the settings, which
//! segments there are, and which of their rows are live.
//!
//! An entry is true as of its `seq`: the log is replayed from there. Segments
//! are files of the collection's folder:
//!
//! ```text
//! 7.segment                rows, never changed
//! 7-120.marks              which of them were live at seq 120
//! 7-field-….derived        caches: a missing or damaged one is made again
//! 7-graph-….derived
//! 7-sparse-….derived
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::bits::Bits;
use crate::bytes::Bytes;
use crate::config::CollectionConfig;
use crate::error::{Error, Result};
use crate::part::{Marks, VectorUids};
use crate::point::Expiry;
use crate::segment::{Container, Writer};
use crate::store::Store;

pub(crate) const COLLECTION: &str = "collection/";

/// The catalogue's entry of a collection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Names the folder and the logs.
    pub(crate) uid: u32,
    /// Logs of earlier generations were taken over by segments.
    pub(crate) generation: u32,
    /// The last operation that the settings and segments contain.
    pub(crate) seq: u64,
    pub(crate) config: CollectionConfig,
    pub(crate) vector_uids: VectorUids,
    /// Oldest first.
    pub(crate) segments: Vec<SegmentEntry>,
    pub(crate) next_number: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    /// The seq in the name of its marks; `None` while every row is live.
    pub(crate) marks: Option<u64>,
}

impl Entry {
    pub(crate) fn new(uid: u32, config: CollectionConfig) -> Self {
        let names = config.vectors.keys().chain(config.sparse_vectors.keys());
        let vector_uids = names.map(|name| (name.clone(), 0)).collect();
        Self { uid, generation: 0, seq: 0, config, vector_uids, segments: Vec::new(), next_number: 1 }
    }

    pub(crate) fn put(&self, store: &dyn Store, name: &str) -> Result<()> {
        let json = serde_json::to_vec(self).expect("settings have string keys and finite numbers");
        store.put(&format!("{COLLECTION}{name}"), &json)
    }

    pub(crate) fn read(name: &str, json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|error| Error::Corrupt {
            what: format!("catalogue entry of collection `{name}`"),
            reason: error.to_string(),
        })
    }
}

/// The log of a generation.
pub(crate) fn log_id(uid: u32, generation: u32) -> u64 {
    u64::from(uid) << 32 | u64::from(generation)
}

pub(crate) fn uid_of(log: u64) -> u32 {
    (log >> 32) as u32
}

pub(crate) fn generation_of(log: u64) -> u32 {
    log as u32
}

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.segment"))
}

fn marks_path(dir: &Path, number: u64, seq: u64) -> PathBuf {
    dir.join(format!("{number}-{seq}.marks"))
}

/// The number of the segment that a file of a collection's folder belongs to.
fn number_of(file: &str) -> Option<u64> {
    file.split(['.', '-']).next()?.parse().ok()
}

/// Whether a file of the folder belongs to one of the entry's segments.
fn is_needed(entry: &Entry, file: &str) -> bool {
    let of = entry.segments.iter().find(|segment| Some(segment.number) == number_of(file));
    of.is_some_and(|segment| match file.rsplit('.').next() {
        Some("partial") => false,
        Some("marks") => segment.marks.is_some_and(|seq| file == format!("{}-{seq}.marks", segment.number)),
        _ => true,
    })
}

/// Removes marks that newer ones have replaced. Other files stay: a merge may be
/// writing one that no entry names yet.
pub(crate) fn remove_old_marks(dir: &Path, entry: &Entry) {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = file.path();
        let marks = path.extension().is_some_and(|extension| extension == "marks");
        if marks && !is_needed(entry, &file.file_name().to_string_lossy()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes files that no segment of the entry needs, left by a crash. For the
/// time before the collection is open.
pub(crate) fn sweep(dir: &Path, entry: &Entry) {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !is_needed(entry, &file.file_name().to_string_lossy()) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Removes everything of a segment.
pub(crate) fn remove_segment(dir: &Path, number: u64) {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        if number_of(&file.file_name().to_string_lossy()) == Some(number) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// The files of the entry's segments, by name: what a snapshot holds.
pub(crate) fn files(dir: &Path, entry: &Entry) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(Error::io("read folder", dir))? {
        let name = file.map_err(Error::io("read folder", dir))?.file_name().to_string_lossy().into_owned();
        if is_needed(entry, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

const MARKS: &str = "marks";

/// Writes the marks of a segment as of `seq`; `None` if every row is live and
/// none has another expiry, which needs no file.
pub(crate) fn write_marks(
    dir: &Path,
    number: u64,
    seq: u64,
    rows: u32,
    marks: &Marks,
) -> Result<Option<u64>> {
    if marks.live.count() == rows as usize && marks.expiries.is_empty() {
        return Ok(None);
    }
    let mut words = marks.live.words().to_vec();
    words.resize((rows as usize).div_ceil(64), 0);
    let mut writer = Writer::create(&marks_path(dir, number, seq))?;
    writer.section("live", bytemuck::cast_slice(&words))?;
    let expiries: Vec<(u32, Option<Expiry>)> = marks.expiries.iter().map(|(slot, e)| (*slot, *e)).collect();
    writer.section("expiries", &serde_json::to_vec(&expiries).expect("plain fields"))?;
    writer.finish(MARKS, json!({}))?;
    Ok(Some(seq))
}

pub(crate) fn read_marks(dir: &Path, segment: &SegmentEntry, rows: u32) -> Result<Marks, String> {
    let Some(seq) = segment.marks else {
        return Ok(Marks { live: Arc::new(Bits::full(rows)), ..Marks::default() });
    };
    let container = Container::open(&marks_path(dir, segment.number, seq), MARKS)?;
    let live = container.section("live")?;
    let words = live.numbers::<u64>().filter(|words| words.len() == (rows as usize).div_ceil(64));
    let live = Bits::from_words(words.ok_or("its marks do not fit its rows")?, rows);
    let expiries: Vec<(u32, Option<Expiry>)> =
        serde_json::from_slice(&container.section("expiries")?).map_err(|error| error.to_string())?;
    let expiries: BTreeMap<u32, Option<Expiry>> = expiries.into_iter().collect();
    Ok(Marks { live: Arc::new(live), expiries: Arc::new(expiries) })
}

/// What is derived from the rows of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Field,
    Sparse,
    Graph,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Sparse => "sparse",
            Self::Graph => "graph",
        }
    }

    fn path(self, dir: &Path, number: u64, of: &str) -> PathBuf {
        let of = Uuid::new_v5(&Uuid::NAMESPACE_OID, of.as_bytes());
        dir.join(format!("{number}-{}-{}.derived", self.name(), of.simple()))
    }
}

/// Writes a cache of a segment's rows and maps it. `made_from` says what it is a
/// cache of; one made from anything else is not used.
pub(crate) fn write_derived(
    kind: Kind,
    dir: &Path,
    number: u64,
    of: &str,
    made_from: serde_json::Value,
    write: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<Bytes> {
    let path = kind.path(dir, number, of);
    let mut writer = Writer::create(&path)?;
    writer.begin("content")?;
    write(&mut writer)?;
    writer.finish(kind.name(), made_from)?;
    let content = Container::open(&path, kind.name()).and_then(|container| container.unverified("content"));
    content.map_err(|reason| Error::Corrupt { what: path.display().to_string(), reason })
}

/// Maps a cache if it is there, whole, and made from this.
pub(crate) fn read_derived(
    kind: Kind,
    dir: &Path,
    number: u64,
    of: &str,
    made_from: &serde_json::Value,
) -> Option<Bytes> {
    let path = kind.path(dir, number, of);
    if !path.exists() {
        return None;
    }
    let read = Container::open(&path, kind.name()).and_then(|container| {
        if container.info() != made_from {
            return Err("it was made from something else".to_owned());
        }
        // A graph checks its own bytes, all of them, when it is opened.
        if kind == Kind::Graph { container.unverified("content") } else { container.section("content") }
    });
    match read {
        Ok(content) => Some(content),
        Err(reason) => {
            tracing::warn!(file = %path.display(), %reason, "a derived file is not usable and will be made again");
            let _ = fs::remove_file(&path);
            None
        }
    }
}
