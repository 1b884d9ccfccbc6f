//! A collection of another server, read over the Qdrant API.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_index::{
    CollectionConfig, Datatype, FieldSchema, Metric, Modifier, Point, SparseConfig, VectorConfig, WrittenId,
    with_labels,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;

use crate::failure::{Failure, Outcome};
use crate::out;

/// Points that are asked for at once.
const PAGE: usize = 256;
/// Bytes an answer may have.
const ANSWER_BYTES: u64 = 1 << 30;
const TIMEOUT: Duration = Duration::from_secs(120);

/// `http://host:6333/collections/NAME`, and the key it asks for.
pub(crate) struct Remote {
    agent: Agent,
    url: String,
    key: Option<String>,
}

/// Points in order of id, and where the next ones begin.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) points: Vec<Point>,
    #[serde(rename = "next_page_offset")]
    pub(crate) next: Option<WrittenId>,
}

impl Remote {
    /// `key_env` names the environment variable that holds the key.
    pub(crate) fn new(url: &str, key_env: Option<&str>) -> Result<Self, Failure> {
        let key = key_env.map(|name| std::env::var(name).map_err(|_| Failure::KeyEnv(name.to_owned())));
        let config = Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.build().new_agent(), url, key: key.transpose()? })
    }

    /// The settings of the collection as far as they mean something here, and
    /// how many points it has.
    pub(crate) fn describe(&self) -> Outcome<(CollectionConfig, usize)> {
        let mut request = self.agent.get(&self.url);
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let info: Info = self.result(request.call())?;
        let points = info.points_count.unwrap_or_default();
        Ok((info.config()?, points))
    }

    pub(crate) fn page(&self, from: Option<&WrittenId>) -> Outcome<Page> {
        let mut request = self.agent.post(format!("{}/points/scroll", self.url));
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let body = json!({ "limit": PAGE, "offset": from, "with_payload": true, "with_vector": true });
        self.result(request.send_json(&body))
    }

    fn result<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Outcome<T> {
        let failed = |reason: String| Failure::Remote { url: self.url.clone(), reason };
        let mut answer = answer.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| failed(error.to_string()))?;
        if !status.is_success() {
            let told = serde_json::from_slice::<Value>(&body).ok();
            let told = told.and_then(|told| told["status"]["error"].as_str().map(str::to_owned));
            return Err(failed(told.map_or(status.to_string(), |told| format!("{status}: {told}"))).into());
        }
        let whole: Whole<T> = with_labels(|| serde_json::from_slice(&body))
            .map_err(|error| failed(format!("its answer is not that of a collection: {error}")))?;
        Ok(whole.result)
    }
}

#[derive(Deserialize)]
struct Whole<T> {
    result: T,
}

#[derive(Deserialize)]
struct Info {
    points_count: Option<usize>,
    config: InfoConfig,
    #[serde(default)]
    payload_schema: BTreeMap<String, Field>,
}

#[derive(Deserialize)]
struct InfoConfig {
    params: Params,
    #[serde(default)]
    string_ids: bool,
}

#[derive(Deserialize)]
struct Params {
    vectors: Option<Vectors>,
    sparse_vectors: Option<BTreeMap<String, Sparse>>,
}

/// The unnamed vector, or vectors by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vectors {
    Unnamed(Dense),
    Named(BTreeMap<String, Dense>),
}

#[derive(Deserialize)]
struct Dense {
    size: usize,
    distance: Metric,
    datatype: Option<Datatype>,
    multivector_config: Option<Value>,
}

#[derive(Deserialize)]
struct Sparse {
    modifier: Option<Modifier>,
}

#[derive(Deserialize)]
struct Field {
    data_type: Value,
    params: Option<Value>,
}

impl Info {
    fn config(self) -> Outcome<CollectionConfig> {
        let InfoConfig { params, string_ids } = self.config;
        let mut config = CollectionConfig { string_ids, ..CollectionConfig::default() };
        let dense = match params.vectors {
            Some(Vectors::Unnamed(dense)) => BTreeMap::from([(String::new(), dense)]),
            Some(Vectors::Named(named)) => named,
            None => BTreeMap::new(),
        };
        for (name, dense) in dense {
            config.vectors.insert(name, dense.into());
        }
        for (name, sparse) in params.sparse_vectors.unwrap_or_default() {
            let modifier = sparse.modifier.unwrap_or_default();
            config.sparse_vectors.insert(name, SparseConfig { modifier });
        }
        for (path, field) in self.payload_schema {
            let schema = serde_json::from_value::<FieldSchema>(field.params.unwrap_or(field.data_type));
            match schema {
                Ok(schema) => config = config.with_index(&path, schema)?,
                Err(error) => out::note(format!("the field `{path}` gets no index: {error}")),
            }
        }
        Ok(config)
    }
}

impl From<Dense> for VectorConfig {
    fn from(dense: Dense) -> Self {
        Self {
            datatype: dense.datatype.unwrap_or_default(),
            multivector: dense.multivector_config.is_some_and(|config| !config.is_null()),
            ..Self::new(dense.size, dense.distance)
        }
    }
}
