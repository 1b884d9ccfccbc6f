//! What a collection is made of, fixed when it is created, and how a database
//! is opened.

use std::collections::BTreeMap;

use cairn_ann::{Compression, Metric};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::elements::Elements;
use crate::error::{Error, Result};
use crate::path::Path;
use crate::point::check_object_depth;
use crate::schema::{FieldSchema, Schema};

/// Largest number of dimensions of a vector.
pub const MAX_DIM: usize = 65_536;

/// The settings of a collection.
///
/// ```
/// use cairn_index::{CollectionConfig, Metric};
///
/// let config = CollectionConfig::new(384, Metric::Cosine);
/// assert_eq!(config.vectors[""].size, 384);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionConfig {
    /// The dense vectors a point may have, by name; the unnamed one is `""`.
    pub vectors: BTreeMap<String, VectorConfig>,
    /// The sparse vectors a point may have, by name.
    #[serde(default)]
    pub sparse_vectors: BTreeMap<String, SparseConfig>,
    /// How graphs are built.
    #[serde(default)]
    pub hnsw: HnswConfig,
    /// The payload fields that have an index, by path.
    #[serde(default)]
    pub payload_indexes: Schema,
    /// Whether ids may be any string. Once they may, that stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub string_ids: bool,
    /// Whatever the application wants to keep with the collection.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Settings that nothing here reads, kept for the face that gives them
    /// back to its clients.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// The settings of a dense vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorConfig {
    /// Number of dimensions, 1 to [`MAX_DIM`].
    pub size: usize,
    /// How two vectors are compared.
    pub distance: Metric,
    /// How the numbers are stored.
    #[serde(default)]
    pub datatype: Datatype,
    /// Whether a point has several of these, compared by MaxSim.
    #[serde(default)]
    pub multivector: bool,
}

impl VectorConfig {
    /// One vector of 32-bit floats per point.
    pub fn new(size: usize, distance: Metric) -> Self {
        Self { size, distance, datatype: Datatype::Float32, multivector: false }
    }
}

/// How the numbers of a dense vector are stored: fewer bytes, less memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datatype {
    /// 4 bytes each, as given.
    #[default]
    Float32,
    /// 2 bytes each, about three decimal digits, up to 65,504.
    Float16,
    /// 1 byte each: whole numbers from 0 to 255.
    Uint8,
}

impl Datatype {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
            Self::Uint8 => 1,
        }
    }
}

/// The settings of a sparse vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseConfig {
    /// What queries are multiplied with.
    #[serde(default)]
    pub modifier: Modifier,
}

/// What the values of a sparse query are multiplied with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modifier {
    /// Nothing.
    #[default]
    None,
    /// The inverse document frequency `ln((n - df + 0.5) / (df + 0.5) + 1)` of
    /// each position: with term frequencies as values, BM25.
    Idf,
}

/// How graphs are built: more links and effort find more and cost more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HnswConfig {
    /// Links per point, 2 to 128; layer 0 has twice as many.
    pub m: usize,
    /// Candidates considered while a point is linked, 4 to 4096.
    pub ef_construct: usize,
    /// What builds the graphs.
    #[serde(default)]
    pub builder: Builder,
    /// What walks over them measure.
    #[serde(default)]
    pub codes: Codes,
}

/// What walks over a graph measure in place of the vectors, which decide on the
/// best that were found.
///
/// By Manhattan distance it is always [`Codes::Int8`], and vectors of fewer
/// than 16 values have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codes {
    /// A byte a value.
    #[default]
    Int8,
    /// Half a byte a value: half the memory, and on embeddings of a few hundred
    /// values faster at the same recall. Crowds of nearly equal vectors want a
    /// larger `ef`.
    Compact,
    /// A byte a value, and beside each vector a bit a value of all its neighbours:
    /// the fastest, and six bytes a value.
    Fast,
    /// Product quantisation: a byte for 1 to 16 values, 4 to 64 times fewer bytes
    /// than `f32` and the slower the fewer. From 16 times on the vectors of the whole
    /// beam decide.
    Product(Compression),
}

impl Codes {
    /// Whether comparing all codes finds next to all true neighbours.
    pub(crate) fn tell_all_apart(self) -> bool {
        matches!(self, Self::Int8 | Self::Fast | Self::Product(Compression::X4))
    }
}

impl From<Codes> for cairn_ann::Codes {
    fn from(codes: Codes) -> Self {
        match codes {
            Codes::Int8 => Self::Int8,
            Codes::Compact => Self::Compact,
            Codes::Fast => Self::Fast,
            Codes::Product(compression) => Self::Product(compression),
        }
    }
}

/// What builds the graphs of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// [`cairn_ann::NativeBuilder`], several times as fast.
    #[default]
    Native,
    /// [`cairn_ann::HnswRsBuilder`], to compare with.
    HnswRs,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self { m: 16, ef_construct: 100, builder: Builder::Native, codes: Codes::Int8 }
    }
}

/// A change of a collection's settings while it is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ConfigChange {
    /// Points may have one more dense vector.
    AddVector(String, VectorConfig),
    /// Points may have one more sparse vector.
    AddSparse(String, SparseConfig),
    /// A vector goes away, from every point.
    DropVector(String),
    /// A payload field gets an index, or another one.
    CreateIndex(Path, FieldSchema),
    /// A payload field's index goes away.
    DropIndex(Path),
    /// Ids may be any string from now on.
    StringIds,
    /// Graphs are built like this from now on.
    Hnsw(HnswConfig),
    /// What the application keeps with the collection is replaced.
    Metadata(Map<String, Value>),
    /// The settings kept for a face are replaced.
    Extra(Map<String, Value>),
}

impl CollectionConfig {
    /// A collection with one unnamed vector per point.
    pub fn new(size: usize, distance: Metric) -> Self {
        Self {
            vectors: BTreeMap::from([(String::new(), VectorConfig::new(size, distance))]),
            ..Self::default()
        }
    }

    /// The same with one more dense vector.
    #[must_use]
    pub fn with_vector(mut self, name: &str, config: VectorConfig) -> Self {
        self.vectors.insert(name.to_owned(), config);
        self
    }

    /// The same with one more sparse vector.
    #[must_use]
    pub fn with_sparse(mut self, name: &str, modifier: Modifier) -> Self {
        self.sparse_vectors.insert(name.to_owned(), SparseConfig { modifier });
        self
    }

    /// The same, taking any string as an id.
    #[must_use]
    pub fn with_string_ids(mut self) -> Self {
        self.string_ids = true;
        self
    }

    /// The same with an index on a payload field.
    ///
    /// # Errors
    /// [`Error::Filter`] when `path` is not a payload path.
    pub fn with_index(mut self, path: &str, schema: FieldSchema) -> Result<Self> {
        let path: Path = path.parse()?;
        self.payload_indexes.insert(path.as_str().to_owned(), schema);
        Ok(self)
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (name, vector) in &self.vectors {
            check_vector(name, vector)?;
            if self.sparse_vectors.contains_key(name) {
                return Err(Error::Request(format!(
                    "Dense and sparse vector names must be unique - duplicate found with '{name}'"
                )));
            }
        }
        for name in self.sparse_vectors.keys() {
            check_name("vector", name, MAX_VECTOR_NAME)?;
        }
        for (path, schema) in &self.payload_indexes {
            check_index(path, schema)?;
        }
        check_object_depth("metadata", &self.metadata, 0)?;
        check_object_depth("settings", &self.extra, 0)?;
        check_hnsw(&self.hnsw)
    }

    /// Checks a change against the settings as they are.
    pub(crate) fn check_change(&self, change: &ConfigChange) -> Result<()> {
        let free = |name: &String| {
            if self.vectors.contains_key(name) || self.sparse_vectors.contains_key(name) {
                return Err(Error::Request(format!("vector `{name}` already exists")));
            }
            Ok(())
        };
        match change {
            ConfigChange::AddVector(name, vector) => {
                check_vector(name, vector)?;
                free(name)
            }
            ConfigChange::AddSparse(name, _) => {
                check_name("vector", name, MAX_VECTOR_NAME)?;
                free(name)
            }
            ConfigChange::DropVector(name) => match free(name) {
                Ok(()) => Err(Error::UnknownVector { name: name.clone() }),
                Err(_) => Ok(()),
            },
            ConfigChange::CreateIndex(path, schema) => check_index(path.as_str(), schema),
            ConfigChange::Hnsw(hnsw) => check_hnsw(hnsw),
            ConfigChange::Metadata(metadata) => check_object_depth("metadata", metadata, 0),
            ConfigChange::Extra(extra) => check_object_depth("settings", extra, 0),
            ConfigChange::DropIndex(_) | ConfigChange::StringIds => Ok(()),
        }
    }

    /// The settings after a change.
    pub(crate) fn changed(&self, change: &ConfigChange) -> Self {
        let mut config = self.clone();
        match change.clone() {
            ConfigChange::AddVector(name, vector) => drop(config.vectors.insert(name, vector)),
            ConfigChange::AddSparse(name, sparse) => drop(config.sparse_vectors.insert(name, sparse)),
            ConfigChange::DropVector(name) => {
                config.vectors.remove(&name);
                config.sparse_vectors.remove(&name);
            }
            ConfigChange::CreateIndex(path, schema) => {
                config.payload_indexes.insert(path.as_str().to_owned(), schema);
            }
            ConfigChange::DropIndex(path) => drop(config.payload_indexes.remove(path.as_str())),
            ConfigChange::StringIds => config.string_ids = true,
            ConfigChange::Hnsw(hnsw) => config.hnsw = hnsw,
            ConfigChange::Metadata(metadata) => config.metadata = metadata,
            ConfigChange::Extra(extra) => config.extra = extra,
        }
        config
    }

    pub(crate) fn vector(&self, name: &str) -> Result<&VectorConfig> {
        self.vectors.get(name).ok_or_else(|| Error::UnknownVector { name: name.to_owned() })
    }
}

const MAX_VECTOR_NAME: usize = 200;

fn check_vector(name: &str, vector: &VectorConfig) -> Result<()> {
    if !name.is_empty() {
        check_name("vector", name, MAX_VECTOR_NAME)?;
    }
    let field = if name.is_empty() { "vectors.size".to_owned() } else { format!("vectors.{name}.size") };
    within(field, vector.size, 1, MAX_DIM)
}

fn check_hnsw(hnsw: &HnswConfig) -> Result<()> {
    within("hnsw_config.m", hnsw.m, 2, 128)?;
    within("hnsw_config.ef_construct", hnsw.ef_construct, 4, 4096)
}

fn check_index(path: &str, schema: &FieldSchema) -> Result<()> {
    let path = path.parse::<Path>()?;
    if let Some(nested) = &schema.common.nested
        && Elements::of(schema, &path).is_none()
    {
        let text = format!(
            "nested: the field `{path}` is not in the elements of `{nested}`, as `{nested}[].key` would be"
        );
        return Err(Error::Request(text));
    }
    schema.check()
}

fn within(field: impl Into<String>, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let field = field.into();
    Err(Error::Setting { field, value: value as u64, min: min as u64, max: max as u64 })
}

/// Names end up in paths and addresses, so some characters are not for them.
pub(crate) fn check_name(what: &'static str, name: &str, max_bytes: usize) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it means a folder"
    } else if name.len() > max_bytes {
        "it is too long"
    } else if name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*', '\0', '\u{1f}']) {
        "it contains one of < > : \" / \\ | ? * or a control character"
    } else {
        return Ok(());
    };
    Err(Error::Name { what, name: name.to_owned(), reason })
}

/// Which key-value store holds the logs and the catalogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Log-structured; its file grows with overwriting and never shrinks.
    #[default]
    Sled,
    /// Copy-on-write B-trees; reuses its space.
    Redb,
}

/// What an acknowledged write has survived when it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk: it survives a power cut.
    #[default]
    Power,
    /// The operating system has it: it survives `kill -9` of the process, but
    /// a power cut or a crash of the system can take the last half second.
    /// redb knows no such middle way and treats it as `Power`.
    Process,
}

/// How a database behaves, independent of what is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The store of a new directory; one that is there keeps the store it has.
    pub store: StoreKind,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Points collected in memory, and scanned exactly, before they are sealed
    /// into a segment file. Default 50,000.
    pub seal_points: usize,
    /// Bytes of vectors and payloads collected in memory before they are
    /// sealed, whichever comes first. Default 128 MiB.
    pub seal_bytes: usize,
    /// Segments are merged up to this many points. Default 1,000,000.
    pub max_segment_points: usize,
    /// A segment of at least this many points gets a graph; smaller ones are
    /// scanned exactly. Default 2,000.
    pub indexing_threshold: usize,
    /// Filters that match fewer points of a segment than this are always
    /// answered by a scan of the matches; above, by whatever is expected to be
    /// faster. Default 1,000.
    pub full_scan_threshold: usize,
    /// Threads that merge and build graphs in the background, at low priority; 0
    /// for one per two cores. Default 0.
    pub background_threads: usize,
    /// Writes are refused when the disk would have less room than this left.
    /// Bytes, default 64 MiB.
    pub min_free_bytes: u64,
    /// Memory for the pages of the log. Bytes, default 64 MiB.
    pub log_cache_bytes: u64,
}

impl Options {
    /// Threads that merge and build in the background.
    pub(crate) fn background_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.background_threads == 0 { (cores() / 2).max(1) } else { self.background_threads }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: StoreKind::Sled,
            durability: Durability::Power,
            seal_points: 50_000,
            seal_bytes: 128 << 20,
            max_segment_points: 1_000_000,
            indexing_threshold: 2_000,
            full_scan_threshold: 1_000,
            background_threads: 0,
            min_free_bytes: 64 << 20,
            log_cache_bytes: 64 << 20,
        }
    }
}
