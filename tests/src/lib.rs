//! Judged retrieval sets and the measures taken on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_rag::eval::{JudgedSet as Judged, Measures, Text, read_lines};

/// A judged set with its documents.
#[derive(Debug)]
pub struct JudgedSet {
    /// The documents.
    pub corpus: Vec<Text>,
    /// The questions that have a judgement, and what is relevant to them.
    pub judged: Judged,
}

impl JudgedSet {
    /// Reads a folder in the BEIR layout; panics with the file's name when it is
    /// not as it should be.
    pub fn read(folder: &Path) -> Self {
        let judged = Judged::read(&folder.join("queries.jsonl"), &folder.join("qrels.tsv"));
        let corpus = read_lines(&folder.join("corpus.jsonl"));
        Self {
            corpus: corpus.unwrap_or_else(|error| panic!("{error}")),
            judged: judged.unwrap_or_else(|error| panic!("{error}")),
        }
    }

    /// Measures the ranked documents found for each query.
    pub fn measure(&self, found: &BTreeMap<String, Vec<String>>) -> Measures {
        let measured = self.judged.queries.iter().map(|query| {
            let ranked = found.get(&query.id).map_or(&[][..], Vec::as_slice);
            Measures::of(ranked, &self.judged.relevant[&query.id])
        });
        Measures::mean(&measured.collect::<Vec<_>>())
    }
}

/// The judged set that is part of the project.
pub fn handbook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/handbook")
}

/// A larger judged set beside the project or in the folder that `CAIRN_DATA`
/// names; `None` where there is none.
pub fn larger_set(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("CAIRN_DATA").map_or(beside, PathBuf::from).join(name);
    folder.join("corpus.jsonl").exists().then_some(folder)
}
