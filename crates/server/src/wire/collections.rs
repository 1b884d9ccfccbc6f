//! Collections as clients create, change and see them.

use std::collections::BTreeMap;

use cairn_index::{
    CollectionConfig, ConfigChange, Datatype, HnswConfig, Info, Metric, Modifier, SparseConfig, VectorConfig,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::wire::settings::{
    HnswSettings, Kept, Memory, OptimizerSettings, ParamSettings, Quantization, QuantizationChange,
    SparseIndexSettings, StrictMode, VectorSettings, WalSettings, merged, object,
};

/// The body of a request that creates a collection.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateCollection {
    /// Parameters of the unnamed vector, or parameters by vector name.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    vectors: Option<VectorsParams>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    sparse_vectors: Option<BTreeMap<String, SparseParams>>,
    #[serde(default)]
    hnsw_config: Option<HnswSettings>,
    #[serde(default)]
    optimizers_config: Option<OptimizerSettings>,
    #[serde(default)]
    wal_config: Option<WalSettings>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    quantization_config: Option<Quantization>,
    #[serde(default)]
    strict_mode_config: Option<StrictMode>,
    /// Whether any string may be an id.
    #[serde(default)]
    string_ids: Option<bool>,
    /// Anything the application wants to keep with the collection.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    params: ParamSettings,
}

/// The body of a request that changes a collection.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdateCollection {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    vectors: Option<BTreeMap<String, VectorChange>>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    sparse_vectors: Option<BTreeMap<String, SparseParams>>,
    #[serde(default)]
    params: Option<ParamSettings>,
    #[serde(default)]
    hnsw_config: Option<HnswSettings>,
    #[serde(default)]
    optimizers_config: Option<OptimizerSettings>,
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    quantization_config: Option<QuantizationChange>,
    #[serde(default)]
    strict_mode_config: Option<StrictMode>,
    /// True: any string may be an id from now on.
    #[serde(default)]
    string_ids: Option<bool>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A new vector of a collection that is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NewVector {
    #[schema(value_type = Object)]
    Dense(VectorParams),
    #[schema(value_type = Object)]
    Sparse(SparseParams),
}

/// Parameters of one vector.
#[derive(Debug, Deserialize)]
pub(crate) struct VectorParams {
    size: u64,
    distance: Metric,
    #[serde(default)]
    multivector_config: Option<MultivectorParams>,
    #[serde(default)]
    datatype: Option<Datatype>,
    #[serde(default)]
    hnsw_config: Option<HnswSettings>,
    #[serde(default)]
    quantization_config: Option<Quantization>,
    #[serde(default)]
    on_disk: Option<bool>,
    #[serde(default)]
    memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct MultivectorParams {
    #[serde(rename = "comparator")]
    _comparator: Comparator,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Comparator {
    MaxSim,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct SparseParams {
    #[serde(default)]
    index: Option<SparseIndexSettings>,
    #[serde(default)]
    modifier: Option<Modifier>,
}

#[derive(Debug, Deserialize)]
struct VectorChange {
    #[serde(default)]
    hnsw_config: Option<HnswSettings>,
    #[serde(default)]
    quantization_config: Option<QuantizationChange>,
    #[serde(default)]
    on_disk: Option<bool>,
    #[serde(default)]
    memory: Option<Memory>,
}

/// The parameters of one unnamed vector have a number as `size`; anything else
/// is parameters by name.
#[derive(Debug)]
struct VectorsParams(BTreeMap<String, VectorParams>);

impl<'de> Deserialize<'de> for VectorsParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let vectors = Value::deserialize(deserializer)?;
        if vectors.get("size").is_some_and(|size| !size.is_object()) {
            let params = serde_json::from_value(vectors).map_err(de::Error::custom)?;
            return Ok(Self(BTreeMap::from([(String::new(), params)])));
        }
        serde_json::from_value(vectors).map(Self).map_err(de::Error::custom)
    }
}

impl VectorParams {
    fn split(self) -> (VectorConfig, VectorSettings) {
        let mut config = VectorConfig::new(usize::try_from(self.size).unwrap_or(usize::MAX), self.distance);
        config.datatype = self.datatype.unwrap_or_default();
        config.multivector = self.multivector_config.is_some();
        let kept = VectorSettings {
            hnsw_config: self.hnsw_config,
            quantization_config: self.quantization_config,
            on_disk: self.on_disk,
            memory: self.memory,
        };
        (config, kept)
    }
}

impl SparseParams {
    fn split(self) -> (SparseConfig, SparseIndexSettings) {
        (SparseConfig { modifier: self.modifier.unwrap_or_default() }, self.index.unwrap_or_default())
    }
}

/// How graphs are really built for settings that may ask for anything.
fn graphs(kept: &Kept) -> HnswConfig {
    let (usual, settings) = (HnswConfig::default(), &kept.hnsw);
    HnswConfig {
        codes: kept.codes(),
        m: settings.m.filter(|m| *m > 0).map_or(usual.m, |m| m.clamp(2, 128)),
        ef_construct: settings.ef_construct.map_or(usual.ef_construct, |ef| ef.clamp(4, 4096)),
        ..usual
    }
}

impl CreateCollection {
    /// `string_ids` is what holds where the body does not say.
    pub(crate) fn into_config(self, string_ids: bool) -> ApiResult<CollectionConfig> {
        let string_ids = self.string_ids.unwrap_or(string_ids);
        let mut config = CollectionConfig { string_ids, ..CollectionConfig::default() };
        let mut kept = Kept {
            params: self.params,
            hnsw: self.hnsw_config.unwrap_or_default(),
            optimizers: self.optimizers_config.unwrap_or_default(),
            wal: self.wal_config.unwrap_or_default(),
            quantization: self.quantization_config,
            strict_mode: self.strict_mode_config,
            ..Kept::default()
        };
        for (name, params) in self.vectors.map(|VectorsParams(vectors)| vectors).unwrap_or_default() {
            let (vector, settings) = params.split();
            config.vectors.insert(name.clone(), vector);
            kept.vectors.insert(name, settings);
        }
        for (name, params) in self.sparse_vectors.unwrap_or_default() {
            let (sparse, settings) = params.split();
            config.sparse_vectors.insert(name.clone(), sparse);
            kept.sparse_vectors.insert(name, settings);
        }
        kept.check()?;
        config.hnsw = graphs(&kept);
        config.metadata = self.metadata.unwrap_or_default();
        config.extra = kept.into_extra();
        Ok(config)
    }
}

impl UpdateCollection {
    /// The changes that make of a collection's settings what is asked for.
    pub(crate) fn into_changes(self, config: &CollectionConfig) -> ApiResult<Vec<ConfigChange>> {
        let before = Kept::of(config);
        let mut kept = before.clone();
        for (name, change) in self.vectors.unwrap_or_default() {
            known(config.vectors.contains_key(&name), &name)?;
            change.apply(kept.vectors.entry(name).or_default());
        }
        for (name, params) in self.sparse_vectors.unwrap_or_default() {
            known(config.sparse_vectors.contains_key(&name), &name)?;
            if let Some(index) = params.index {
                let old = kept.sparse_vectors.entry(name).or_default();
                *old = merged(old, &index);
            }
        }
        if let Some(params) = self.params {
            kept.params = merged(&kept.params, &params);
        }
        if let Some(hnsw) = self.hnsw_config {
            kept.hnsw = merged(&kept.hnsw, &hnsw);
        }
        if let Some(optimizers) = self.optimizers_config {
            kept.optimizers = merged(&kept.optimizers, &optimizers);
        }
        if let Some(quantization) = self.quantization_config {
            kept.quantization = quantization.into_option();
        }
        if let Some(strict) = self.strict_mode_config {
            kept.strict_mode = Some(merged(&kept.strict_mode.unwrap_or_default(), &strict));
        }
        kept.check()?;

        let mut changes = Vec::new();
        match (self.string_ids, config.string_ids) {
            (Some(true), false) => changes.push(ConfigChange::StringIds),
            (Some(false), true) => {
                let text = "string_ids cannot be taken back: make a collection without and move the points";
                return Err(ApiError::bad_request(text));
            }
            _ => {}
        }
        let codes = if kept.codes() == before.codes() { config.hnsw.codes } else { kept.codes() };
        if kept.hnsw != before.hnsw || codes != config.hnsw.codes {
            let HnswConfig { builder, .. } = config.hnsw;
            changes.push(ConfigChange::Hnsw(HnswConfig { builder, codes, ..graphs(&kept) }));
        }
        if kept != before {
            changes.push(ConfigChange::Extra(kept.into_extra()));
        }
        if let Some(metadata) = self.metadata {
            let mut all = config.metadata.clone();
            for (key, value) in metadata {
                match value {
                    Value::Null => drop(all.shift_remove(&key)),
                    value => drop(all.insert(key, value)),
                }
            }
            changes.push(ConfigChange::Metadata(all));
        }
        Ok(changes)
    }
}

impl VectorChange {
    fn apply(self, kept: &mut VectorSettings) {
        if let Some(hnsw) = self.hnsw_config {
            kept.hnsw_config = Some(merged(&kept.hnsw_config.take().unwrap_or_default(), &hnsw));
        }
        if let Some(quantization) = self.quantization_config {
            kept.quantization_config = quantization.into_option();
        }
        kept.on_disk = self.on_disk.or(kept.on_disk);
        kept.memory = self.memory.or(kept.memory);
    }
}

fn known(is_known: bool, name: &str) -> ApiResult<()> {
    if is_known { Ok(()) } else { Err(cairn_index::Error::UnknownVector { name: name.to_owned() }.into()) }
}

impl NewVector {
    /// The changes that add it.
    pub(crate) fn into_changes(self, name: &str, config: &CollectionConfig) -> Vec<ConfigChange> {
        let mut kept = Kept::of(config);
        let added = match self {
            Self::Dense(params) => {
                let (vector, settings) = params.split();
                kept.vectors.insert(name.to_owned(), settings);
                ConfigChange::AddVector(name.to_owned(), vector)
            }
            Self::Sparse(params) => {
                let (sparse, settings) = params.split();
                kept.sparse_vectors.insert(name.to_owned(), settings);
                ConfigChange::AddSparse(name.to_owned(), sparse)
            }
        };
        vec![added, ConfigChange::Extra(kept.into_extra())]
    }
}

/// The list of collections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Collections {
    pub(crate) collections: Vec<CollectionName>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectionName {
    pub(crate) name: String,
}

/// Whether a collection is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Exists {
    pub(crate) exists: bool,
}

/// A collection's state and settings, in the shape clients read; `indexed` has
/// for each indexed field the points that have a value there.
pub(crate) fn info(info: &Info, indexed: &BTreeMap<String, usize>) -> Value {
    let kept = Kept::of(&info.config);
    let mut result = json!({
        "status": if info.indexing { "yellow" } else { "green" },
        "optimizer_status": "ok",
        "indexed_vectors_count": info.indexed_vectors,
        "points_count": info.points,
        "segments_count": (info.segments + usize::from(info.unsealed > 0)).max(1),
        "config": config(&info.config, &kept),
        "payload_schema": payload_schema(&info.config, indexed),
        "update_queue": { "length": 0 },
    });
    let warnings = kept.warnings();
    if !warnings.is_empty() {
        result["warnings"] = warnings.into_iter().map(|message| json!({ "message": message })).collect();
    }
    result
}

fn config(config: &CollectionConfig, kept: &Kept) -> Value {
    let mut hnsw = json!({
        "m": config.hnsw.m,
        "ef_construct": config.hnsw.ef_construct,
        "full_scan_threshold": 10_000,
        "max_indexing_threads": 0,
        "on_disk": false,
    });
    overlay(&mut hnsw, &kept.hnsw);
    let mut optimizers = json!({
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "max_segment_size": null,
        "memmap_threshold": null,
        "indexing_threshold": 10_000,
        "flush_interval_sec": 5,
        "max_optimization_threads": null,
    });
    overlay(&mut optimizers, &kept.optimizers);
    // `auto` is what null means.
    if optimizers["max_optimization_threads"].is_string() {
        optimizers["max_optimization_threads"] = Value::Null;
    }
    let mut wal = json!({ "wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1 });
    overlay(&mut wal, &kept.wal);
    let mut result = json!({
        "params": params(config, kept),
        "hnsw_config": hnsw,
        "optimizer_config": optimizers,
        "wal_config": wal,
        "quantization_config": kept.quantization,
    });
    if let Some(strict) = &kept.strict_mode {
        result["strict_mode_config"] = Value::Object(object(strict));
    }
    if config.string_ids {
        result["string_ids"] = Value::Bool(true);
    }
    if !config.metadata.is_empty() {
        result["metadata"] = Value::Object(config.metadata.clone());
    }
    result
}

fn params(config: &CollectionConfig, kept: &Kept) -> Value {
    let vector = |name: &String, vector: &VectorConfig| {
        let mut params = json!({ "size": vector.size, "distance": vector.distance });
        if vector.datatype != Datatype::Float32 {
            params["datatype"] = json!(vector.datatype);
        }
        if vector.multivector {
            params["multivector_config"] = json!({ "comparator": "max_sim" });
        }
        if let Some(settings) = kept.vectors.get(name) {
            overlay(&mut params, settings);
        }
        params
    };
    let mut params = json!({
        "vectors": match config.vectors.get_key_value("") {
            Some((name, only)) if config.vectors.len() == 1 => vector(name, only),
            _ => config.vectors.iter().map(|(name, each)| (name.clone(), vector(name, each))).collect(),
        },
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": true,
    });
    overlay(&mut params, &kept.params);
    if !config.sparse_vectors.is_empty() {
        let sparse = config.sparse_vectors.iter().map(|(name, sparse)| {
            let mut params = Map::new();
            let index = kept.sparse_vectors.get(name).map(object).unwrap_or_default();
            if !index.is_empty() {
                params.insert("index".to_owned(), Value::Object(index));
            }
            if sparse.modifier != Modifier::None {
                params.insert("modifier".to_owned(), json!(sparse.modifier));
            }
            (name.clone(), Value::Object(params))
        });
        params["sparse_vectors"] = sparse.collect();
    }
    params
}

fn payload_schema(config: &CollectionConfig, indexed: &BTreeMap<String, usize>) -> Value {
    let fields = config.payload_indexes.iter().map(|(path, schema)| {
        let points = indexed.get(path).copied().unwrap_or(0);
        let mut field = json!({ "data_type": schema.kind().name(), "points": points });
        if let params @ Value::Object(_) = Value::from(schema.clone()) {
            field["params"] = params;
        }
        (path.clone(), field)
    });
    fields.collect()
}

fn overlay(value: &mut Value, settings: &impl Serialize) {
    if let Value::Object(fields) = value {
        fields.extend(object(settings));
    }
}
