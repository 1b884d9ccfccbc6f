//! What a model folder says its model makes of a text.
//!
//! `modules.json` decides where there is one. Without it, the architecture in
//! `config.json` does; and `sparse_linear` and `colbert_linear` beside a model
//! that pools are those of BGE-M3.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::super::files::{read_optional, read_required};
use super::rules::Rules;
use super::{Heads, dense};
use crate::{Error, Result};

/// The heads of a model, as its files have them.
#[derive(Debug, Default)]
pub(in super::super) struct HeadFiles {
    /// Whether there is a vector for the whole text.
    pub(in super::super) dense: bool,
    /// The folders of the layers after the pooling, or after the transformer
    /// where nothing pools, inside the model folder.
    pub(in super::super) layers: Vec<PathBuf>,
    pub(in super::super) sparse: Option<SparseFiles>,
    pub(super) multi: Option<MultiFiles>,
    /// The folder of a `MultiVectorMask`, inside the model folder.
    pub(in super::super) mask: Option<PathBuf>,
}

/// Where a sparse vector comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum SparseFiles {
    /// The masked language model in the weights.
    Masked(Splade),
    /// The same, if there is one: nothing but a name says so.
    Perhaps,
    /// `sparse_linear`, a weight for each token.
    Lexical,
}

/// From logits to the values of a sparse vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Splade {
    /// Tokens are added up; otherwise the largest value counts.
    pub(in super::super) sum: bool,
    /// The logarithm is taken twice.
    pub(in super::super) twice: bool,
}

/// Where the vectors of tokens come from.
#[derive(Debug)]
pub(super) struct MultiFiles {
    pub(super) layers: Layers,
    pub(super) normalize: bool,
    /// Whether the first token has a vector.
    pub(super) first: bool,
    /// How texts are fed; nothing where they are as for the other heads.
    pub(super) rules: Option<Rules>,
}

#[derive(Debug)]
pub(super) enum Layers {
    /// `linear.weight` among the weights of the transformer.
    Inline,
    /// [`HeadFiles::layers`].
    Modules,
    /// `colbert_linear`.
    Beside,
}

/// Where ColBERT's own library keeps its settings.
pub(super) const ARTIFACT: &str = "artifact.metadata";

/// The files a head of BGE-M3 may be in.
pub(super) const SPARSE_LINEAR: [&str; 2] = ["sparse_linear.safetensors", "sparse_linear.pt"];
pub(super) const COLBERT_LINEAR: [&str; 2] = ["colbert_linear.safetensors", "colbert_linear.pt"];

impl HeadFiles {
    /// One vector for the whole text.
    pub(in super::super) fn dense() -> HeadFiles {
        HeadFiles { dense: true, ..HeadFiles::default() }
    }

    /// The heads of a folder without `modules.json`.
    pub(in super::super) fn plain(root: &Path) -> Result<HeadFiles> {
        let names = architectures(root)?;
        let is_colbert = names.iter().any(|name| name == "HF_ColBERT") || root.join(ARTIFACT).is_file();
        let multi = || -> Result<MultiFiles> {
            let rules = Some(Rules::of_artifact(root)?);
            Ok(MultiFiles { layers: Layers::Inline, normalize: true, first: true, rules })
        };
        let masked = names.iter().any(|name| name.ends_with("ForMaskedLM"));
        let files = HeadFiles {
            dense: !is_colbert,
            sparse: (masked && !is_colbert).then_some(SparseFiles::Perhaps),
            multi: is_colbert.then(multi).transpose()?,
            ..HeadFiles::default()
        };
        Ok(files.beside(root))
    }

    /// Adds the heads of BGE-M3, which no module tells of.
    fn beside(mut self, root: &Path) -> HeadFiles {
        let has = |names: [&str; 2]| names.iter().any(|name| root.join(name).is_file());
        if self.dense && has(SPARSE_LINEAR) {
            self.sparse = Some(SparseFiles::Lexical);
        }
        if self.dense && has(COLBERT_LINEAR) {
            let layers = Layers::Beside;
            self.multi = Some(MultiFiles { layers, normalize: true, first: false, rules: None });
        }
        self
    }

    /// Whether this is BGE-M3 without its modules, which pools and normalizes.
    pub(in super::super) fn is_bare_m3(&self) -> bool {
        self.sparse == Some(SparseFiles::Lexical)
    }

    /// What follows once all modules were read; `normalize` says whether one of
    /// them does.
    pub(in super::super) fn finish(
        mut self,
        root: &Path,
        transformer: &Path,
        normalize: bool,
    ) -> Result<HeadFiles> {
        if self.dense {
            return Ok(self.beside(root));
        }
        if self.sparse.is_some() {
            return Ok(self);
        }
        if self.layers.is_empty() && self.mask.is_none() {
            if normalize {
                return Err(Error::Unsupported {
                    file: "modules.json".into(),
                    field: "modules".into(),
                    value: "Transformer, Normalize".into(),
                    supported: "a Pooling, Dense or MultiVectorMask between them",
                });
            }
            return Ok(HeadFiles { dense: true, ..self });
        }
        let rules = match &self.mask {
            Some(mask) => Rules::of_modules(root, transformer, mask)?,
            None => Rules::of_pylate(root)?,
        };
        // PyLate's vectors have length 1 whatever its modules are.
        let normalize = normalize || self.mask.is_none();
        self.multi = Some(MultiFiles { layers: Layers::Modules, normalize, first: true, rules: Some(rules) });
        Ok(self)
    }

    /// What the model makes, as far as its files tell.
    pub(in super::super) fn heads(&self) -> Heads {
        Heads { dense: self.dense, sparse: self.sparse.is_some(), multi: self.multi.is_some() }
    }
}

fn architectures(root: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize, Default)]
    struct Config {
        architectures: Option<Vec<String>>,
    }
    let config: Config = read_optional(&root.join("config.json"))?.unwrap_or_default();
    Ok(config.architectures.unwrap_or_default())
}

/// The settings of a `SpladePooling`.
pub(in super::super) fn splade(root: &Path, path: &Path) -> Result<SparseFiles> {
    #[derive(Deserialize)]
    struct Config {
        pooling_strategy: Option<String>,
        activation_function: Option<String>,
    }
    let file = path.join("config.json").display().to_string();
    let config: Config = read_required(root, &file)?;
    let refuse = |field: &str, value: &str, supported| Error::Unsupported {
        file: file.clone(),
        field: field.into(),
        value: value.into(),
        supported,
    };
    let sum = match config.pooling_strategy.as_deref() {
        None | Some("max") => false,
        Some("sum") => true,
        Some(other) => return Err(refuse("pooling_strategy", other, "max, sum")),
    };
    let twice = match config.activation_function.as_deref() {
        None | Some("relu") => false,
        Some("log1p_relu") => true,
        Some(other) => return Err(refuse("activation_function", other, "relu, log1p_relu")),
    };
    Ok(SparseFiles::Masked(Splade { sum, twice }))
}

/// The settings of a `Dense`.
pub(super) fn layer(root: &Path, path: &Path) -> Result<dense::Settings> {
    #[derive(Deserialize)]
    struct Config {
        in_features: usize,
        out_features: usize,
        #[serde(default = "yes")]
        bias: bool,
        activation_function: Option<String>,
        #[serde(default)]
        use_residual: bool,
    }
    fn yes() -> bool {
        true
    }
    let file = path.join("config.json").display().to_string();
    let config: Config = read_required(root, &file)?;
    let name = config.activation_function.unwrap_or_else(|| "torch.nn.modules.activation.Tanh".into());
    let function = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => dense::Function::None,
        "Tanh" => dense::Function::Tanh,
        "GELU" => dense::Function::Gelu,
        "ReLU" => dense::Function::Relu,
        _ => {
            return Err(Error::Unsupported {
                file,
                field: "activation_function".into(),
                value: name,
                supported: "Identity, Tanh, GELU, ReLU",
            });
        }
    };
    if config.out_features == 0 {
        return Err(Error::Unsupported {
            file,
            field: "out_features".into(),
            value: "0".into(),
            supported: "1 or more",
        });
    }
    Ok(dense::Settings {
        file,
        inputs: config.in_features,
        outputs: config.out_features,
        bias: config.bias,
        function,
        residual: config.use_residual,
    })
}

/// The name of a token in a file of a tokenizer: as it is, or in an object.
pub(super) fn token_name(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
