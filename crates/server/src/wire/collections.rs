//! Collections as clients create and see them.

use std::collections::BTreeMap;

use cairn_index::{CollectionConfig, HnswConfig, Info, Metric, VectorConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// The body of a request that creates a collection. Settings of other engines
/// that have no meaning here are read and left aside.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateCollection {
    /// Parameters of the unnamed vector, or parameters by vector name.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    vectors: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    sparse_vectors: Option<Map<String, Value>>,
    #[serde(default)]
    hnsw_config: Option<HnswParams>,
    /// Anything the application wants to keep with the collection.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Option<Map<String, Value>>,
}

/// Parameters of one vector.
#[derive(Debug, Deserialize)]
struct VectorParams {
    size: u64,
    distance: Metric,
    #[serde(default)]
    multivector_config: Option<Value>,
    #[serde(default)]
    datatype: Option<String>,
}

/// How graphs are built.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct HnswParams {
    /// Links per point.
    m: Option<usize>,
    /// Candidates considered while a point is linked.
    ef_construct: Option<usize>,
}

impl CreateCollection {
    pub(crate) fn into_config(self) -> ApiResult<CollectionConfig> {
        if self.sparse_vectors.is_some_and(|sparse| !sparse.is_empty()) {
            return Err(ApiError::not_yet("`sparse_vectors`"));
        }
        let params = self.vectors.map(vectors_params).transpose()?.unwrap_or_default();
        let mut vectors = BTreeMap::new();
        for (name, params) in params {
            if params.multivector_config.is_some() {
                return Err(ApiError::not_yet("`multivector_config`"));
            }
            if params.datatype.is_some_and(|datatype| datatype != "float32") {
                return Err(ApiError::not_yet("a `datatype` other than float32"));
            }
            let size = usize::try_from(params.size).unwrap_or(usize::MAX);
            vectors.insert(name, VectorConfig::new(size, params.distance));
        }
        let hnsw = self.hnsw_config.unwrap_or_default();
        let usual = HnswConfig::default();
        Ok(CollectionConfig {
            vectors,
            hnsw: HnswConfig {
                m: hnsw.m.unwrap_or(usual.m),
                ef_construct: hnsw.ef_construct.unwrap_or(usual.ef_construct),
                ..usual
            },
            metadata: self.metadata.unwrap_or_default(),
            ..CollectionConfig::default()
        })
    }
}

/// The parameters of one unnamed vector have a number as `size`; anything else
/// is parameters by name. Each is read by itself, so that a mistake is named.
fn vectors_params(vectors: Value) -> ApiResult<BTreeMap<String, VectorParams>> {
    if vectors.get("size").is_some_and(|size| !size.is_object()) {
        let params = serde_json::from_value(vectors).map_err(|error| ApiError::from_json(&error))?;
        return Ok(BTreeMap::from([(String::new(), params)]));
    }
    serde_json::from_value(vectors).map_err(|error| ApiError::from_json(&error))
}

/// The list of collections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Collections {
    collections: Vec<CollectionName>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectionName {
    name: String,
}

impl From<Vec<String>> for Collections {
    fn from(names: Vec<String>) -> Self {
        Self { collections: names.into_iter().map(|name| CollectionName { name }).collect() }
    }
}

/// Whether a collection is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Exists {
    pub(crate) exists: bool,
}

/// A collection's state and settings, in the shape clients read.
pub(crate) fn info(info: &Info) -> Value {
    let params = |vector: &VectorConfig| json!({ "size": vector.size, "distance": vector.distance });
    let vectors = match info.config.vectors.get("") {
        Some(only) if info.config.vectors.len() == 1 => params(only),
        _ => info.config.vectors.iter().map(|(name, vector)| (name.clone(), params(vector))).collect(),
    };
    let mut config = json!({
        "params": {
            "vectors": vectors,
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": false,
        },
        "hnsw_config": {
            "m": info.config.hnsw.m,
            "ef_construct": info.config.hnsw.ef_construct,
            "full_scan_threshold": 10_000,
            "max_indexing_threads": 0,
            "on_disk": false,
        },
        "optimizer_config": {
            "deleted_threshold": 0.5,
            "vacuum_min_vector_number": 4096,
            "default_segment_number": 1,
            "max_segment_size": null,
            "memmap_threshold": null,
            "indexing_threshold": 10_000,
            "flush_interval_sec": 0,
            "max_optimization_threads": null,
        },
        "wal_config": { "wal_capacity_mb": 8, "wal_segments_ahead": 0, "wal_retain_closed": 1 },
        "quantization_config": null,
    });
    if !info.config.metadata.is_empty() {
        config["metadata"] = Value::Object(info.config.metadata.clone());
    }
    json!({
        "status": if info.indexing { "yellow" } else { "green" },
        "optimizer_status": "ok",
        "indexed_vectors_count": info.indexed_vectors,
        "points_count": info.points,
        "segments_count": 1,
        "config": config,
        "payload_schema": {},
        "update_queue": { "length": 0 },
    })
}
