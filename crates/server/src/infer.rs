//! Texts on their way into vectors: which model makes which, and how many
//! tokens that took.

use std::collections::{BTreeMap, HashMap};

use cairn_embed::{Cancel, HeadEmbeddings, Heads, Input, TextKind};
use cairn_index::{Bm25, Bm25Options, CollectionConfig, MultiVector, SparseVector, Vector};
use cairn_rag::Engine;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::wire::vector::{Inference, InferenceInput};

/// What a request cost beside time; nothing for one that no model worked on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Usage {
    inference: InferenceUsage,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
struct InferenceUsage {
    models: BTreeMap<String, ModelUsage>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
struct ModelUsage {
    tokens: usize,
}

impl Usage {
    /// The same, or nothing if no model worked.
    pub(crate) fn some(self) -> Option<Self> {
        (!self.inference.models.is_empty()).then_some(self)
    }

    /// What two requests cost together.
    pub(crate) fn sum(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (Some(mut sum), Some(more)) = (a.clone(), b.clone()) else { return a.or(b) };
        for (model, usage) in more.inference.models {
            sum.count(&model, usage.tokens);
        }
        Some(sum)
    }

    fn count(&mut self, model: &str, tokens: usize) {
        self.inference.models.entry(model.to_owned()).or_default().tokens += tokens;
    }
}

/// Runs the models that a request names, and counts.
pub(crate) struct Inferring<'e> {
    engine: &'e Engine,
    kind: TextKind,
    pub(crate) usage: Usage,
}

/// Whether a name means BM25, which is no model but counts words.
pub(crate) fn is_bm25(model: &str) -> bool {
    model.eq_ignore_ascii_case("bm25") || model.eq_ignore_ascii_case("qdrant/bm25")
}

/// What a text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    Dense,
    Sparse,
    Multi,
}

impl Becomes {
    fn head(self) -> Heads {
        match self {
            Self::Dense => Heads::DENSE,
            Self::Sparse => Heads::SPARSE,
            Self::Multi => Heads::MULTI,
        }
    }

    /// What the vector is, for those who sent a text that does not fit.
    fn name(self) -> &'static str {
        match self {
            Self::Dense => "a dense vector",
            Self::Sparse => "a sparse vector",
            Self::Multi => "a multi-vector",
        }
    }

    /// What to do then.
    fn mend(self) -> &'static str {
        match self {
            Self::Dense => "name a model of the kind embedding in `model`, or none for the default one",
            Self::Sparse => {
                "name a model of the kind sparse in `model`, such as prithivida/Splade_PP_en_v1 or \
                 BAAI/bge-m3, or qdrant/bm25"
            }
            Self::Multi => {
                "name a model of the kind multivector in `model`, such as \
                 answerdotai/answerai-colbert-small-v1 or BAAI/bge-m3"
            }
        }
    }
}

/// An object to be made into a vector of a collection.
pub(crate) struct Wanted {
    inference: Inference,
    /// The name of the vector.
    vector: String,
    becomes: Becomes,
}

impl Wanted {
    /// For the vector of this name; without a model, the texts of a sparse one
    /// are counted as words.
    pub(crate) fn new(config: &CollectionConfig, vector: &str, mut inference: Inference) -> ApiResult<Self> {
        let becomes = if config.sparse_vectors.contains_key(vector) {
            inference.model.get_or_insert_with(|| "bm25".to_owned());
            Becomes::Sparse
        } else {
            match config.vectors.get(vector) {
                Some(dense) if dense.multivector => Becomes::Multi,
                Some(_) => Becomes::Dense,
                None => return Err(cairn_index::Error::UnknownVector { name: vector.to_owned() }.into()),
            }
        };
        Ok(Self { inference, vector: vector.to_owned(), becomes })
    }
}

impl<'e> Inferring<'e> {
    pub(crate) fn new(engine: &'e Engine, kind: TextKind) -> Self {
        Self { engine, kind, usage: Usage::default() }
    }

    /// The vector of one object.
    pub(crate) fn vector(&mut self, wanted: Wanted) -> ApiResult<Vector> {
        let vectors = self.vectors(vec![wanted])?;
        Ok(vectors.into_iter().next().expect("one object gives one vector"))
    }

    /// The vectors of many, in their order; those of one model go through it
    /// together.
    pub(crate) fn vectors(&mut self, wanted: Vec<Wanted>) -> ApiResult<Vec<Vector>> {
        let mut asked = Vec::with_capacity(wanted.len());
        for (place, Wanted { inference, vector, becomes }) in wanted.into_iter().enumerate() {
            let Inference { input, model, options } = inference;
            let InferenceInput::Text(text) = input else {
                return Err(ApiError::bad_request(
                    "there is no model for images and objects here, send a text or a vector",
                ));
            };
            asked.push(Asked { place, text, model, options, vector, becomes });
        }
        let mut vectors = vec![None; asked.len()];
        asked.sort_by(|a, b| a.model.cmp(&b.model));
        for group in asked.chunk_by(|a, b| a.model == b.model) {
            let made = match group[0].model.as_deref() {
                Some(model) if is_bm25(model) => self.words(model, group)?,
                model => self.meanings(model, group)?,
            };
            for (asked, vector) in group.iter().zip(made) {
                vectors[asked.place] = Some(vector);
            }
        }
        Ok(vectors.into_iter().map(|vector| vector.expect("each was asked for")).collect())
    }

    fn words(&mut self, model: &str, group: &[Asked]) -> ApiResult<Vec<Vector>> {
        if let Some(asked) = group.iter().find(|asked| asked.becomes != Becomes::Sparse) {
            return Err(asked.misfit(&format!("`{model}` makes sparse vectors")));
        }
        let mut vectors = Vec::with_capacity(group.len());
        // Usually all have the same options, and an analyzer costs something.
        for same in group.chunk_by(|a, b| a.options == b.options) {
            let options: Bm25Options = serde_json::from_value(Value::Object(same[0].options.clone()))
                .map_err(|error| ApiError::from_json(&error))?;
            let bm25 = Bm25::new(&options)?;
            for asked in same {
                self.usage.count(model, bm25.count(&asked.text));
                let vector = match self.kind {
                    TextKind::Query => bm25.query(&asked.text),
                    TextKind::Passage => bm25.document(&asked.text),
                };
                vectors.push(vector.into());
            }
        }
        Ok(vectors)
    }

    /// What a model makes of texts. Where it makes several kinds of vectors, all
    /// of a text are of one pass.
    fn meanings(&mut self, model: Option<&str>, group: &[Asked]) -> ApiResult<Vec<Vector>> {
        if group.iter().all(|asked| asked.becomes == Becomes::Dense) {
            return self.dense(model, group);
        }
        if group.iter().any(|asked| asked.text.trim().is_empty()) {
            return Err(cairn_rag::Error::EmptyText { field: "text" }.into());
        }
        let (name, encoder) = self.engine.any_encoder(model)?;
        let heads = encoder.heads();
        let mut wanted = Heads::default();
        for asked in group {
            wanted = wanted.and(asked.becomes.head());
            if heads.and(asked.becomes.head()) != heads {
                return Err(asked.misfit(&format!("model `{name}` makes {}", made_by(heads))));
            }
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut inputs = Vec::new();
        for asked in group {
            places.entry(&asked.text).or_insert_with(|| {
                inputs.push(Input::Text(&asked.text));
                inputs.len() - 1
            });
        }
        let found = encoder.embed_heads(&inputs, wanted, self.kind, &Cancel::new())?;
        self.usage.count(&name, found.tokens);
        group.iter().map(|asked| asked.of(&found, places[asked.text.as_str()])).collect()
    }

    fn dense(&mut self, model: Option<&str>, group: &[Asked]) -> ApiResult<Vec<Vector>> {
        let texts: Vec<&str> = group.iter().map(|asked| asked.text.as_str()).collect();
        let embedded = self.engine.embed(model, &texts, self.kind)?;
        let name = model.map_or_else(|| self.engine.default_model(), str::to_owned);
        self.usage.count(&name, embedded.tokens);
        Ok(embedded.vectors.into_iter().map(Vector::from).collect())
    }
}

struct Asked {
    place: usize,
    text: String,
    model: Option<String>,
    options: Map<String, Value>,
    vector: String,
    becomes: Becomes,
}

impl Asked {
    /// An error that says what to name instead of what `makes` other vectors.
    fn misfit(&self, makes: &str) -> ApiError {
        let Self { vector, becomes, .. } = self;
        let vector = if vector.is_empty() { "the vector".to_owned() } else { format!("vector `{vector}`") };
        let text = format!("{makes}, and {vector} is {}: {}", becomes.name(), becomes.mend());
        ApiError::bad_request(text)
    }

    /// The vector, out of those of all texts.
    fn of(&self, found: &HeadEmbeddings, at: usize) -> ApiResult<Vector> {
        Ok(match self.becomes {
            Becomes::Dense => found.dense[at].clone().into(),
            Becomes::Sparse => {
                let sparse = &found.sparse[at];
                let entries = sparse.indices.iter().copied().zip(sparse.values.iter().copied());
                SparseVector::new(entries)?.into()
            }
            Becomes::Multi => MultiVector::from_rows(&found.multi[at])?.into(),
        })
    }
}

fn made_by(heads: Heads) -> String {
    let all =
        [(heads.dense, "dense vectors"), (heads.sparse, "sparse vectors"), (heads.multi, "multi-vectors")];
    all.into_iter().filter(|(makes, _)| *makes).map(|(_, name)| name).collect::<Vec<_>>().join(" and ")
}
