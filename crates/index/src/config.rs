//! What a collection is made of, fixed when it is created, and how a database
//! is opened.

use std::collections::BTreeMap;

use cairn_ann::Metric;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionConfig {
    /// The vectors a point may have, by name; the unnamed one is `""`.
    pub vectors: BTreeMap<String, VectorConfig>,
    /// How graphs are built.
    #[serde(default)]
    pub hnsw: HnswConfig,
    /// Whatever the application wants to keep with the collection.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// The settings of one vector of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorConfig {
    /// Number of dimensions, 1 to [`MAX_DIM`].
    pub size: usize,
    /// How two vectors are compared.
    pub distance: Metric,
}

/// How graphs are built: more links and effort find more and cost more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HnswConfig {
    /// Links per point, 2 to 128; layer 0 has twice as many.
    pub m: usize,
    /// Candidates considered while a point is linked, 4 to 4096.
    pub ef_construct: usize,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self { m: 16, ef_construct: 100 }
    }
}

impl CollectionConfig {
    /// A collection with one unnamed vector per point.
    pub fn new(size: usize, distance: Metric) -> Self {
        Self {
            vectors: BTreeMap::from([(String::new(), VectorConfig { size, distance })]),
            hnsw: HnswConfig::default(),
            metadata: Map::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (name, vector) in &self.vectors {
            if !name.is_empty() {
                check_name("vector", name, 200)?;
            }
            let field =
                if name.is_empty() { "vectors.size".to_owned() } else { format!("vectors.{name}.size") };
            within(field, vector.size, 1, MAX_DIM)?;
        }
        within("hnsw_config.m", self.hnsw.m, 2, 128)?;
        within("hnsw_config.ef_construct", self.hnsw.ef_construct, 4, 4096)
    }

    pub(crate) fn vector(&self, name: &str) -> Result<&VectorConfig> {
        self.vectors.get(name).ok_or_else(|| Error::UnknownVector { name: name.to_owned() })
    }
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

/// How a database behaves, independent of what is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The store of a new directory; one that is there keeps the store it has.
    pub store: StoreKind,
    /// A graph is built once this many points of a vector are not in one yet;
    /// fewer are scanned exactly. Default 10,000.
    pub indexing_threshold: usize,
    /// Filters that match fewer points than this are answered by an exact scan
    /// over the matches. Default 10,000.
    pub full_scan_threshold: usize,
    /// Writes are refused when the disk would have less room than this left.
    /// Bytes, default 64 MiB.
    pub min_free_bytes: u64,
    /// Memory for the pages of the log. Bytes, default 64 MiB.
    pub log_cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: StoreKind::Sled,
            indexing_threshold: 10_000,
            full_scan_threshold: 10_000,
            min_free_bytes: 64 << 20,
            log_cache_bytes: 64 << 20,
        }
    }
}
