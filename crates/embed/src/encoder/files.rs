//! What a model folder says about itself: modules, pooling, limits, prompts.
//!
//! The files are those of sentence-transformers. A folder without
//! `modules.json` is a plain transformer; it gets what sentence-transformers
//! gives one: the mean of all tokens, not normalized.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::heads::{HeadFiles, splade};
use super::pooling::{Pool, Pooling};
use crate::{Error, Result};

/// A model folder, read but for its tokenizer and weights.
pub(super) struct Folder {
    /// Where the transformer's own files are: the folder or one inside it.
    pub(super) transformer: PathBuf,
    pub(super) pooling: Pooling,
    /// What the model makes of a text.
    pub(super) heads: HeadFiles,
    /// The limit of `sentence_bert_config.json`, special tokens included.
    pub(super) max_seq_length: Option<usize>,
    /// The limit of `tokenizer_config.json`.
    pub(super) model_max_length: Option<usize>,
    /// Whether `tokenizer_config.json` lets the model see token types.
    pub(super) token_types: bool,
    /// Texts are lower-cased before the tokenizer sees them.
    pub(super) lower_case: bool,
    pub(super) query_prompt: String,
    pub(super) passage_prompt: String,
    /// Whether the folder says which prompts there are, perhaps none.
    says_prompts: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    // Often 1e30, "no limit".
    model_max_length: Option<f64>,
    model_input_names: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Prompts {
    prompts: Option<HashMap<String, String>>,
    default_prompt_name: Option<String>,
}

// Older models call the file after their architecture.
const SENTENCE_CONFIGS: [&str; 6] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

impl Folder {
    /// The folder of a sentence encoder.
    pub(super) fn read(root: &Path) -> Result<Folder> {
        check_folder(root)?;
        let (transformer, pooling, heads) = modules(root)?;
        Ok(Folder { heads, ..Folder::of(root, transformer, pooling)? })
    }

    /// The folder of a model whose head is in its weights: what its modules are
    /// does not matter.
    pub(super) fn read_classifier(root: &Path) -> Result<Folder> {
        check_folder(root)?;
        Folder::of(root, root.to_path_buf(), Pooling { pools: vec![Pool::Cls], normalize: false })
    }

    /// The folder of a static model: its modules say what its configuration does.
    pub(super) fn read_static(root: &Path, normalize: bool) -> Result<Folder> {
        Folder::of(root, root.to_path_buf(), Pooling { pools: vec![Pool::Mean], normalize })
    }

    /// No folder at all, for a static model in memory.
    pub(super) fn none(normalize: bool) -> Folder {
        Folder {
            transformer: PathBuf::new(),
            pooling: Pooling { pools: vec![Pool::Mean], normalize },
            max_seq_length: None,
            model_max_length: None,
            token_types: false,
            lower_case: false,
            query_prompt: String::new(),
            passage_prompt: String::new(),
            heads: HeadFiles::dense(),
            says_prompts: false,
        }
    }

    fn of(root: &Path, transformer: PathBuf, pooling: Pooling) -> Result<Folder> {
        let mut sentence = SentenceConfig::default();
        for name in SENTENCE_CONFIGS {
            if let Some(found) = read_optional(&transformer.join(name))? {
                sentence = found;
                break;
            }
        }
        let tokenizer: TokenizerConfig =
            read_optional(&transformer.join("tokenizer_config.json"))?.unwrap_or_default();
        let prompts: Prompts =
            read_optional(&root.join("config_sentence_transformers.json"))?.unwrap_or_default();
        Ok(Folder {
            transformer,
            pooling,
            heads: HeadFiles::dense(),
            max_seq_length: sentence.max_seq_length,
            model_max_length: tokenizer
                .model_max_length
                .filter(|&limit| (1.0..1e9).contains(&limit))
                .map(|limit| limit as usize),
            token_types: tokenizer
                .model_input_names
                .is_none_or(|names| names.iter().any(|name| name == "token_type_ids")),
            lower_case: sentence.do_lower_case,
            query_prompt: prompts.first(&["query"]),
            passage_prompt: prompts.first(&["passage", "document", "corpus"]),
            says_prompts: prompts.prompts.is_some(),
        })
    }

    /// The same with other prompts, for queries and passages, if the folder says
    /// nothing of any.
    pub(super) fn or_prompts(mut self, prompts: Option<[&str; 2]>) -> Folder {
        if let (false, Some([query, passage])) = (self.says_prompts, prompts) {
            (self.query_prompt, self.passage_prompt) = (query.into(), passage.into());
        }
        self
    }
}

impl Prompts {
    fn first(&self, names: &[&str]) -> String {
        let Some(prompts) = &self.prompts else {
            return String::new();
        };
        names
            .iter()
            .copied()
            .chain(self.default_prompt_name.as_deref())
            .find_map(|name| prompts.get(name))
            .cloned()
            .unwrap_or_default()
    }
}

/// Reads a JSON file that must be there.
pub(super) fn read_required<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T> {
    read_optional(&folder.join(file))?
        .ok_or_else(|| Error::MissingFile { folder: folder.into(), file: file.into() })
}

/// Reads a JSON file; nothing if there is none.
pub(super) fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let value = serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.into(), source })?;
    Ok(Some(value))
}

fn check_folder(root: &Path) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    Err(Error::Io { path: root.into(), source: std::io::ErrorKind::NotADirectory.into() })
}

/// What the model in a folder makes of a text.
pub(super) fn heads(root: &Path) -> Result<HeadFiles> {
    modules(root).map(|(_, _, heads)| heads)
}

fn modules(root: &Path) -> Result<(PathBuf, Pooling, HeadFiles)> {
    let mut transformer = root.to_path_buf();
    let mut pooling = Pooling { pools: vec![Pool::Mean], normalize: false };
    let Some(modules) = read_optional::<Vec<Module>>(&root.join("modules.json"))? else {
        let heads = HeadFiles::plain(root)?;
        if heads.is_bare_m3() {
            pooling = Pooling { pools: vec![Pool::Cls], normalize: true };
        }
        return Ok((transformer, pooling, heads));
    };
    let mut heads = HeadFiles::default();
    for (position, module) in modules.iter().enumerate() {
        // Full names differ between versions: only the last part says what it is.
        let kind = module.kind.rsplit('.').next().unwrap_or_default();
        match (position, kind) {
            (0, "Transformer" | "MLMTransformer") => transformer = root.join(inside(&module.path)?),
            (1, "Pooling") => {
                pooling.pools = pools(root, inside(&module.path)?)?;
                heads.dense = true;
            }
            (1, "SpladePooling") => heads.sparse = Some(splade(root, inside(&module.path)?)?),
            (1.., "Dense") if heads.sparse.is_none() && !pooling.normalize && heads.mask.is_none() => {
                heads.layers.push(inside(&module.path)?.to_path_buf());
            }
            (1.., "MultiVectorMask") if heads.sparse.is_none() && !heads.dense => {
                heads.mask = Some(inside(&module.path)?.to_path_buf());
            }
            (1.., "Normalize") if heads.sparse.is_none() => pooling.normalize = true,
            _ => {
                return Err(Error::Unsupported {
                    file: "modules.json".into(),
                    field: format!("module {position} of type"),
                    value: module.kind.clone(),
                    supported: "Transformer, then Pooling or nothing, then Dense, then Normalize or \
                                nothing; MultiVectorMask without a Pooling; or SpladePooling alone",
                });
            }
        }
    }
    let heads = heads.finish(root, &transformer, pooling.normalize)?;
    Ok((transformer, pooling, heads))
}

/// A path of `modules.json`, which comes from outside and may not leave the
/// model folder.
fn inside(path: &str) -> Result<&Path> {
    let path = Path::new(path);
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    if path.components().all(plain) {
        return Ok(path);
    }
    Err(Error::Unsupported {
        file: "modules.json".into(),
        field: "path".into(),
        value: path.display().to_string(),
        supported: "a folder inside the model folder",
    })
}

fn pools(root: &Path, path: &Path) -> Result<Vec<Pool>> {
    let file = path.join("config.json").display().to_string();
    let config: HashMap<String, Value> = read_required(root, &file)?;
    let refuse = |field: &str, value: &Value, supported| Error::Unsupported {
        file: file.clone(),
        field: field.into(),
        value: value.to_string(),
        supported,
    };
    if let Some(value @ Value::Bool(false)) = config.get("include_prompt") {
        return Err(refuse("include_prompt", value, "true"));
    }
    // Newer files name the modes in one field, older ones have a flag for each.
    let mut names: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let flags = [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ];
    if names.is_empty() {
        let set = |field: &&(&str, &str)| config.get(field.0) == Some(&Value::Bool(true));
        names = flags.iter().filter(set).map(|field| field.1).collect();
    }
    if names.is_empty() {
        names.push("mean");
    }
    names
        .into_iter()
        .map(|name| match name {
            "cls" => Ok(Pool::Cls),
            "max" => Ok(Pool::Max),
            "mean" => Ok(Pool::Mean),
            "mean_sqrt_len_tokens" => Ok(Pool::MeanSqrt),
            "weightedmean" => Ok(Pool::WeightedMean),
            "lasttoken" => Ok(Pool::Last),
            other => {
                let supported = "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken";
                Err(refuse("pooling_mode", &Value::from(other), supported))
            }
        })
        .collect()
}
