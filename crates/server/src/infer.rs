//! Texts on their way into vectors: which model makes which, and how many
//! tokens that took.

use std::collections::BTreeMap;

use cairn_embed::TextKind;
use cairn_index::{Bm25, Bm25Options, Vector};
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

impl<'e> Inferring<'e> {
    pub(crate) fn new(engine: &'e Engine, kind: TextKind) -> Self {
        Self { engine, kind, usage: Usage::default() }
    }

    /// The vector of one object.
    pub(crate) fn vector(&mut self, inference: Inference) -> ApiResult<Vector> {
        let vectors = self.vectors(vec![inference])?;
        Ok(vectors.into_iter().next().expect("one object gives one vector"))
    }

    /// The vectors of many, in their order; those of one model go through it
    /// together.
    pub(crate) fn vectors(&mut self, inferences: Vec<Inference>) -> ApiResult<Vec<Vector>> {
        let mut asked = Vec::with_capacity(inferences.len());
        for (place, Inference { input, model, options }) in inferences.into_iter().enumerate() {
            let InferenceInput::Text(text) = input else {
                return Err(ApiError::bad_request(
                    "there is no model for images and objects here, send a text or a vector",
                ));
            };
            asked.push(Asked { place, text, model, options });
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

    fn meanings(&mut self, model: Option<&str>, group: &[Asked]) -> ApiResult<Vec<Vector>> {
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
}
