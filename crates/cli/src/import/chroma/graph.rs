//! The graph files of a Chroma segment, of which the vectors are read.
//!
//! `header.bin` says how an entry of `data_level0.bin` lies: links, then the
//! vector, then a label of 8 bytes. `index_metadata.pickle` says which id has which
//! label. A collection of few records has none of them yet.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde_pickle::DeOptions;

/// Where the vectors of a segment lie.
#[derive(Default)]
pub(super) struct Graph {
    /// The place of the vector of each id.
    places: HashMap<String, u64>,
    dim: usize,
    max_seq: Option<i64>,
    data: Option<File>,
}

#[derive(Deserialize)]
struct Labels {
    id_to_label: HashMap<String, u64>,
    #[serde(default)]
    max_seq_id: Option<serde_pickle::Value>,
}

/// What `header.bin` begins with: its version, then numbers of 8 bytes.
struct Header {
    entries: u64,
    entry_bytes: u64,
    label_at: u64,
    vector_at: u64,
}

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 52;

impl Header {
    fn read(path: &Path) -> Result<Self, String> {
        let mut bytes = [0; HEADER_BYTES];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
        read.map_err(|error| format!("{}: {error}", path.display()))?;
        let version = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        let number = |place: usize| {
            let at = 4 + 8 * place;
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        // The first two say where the entries begin and how many there is room for.
        let header =
            Self { entries: number(2), entry_bytes: number(3), label_at: number(4), vector_at: number(5) };
        let fits = header.vector_at < header.label_at
            && (header.label_at - header.vector_at).is_multiple_of(4)
            && header.label_at.checked_add(8) == Some(header.entry_bytes);
        if version != VERSION || !fits {
            return Err(format!(
                "{} is of a form that is not known here; in Python, write what `collection.get(include=[\"embeddings\", \
                 \"documents\", \"metadatas\"])` gives as lines of JSON, and import those",
                path.display()
            ));
        }
        Ok(header)
    }
}

impl Graph {
    /// # Errors
    /// When files are there that cannot be read, or are of another form.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let pickle = folder.join("index_metadata.pickle");
        let Ok(file) = File::open(&pickle) else { return Ok(Self::default()) };
        // Some versions write an object, of which the fields are taken.
        let options = DeOptions::new().keep_restore_state().replace_unresolved_globals();
        let labels: Labels = serde_pickle::from_reader(BufReader::new(file), options)
            .map_err(|error| format!("{}: {error}", pickle.display()))?;
        let max_seq = match labels.max_seq_id {
            Some(serde_pickle::Value::I64(seq)) => Some(seq),
            _ => None,
        };
        if labels.id_to_label.is_empty() {
            return Ok(Self { max_seq, ..Self::default() });
        }
        let header = Header::read(&folder.join("header.bin"))?;
        let path = folder.join("data_level0.bin");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let data = File::open(&path).map_err(failed)?;
        let label_places = places(&data, &header).map_err(failed)?;
        let mut found = HashMap::with_capacity(labels.id_to_label.len());
        for (id, label) in labels.id_to_label {
            if let Some(place) = label_places.get(&label) {
                found.insert(id, *place);
            }
        }
        let dim = ((header.label_at - header.vector_at) / 4) as usize;
        Ok(Self { places: found, dim, max_seq, data: Some(data) })
    }

    pub(super) fn max_seq(&self) -> Option<i64> {
        self.max_seq
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// The vector of a record; none if the graph does not have it.
    pub(super) fn vector(&mut self, id: &str) -> Result<Option<Vec<f32>>, String> {
        let (Some(place), Some(data)) = (self.places.get(id), &mut self.data) else { return Ok(None) };
        let mut bytes = vec![0; self.dim * 4];
        let read = data.seek(SeekFrom::Start(*place)).and_then(|_| data.read_exact(&mut bytes));
        read.map_err(|error| format!("data_level0.bin cannot be read: {error}"))?;
        let numbers =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
        Ok(Some(numbers.collect()))
    }
}

/// Where the vector of each label begins.
fn places(data: &File, header: &Header) -> std::io::Result<HashMap<u64, u64>> {
    let mut reader = BufReader::with_capacity(1 << 20, data);
    let mut places = HashMap::new();
    let mut entry = 0u64;
    while entry < header.entries {
        let start = entry * header.entry_bytes;
        let mut label = [0; 8];
        reader.seek_relative(header.label_at as i64)?;
        reader.read_exact(&mut label)?;
        places.insert(u64::from_le_bytes(label), start + header.vector_at);
        entry += 1;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: u64, dim: u64) -> Vec<u8> {
        let (vector_at, label_at) = (132, 132 + 4 * dim);
        let numbers = [0, 100, entries, label_at + 8, label_at, vector_at];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        1u32.to_le_bytes().into_iter().chain(numbers).chain([0; 48]).collect()
    }

    fn entry(vector: &[f32], label: u64) -> Vec<u8> {
        let vector = vector.iter().flat_map(|number| number.to_le_bytes());
        [0; 132].into_iter().chain(vector).chain(label.to_le_bytes()).collect()
    }

    fn write(folder: &Path, id_to_label: &[(&str, u64)]) {
        let labels: std::collections::BTreeMap<_, _> = id_to_label.iter().copied().collect();
        let state = serde_json::json!({"dimensionality": 2, "max_seq_id": 9, "id_to_label": labels});
        let pickle = serde_pickle::to_vec(&state, serde_pickle::SerOptions::new()).unwrap();
        std::fs::write(folder.join("index_metadata.pickle"), pickle).unwrap();
        std::fs::write(folder.join("header.bin"), header(2, 2)).unwrap();
        let data = [entry(&[1.0, 2.0], 5), entry(&[3.0, 4.0], 2)].concat();
        std::fs::write(folder.join("data_level0.bin"), data).unwrap();
    }

    #[test]
    fn a_vector_is_found_by_the_label_of_its_id() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("a", 2), ("b", 5), ("c", 7)]);
        let mut graph = Graph::open(dir.path()).unwrap();
        assert_eq!(graph.max_seq(), Some(9));
        assert_eq!(graph.vector("a"), Ok(Some(vec![3.0, 4.0])));
        assert_eq!(graph.vector("b"), Ok(Some(vec![1.0, 2.0])));
        assert_eq!(graph.vector("c"), Ok(None));
        assert!(graph.has("a") && !graph.has("c"));
    }

    #[test]
    fn files_that_are_cut_or_of_another_form_are_an_error_and_none_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Graph::open(dir.path()).unwrap().places.is_empty());
        write(dir.path(), &[("a", 2)]);
        let data = dir.path().join("data_level0.bin");
        let whole = std::fs::read(&data).unwrap();
        std::fs::write(&data, &whole[..whole.len() - 1]).unwrap();
        assert!(Graph::open(dir.path()).is_err());
        std::fs::write(&data, whole).unwrap();
        let mut other = header(2, 2);
        other[0] = 2;
        std::fs::write(dir.path().join("header.bin"), other).unwrap();
        let told = Graph::open(dir.path()).err().unwrap();
        assert!(told.contains("collection.get"), "{told}");
        std::fs::write(dir.path().join("index_metadata.pickle"), b"\x80").unwrap();
        assert!(Graph::open(dir.path()).is_err());
    }
}
