//! The folder of a static model, in the layout of model2vec: read and written.
//!
//! `config.json` says that it is one and whether vectors are normalized;
//! `model.safetensors` has `embeddings` [rows, dimensions], and may have
//! `weights` [tokens] and `mapping` [tokens], the row of each token. Rows of
//! bytes are numbers as they are: the layout keeps no scale for them, so those
//! who write them put it into the weights or normalize. How the rows are used
//! is not here; see `table`.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::architecture::unsupported;
use super::files::read_optional;
use super::table::{Rows, Table};
use super::weights::FILE;
use crate::{Error, Result};

/// The `model_type` of these models.
pub(super) const MODEL_TYPE: &str = "model2vec";

const ARCHITECTURE: &str = "StaticModel";

/// A static model, but for its tokenizer.
pub(super) struct Static {
    pub(super) table: Table,
    pub(super) normalize: bool,
}

/// Reads a folder; nothing if it holds a model of another kind.
pub(super) fn open(folder: &Path) -> Result<Option<Static>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let config: Option<Map<String, Value>> = read_optional(&folder.join("config.json"))?;
    let Some(config) = config.filter(is_static) else {
        return Ok(None);
    };
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(weights) => read(&config, &weights, &path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::MissingFile { folder: folder.into(), file: FILE.into() })
        }
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Reads files that are in memory; errors call the weights `path`.
pub(super) fn read(config: &Map<String, Value>, weights: &[u8], path: &Path) -> Result<Static> {
    // `hidden_dim` is not looked at: model2vec leaves it when it cuts dimensions.
    let normalize = match config.get("normalize") {
        None | Some(Value::Null) => false,
        Some(&Value::Bool(normalize)) => normalize,
        Some(other) => return Err(unsupported("normalize", other.to_string(), "true, false")),
    };
    Ok(Static { table: table(weights, path)?, normalize })
}

fn is_static(config: &Map<String, Value>) -> bool {
    let named = |value: &Value| value.as_str() == Some(ARCHITECTURE);
    let architectures = config.get("architectures").and_then(Value::as_array);
    config.get("model_type").and_then(Value::as_str) == Some(MODEL_TYPE)
        || architectures.is_some_and(|names| names.iter().any(named))
}

fn table(bytes: &[u8], path: &Path) -> Result<Table> {
    let damaged = |reason: String| Error::Weights { path: path.into(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let Ok(embeddings) = file.tensor("embeddings") else {
        return Err(Error::MissingTensor { path: path.into(), tensor: "embeddings".into() });
    };
    let &[_, dim] = embeddings.shape() else {
        let want = "[rows, dimensions]";
        return Err(damaged(shape("embeddings", &embeddings, want)));
    };
    let rows = rows(&embeddings).map_err(damaged)?;
    let mapping = file.tensor("mapping").ok().map(|view| indices(&view)).transpose().map_err(damaged)?;
    let weights = file.tensor("weights").ok().map(|view| weights(&view)).transpose().map_err(damaged)?;
    Table::new(rows, dim, mapping, weights).map_err(damaged)
}

fn shape(name: &str, view: &TensorView<'_>, want: &str) -> String {
    format!("tensor `{name}` has shape {:?}, it should be {want}", view.shape())
}

fn rows(view: &TensorView<'_>) -> Result<Rows, String> {
    match view.dtype() {
        Dtype::I8 => Ok(Rows::Byte(view.data().iter().map(|&byte| byte.cast_signed()).collect())),
        _ => floats("embeddings", view, "F64, F32, F16, BF16 or I8").map(Rows::Float),
    }
}

fn weights(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if view.shape().len() != 1 {
        return Err(shape("weights", view, "[tokens]"));
    }
    floats("weights", view, "F64, F32, F16 or BF16")
}

fn floats(name: &str, view: &TensorView<'_>, want: &str) -> Result<Vec<f32>, String> {
    let data = view.data();
    match view.dtype() {
        Dtype::F64 => Ok(numbers(data, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F32 => Ok(numbers(data, f32::from_le_bytes)),
        Dtype::F16 => Ok(numbers(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Ok(numbers(data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        other => Err(format!("tensor `{name}` has numbers of type {other}, it should be {want}")),
    }
}

/// The row of each token. A number that is no row becomes one that the table
/// refuses.
fn indices(view: &TensorView<'_>) -> Result<Vec<u32>, String> {
    if view.shape().len() != 1 {
        return Err(shape("mapping", view, "[tokens]"));
    }
    let index = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    match view.dtype() {
        Dtype::I64 => Ok(numbers(view.data(), |bytes| index(i64::from_le_bytes(bytes)))),
        Dtype::I32 => Ok(numbers(view.data(), |bytes| index(i32::from_le_bytes(bytes).into()))),
        Dtype::U32 => Ok(numbers(view.data(), u32::from_le_bytes)),
        other => Err(format!("tensor `mapping` has numbers of type {other}, it should be I64, I32 or U32")),
    }
}

fn numbers<const N: usize, T>(data: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}

/// What is written of a static model made here.
pub(super) struct Made {
    pub(super) dim: usize,
    /// The rows, one byte a value.
    pub(super) embeddings: Vec<i8>,
    /// What makes the rows what they were, times what a token counts.
    pub(super) weights: Vec<f32>,
    pub(super) sif: f64,
    /// `tokenizer.json`.
    pub(super) tokenizer: String,
    /// Texts are lower-cased before the tokenizer sees them.
    pub(super) lower_case: bool,
    /// `README.md`.
    pub(super) readme: String,
    /// The model it was made from.
    pub(super) origin: String,
}

/// Refuses a folder that holds something already.
pub(super) fn check_empty(folder: &Path) -> Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(Error::NotEmpty { path: folder.into() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(folder)(error)),
    }
}

impl Made {
    /// Writes the model into a folder, made if it is not there. `config.json`
    /// comes last: without it there is no model.
    ///
    /// There is no `modules.json`. What reads a static model by that file does
    /// not know of weights and would give other vectors.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let put = |file: &str, bytes: &[u8]| {
            let path = folder.join(file);
            fs::write(&path, bytes).map_err(Error::io(path))
        };
        put("README.md", self.readme.as_bytes())?;
        put("tokenizer.json", self.tokenizer.as_bytes())?;
        if self.lower_case {
            put("sentence_bert_config.json", json!({ "do_lower_case": true }).to_string().as_bytes())?;
        }
        put(FILE, &self.tensors().map_err(|reason| Error::Compute { reason })?)?;
        put("config.json", format!("{:#}\n", self.config()).as_bytes())
    }

    fn tensors(&self) -> Result<Vec<u8>, String> {
        let rows: Vec<u8> = self.embeddings.iter().map(|value| value.cast_unsigned()).collect();
        let weights: Vec<u8> = self.weights.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tokens = self.weights.len();
        let view = |kind, shape, data| TensorView::new(kind, shape, data).map_err(|error| error.to_string());
        let tensors = [
            ("embeddings", view(Dtype::I8, vec![tokens, self.dim], &rows)?),
            ("weights", view(Dtype::F32, vec![tokens], &weights)?),
        ];
        safetensors::serialize(tensors, None).map_err(|error| error.to_string())
    }

    fn config(&self) -> Value {
        json!({
            "model_type": MODEL_TYPE,
            "architectures": [ARCHITECTURE],
            "tokenizer_name": self.origin,
            "apply_pca": self.dim,
            "apply_zipf": true,
            "sif_coefficient": self.sif,
            "hidden_dim": self.dim,
            "seq_length": 1_000_000,
            "normalize": true,
            "embedding_dtype": "int8",
        })
    }
}
