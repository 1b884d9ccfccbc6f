//! Settings of collections that clients of other engines send: read, checked,
//! kept with the collection and given back. What has no effect here is said in
//! the collection's warnings.

use std::collections::BTreeMap;

use cairn_index::{Codes, CollectionConfig, Compression};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// How graphs are built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct HnswSettings {
    /// Links per point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) m: Option<usize>,
    /// Candidates considered while a point is linked, 4 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ef_construct: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full_scan_threshold: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_indexing_threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_m: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inline_storage: Option<bool>,
}

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Memory {
    Cold,
    Cached,
    Pinned,
}

/// When segments are merged and indexed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct OptimizerSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vacuum_min_vector_number: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_segment_number: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_segment_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memmap_threshold: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexing_threshold: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flush_interval_sec: Option<u64>,
    /// A number or `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    max_optimization_threads: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prevent_unoptimized: Option<bool>,
}

/// How the log is kept, by the names of the API.
#[allow(clippy::struct_field_names)]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct WalSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_capacity_mb: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_segments_ahead: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_retain_closed: Option<usize>,
}

/// How vectors are coded in fewer bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Quantization {
    Scalar(ScalarQuantization),
    Product(ProductQuantization),
    Binary(Map<String, Value>),
    Turbo(Map<String, Value>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScalarQuantization {
    r#type: ScalarType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantile: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always_ram: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProductQuantization {
    compression: Compression,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always_ram: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScalarType {
    Int8,
}

/// A quantization, or none from now on.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "quantization_config is one of scalar, product, binary, turbo, or `Disabled`")]
pub(crate) enum QuantizationChange {
    Set(Quantization),
    Disabled(Disabled),
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum Disabled {
    Disabled,
}

impl Quantization {
    /// The codes that come nearest to it: at least as many bits a value, or for
    /// one bit those that keep one bit of all neighbours.
    pub(crate) fn codes(&self) -> Codes {
        let is = |settings: &Map<String, Value>, key: &str, one_of: &[&str]| {
            settings.get(key).and_then(Value::as_str).is_some_and(|value| one_of.contains(&value))
        };
        match self {
            Self::Scalar(_) => Codes::Int8,
            Self::Product(product) => Codes::Product(product.compression),
            Self::Turbo(settings) if is(settings, "bits", &["bits8"]) => Codes::Int8,
            Self::Turbo(_) => Codes::Compact,
            Self::Binary(_) => Codes::Fast,
        }
    }
}

impl QuantizationChange {
    pub(crate) fn into_option(self) -> Option<Quantization> {
        match self {
            Self::Set(quantization) => Some(quantization),
            Self::Disabled(Disabled::Disabled) => None,
        }
    }
}

/// Limits on what may be asked of a collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct StrictMode {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_query_limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unindexed_filtering_retrieve: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unindexed_filtering_update: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_max_hnsw_ef: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_allow_exact: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_max_oversampling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upsert_max_batchsize: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_max_batchsize: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_collection_vector_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_rate_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) write_rate_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_collection_payload_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_points_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter_max_conditions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condition_max_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) multivector_config: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) sparse_config: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_payload_index_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_resident_memory_percent: Option<u64>,
}

/// Settings of one vector beside its size and distance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VectorSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hnsw_config: Option<HnswSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization_config: Option<Quantization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
}

/// How a sparse vector's inverted index is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct SparseIndexSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    full_scan_threshold: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    datatype: Option<cairn_index::Datatype>,
}

/// Where something of a collection is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
struct MemorySettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

/// How a collection is spread and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct ParamSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shard_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sharding_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replication_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) write_consistency_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_fan_out_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_fan_out_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_disk_payload: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<MemorySettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_tracker: Option<MemorySettings>,
}

/// All that is kept with a collection for its clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) vectors: BTreeMap<String, VectorSettings>,
    pub(crate) sparse_vectors: BTreeMap<String, SparseIndexSettings>,
    pub(crate) params: ParamSettings,
    pub(crate) hnsw: HnswSettings,
    pub(crate) optimizers: OptimizerSettings,
    pub(crate) wal: WalSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization: Option<Quantization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strict_mode: Option<StrictMode>,
}

impl Kept {
    pub(crate) fn of(config: &CollectionConfig) -> Self {
        serde_json::from_value(Value::Object(config.extra.clone())).unwrap_or_default()
    }

    pub(crate) fn into_extra(self) -> Map<String, Value> {
        object(&self)
    }

    /// Refuses what no engine would take.
    pub(crate) fn check(&self) -> ApiResult<()> {
        let ParamSettings { shard_number, replication_factor, write_consistency_factor, .. } = self.params;
        for (field, value) in [
            ("shard_number", shard_number),
            ("replication_factor", replication_factor),
            ("write_consistency_factor", write_consistency_factor),
        ] {
            if value == Some(0) {
                return Err(ApiError::validation(format!("{field}: value 0 invalid, must be 1 or larger")));
            }
        }
        let graphs = self.vectors.values().filter_map(|vector| vector.hnsw_config.as_ref());
        for hnsw in graphs.chain([&self.hnsw]) {
            if let Some(ef @ 0..4) = hnsw.ef_construct {
                let text = format!("hnsw_config.ef_construct: value {ef} invalid, must be 4 or larger");
                return Err(ApiError::validation(text));
            }
        }
        Ok(())
    }

    /// What was asked for and has no effect.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, text: &str| {
            if is_so {
                warnings.push(text.to_owned());
            }
        };
        let ParamSettings { shard_number, sharding_method, replication_factor, .. } = &self.params;
        warn(
            shard_number.is_some_and(|n| n > 1) || sharding_method.is_some(),
            "`shard_number` and `sharding_method` have no effect: a collection is one shard",
        );
        warn(
            replication_factor.is_some_and(|n| n > 1),
            "`replication_factor` has no effect: there is one node",
        );
        warn(
            self.optimizers != OptimizerSettings::default(),
            "`optimizers_config` has no effect: see `[index]` of the server's configuration",
        );
        warn(self.wal != WalSettings::default(), "`wal_config` has no effect: every write is synced");
        let graphs = |is_so: fn(&HnswSettings) -> bool| {
            is_so(&self.hnsw) || self.vectors.values().filter_map(|v| v.hnsw_config.as_ref()).any(is_so)
        };
        warn(
            graphs(|hnsw| hnsw.m == Some(0)),
            "`hnsw_config.m` of 0 has no effect: graphs are built all the same, filters use field indexes",
        );
        warn(
            self.hnsw.m.is_some_and(|m| m == 1 || m > 128)
                || self.hnsw.ef_construct.is_some_and(|ef| ef > 4096),
            "`hnsw_config` is beyond what graphs are built with: `m` is 2 to 128, `ef_construct` up to 4096",
        );
        warn(
            graphs(|hnsw| {
                hnsw.payload_m.is_some()
                    || hnsw.max_indexing_threads.is_some_and(|n| n > 0)
                    || hnsw.full_scan_threshold.is_some()
                    || hnsw.inline_storage.is_some()
            }),
            "of `hnsw_config`, `m` and `ef_construct` have an effect; the rest has none",
        );
        warn(
            self.vectors.values().any(|vector| vector.hnsw_config.is_some()),
            "`hnsw_config` of a single vector has no effect: that of the collection holds",
        );
        let quantized = |kind: fn(&Quantization) -> bool| {
            let vectors = self.vectors.values().filter_map(|vector| vector.quantization_config.as_ref());
            vectors.chain(&self.quantization).any(kind)
        };
        warn(
            quantized(|kind| matches!(kind, Quantization::Binary(_) | Quantization::Turbo(_))),
            "quantization other than `scalar` and `product` is by the nearest codes there are: `turbo` by half a \
             byte a value (`bits8`: a byte), `binary` by a bit a value of all neighbours; the rest of \
             `quantization_config` has no effect",
        );
        let other = |vector: &VectorSettings| {
            let own = vector.quantization_config.as_ref().map(Quantization::codes);
            own.is_some_and(|codes| codes != self.codes())
        };
        warn(
            self.vectors.values().any(other),
            "`quantization_config` of a vector that differs from the collection's or another vector's has no \
             effect: all graphs of a collection have the same codes",
        );
        warnings
    }

    /// What walks over graphs measure: as the collection says, or a vector of it.
    pub(crate) fn codes(&self) -> Codes {
        let own = || self.vectors.values().find_map(|vector| vector.quantization_config.as_ref());
        self.quantization.as_ref().or_else(own).map_or_else(Codes::default, Quantization::codes)
    }
}

/// Settings with those of a change put over them.
pub(crate) fn merged<T: Serialize + DeserializeOwned>(old: &T, change: &T) -> T {
    let mut all = object(old);
    all.extend(object(change));
    serde_json::from_value(Value::Object(all)).expect("both were made from this type")
}

pub(crate) fn object(settings: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
