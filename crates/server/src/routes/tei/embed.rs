//! Texts to vectors: one each, one for each token, or only how near they are.

use axum::Json;
use axum::extract::State;
use cairn_embed::{Heads, Input, TextKind};
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::TeiError;
use super::{check_count, check_lengths, check_lengths_of, checked};
use crate::app::App;
use crate::body::Input as Body;
use crate::embedding::{Inputs, One, cut, kind_of, normalize};
use crate::error::ApiError;

/// Texts to embed.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedRequest {
    /// A text, a list of texts, a list of token ids, or a list of such lists;
    /// up to 2,048 of them.
    #[schema(value_type = Object)]
    inputs: Inputs,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    /// Vectors of length 1; otherwise as the model gives them.
    #[serde(default = "yes")]
    normalize: bool,
    /// Length of the vectors: the first numbers of each.
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(flatten)]
    #[schema(inline)]
    reading: Reading,
}

/// How much of a text is read, and as what.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Reading {
    /// Cut texts that are too long for the model; otherwise they are refused.
    #[serde(default)]
    truncate: Option<bool>,
    /// What is cut off: `Right`, the end, or `Left`, the start.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    truncation_direction: Option<Direction>,
    /// `query`, or `passage`, `document` or `corpus`: the prompt of the model
    /// that is put before each text.
    #[serde(default)]
    prompt_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Direction {
    #[serde(alias = "right")]
    Right,
    #[serde(alias = "left")]
    Left,
}

fn yes() -> bool {
    true
}

/// What was read of a request.
pub(super) struct Wanted {
    inputs: Vec<One>,
    pub(super) kind: TextKind,
    pub(super) truncate: bool,
    end: bool,
}

impl Reading {
    pub(super) fn of(self, inputs: Vec<One>) -> Result<Wanted, TeiError> {
        Ok(Wanted {
            inputs,
            kind: kind_of(self.prompt_name.as_deref())?,
            truncate: self.truncate.unwrap_or(false),
            end: self.truncation_direction == Some(Direction::Left),
        })
    }
}

impl Wanted {
    pub(super) fn inputs(&self) -> Vec<Input<'_>> {
        self.inputs.iter().map(|input| input.input(self.end)).collect()
    }

    async fn embed(self, app: &App, model: Option<String>) -> Result<Vec<Vec<f32>>, TeiError> {
        let vectors = app.with_embedder(model, move |loaded| {
            let inputs = self.inputs();
            if !self.truncate {
                check_lengths_of(&loaded.model, &inputs, self.kind)?;
            }
            Ok(loaded.model.embed_inputs(&inputs, self.kind, &loaded.cancel)?.vectors)
        });
        Ok(vectors.await?)
    }
}

/// Vectors of texts, as text-embeddings-inference gives them: a bare list.
#[utoipa::path(
    post, path = "/embed", tag = "tei",
    request_body = EmbedRequest,
    responses(
        (status = 200, body = Vec<Vec<f32>>), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn embed(
    State(app): State<App>,
    body: Result<Body<EmbedRequest>, ApiError>,
) -> Result<Json<Vec<Vec<f32>>>, TeiError> {
    let Body(request) = body?;
    let wanted = request.reading.of(checked(request.inputs)?)?;
    let mut vectors = wanted.embed(&app, request.model).await?;
    for vector in &mut vectors {
        if let Some(dimensions) = request.dimensions {
            let whole = std::mem::take(vector);
            if request.normalize {
                *vector = cut(whole, dimensions)?;
            } else {
                // Only for the check of its range.
                let length = cut(whole.clone(), dimensions)?.len();
                *vector = whole[..length].to_vec();
            }
        } else if request.normalize {
            normalize(vector);
        }
    }
    Ok(Json(vectors))
}

/// Texts whose tokens are to be embedded.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedAllRequest {
    /// As for `/embed`.
    #[schema(value_type = Object)]
    inputs: Inputs,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    #[serde(flatten)]
    #[schema(inline)]
    reading: Reading,
}

/// A vector for each token of each text, special ones included, neither pooled
/// nor normalized; of a model for late interaction, the vectors that it compares.
#[utoipa::path(
    post, path = "/embed_all", tag = "tei",
    request_body = EmbedAllRequest,
    responses(
        (status = 200, body = Vec<Vec<Vec<f32>>>), (status = 400), (status = 404), (status = 413),
        (status = 422), (status = 424), (status = 429)
    )
)]
pub(crate) async fn embed_all(
    State(app): State<App>,
    body: Result<Body<EmbedAllRequest>, ApiError>,
) -> Result<Json<Vec<Vec<Vec<f32>>>>, TeiError> {
    let Body(request) = body?;
    let wanted = request.reading.of(checked(request.inputs)?)?;
    let vectors = app.with_any_encoder(request.model, move |loaded| {
        let inputs = wanted.inputs();
        if !wanted.truncate {
            check_lengths(&loaded.model, &inputs, wanted.kind)?;
        }
        let heads = loaded.model.heads();
        if heads.multi && !heads.dense {
            return Ok(loaded.model.embed_heads(&inputs, Heads::MULTI, wanted.kind, &loaded.cancel)?.multi);
        }
        Ok(loaded.model.embed_all(&inputs, wanted.kind, &loaded.cancel)?.vectors)
    });
    Ok(Json(vectors.await?))
}

/// A sentence to be compared with others.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SimilarityRequest {
    inputs: Compared,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    parameters: Option<Reading>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Compared {
    source_sentence: String,
    /// Up to 2,047 of them.
    sentences: Vec<String>,
}

/// The cosine similarity of a sentence to each of the others.
#[utoipa::path(
    post, path = "/similarity", tag = "tei",
    request_body = SimilarityRequest,
    responses(
        (status = 200, body = Vec<f32>), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn similarity(
    State(app): State<App>,
    body: Result<Body<SimilarityRequest>, ApiError>,
) -> Result<Json<Vec<f32>>, TeiError> {
    let Body(SimilarityRequest { inputs, model, parameters }) = body?;
    check_count("inputs.sentences", inputs.sentences.len())?;
    check_count("inputs", inputs.sentences.len() + 1)?;
    let all = std::iter::once(inputs.source_sentence).chain(inputs.sentences).map(One::Text).collect();
    let wanted = parameters.unwrap_or_default().of(all)?;
    let mut vectors = wanted.embed(&app, model).await?;
    vectors.iter_mut().for_each(|vector| normalize(vector));
    let (source, others) = vectors.split_first().expect("the sentence itself is among them");
    let dot = |other: &Vec<f32>| source.iter().zip(other).map(|(a, b)| a * b).sum();
    Ok(Json(others.iter().map(dot).collect()))
}
