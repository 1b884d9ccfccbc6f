//! Embeddings in the shape of Cohere; reranking in theirs is beside that of others.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_embed::TextKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::openai::base64;
use super::tei::error::TeiError;
use super::tei::{check_count, check_lengths_of};
use crate::app::App;
use crate::body::Input as Body;
use crate::embedding::{One, cut};
use crate::error::ApiError;

/// Texts to embed.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CohereEmbedRequest {
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    /// What the texts are: `search_query` is read as a query, all else as passages.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    input_type: InputType,
    /// Up to 2,048 texts.
    #[serde(default)]
    texts: Option<Vec<String>>,
    /// Texts in the newer form, in place of `texts`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    inputs: Option<Vec<Parts>>,
    /// `float`, `base64` (little-endian f32), `binary` or `ubinary` (a bit a value, eight
    /// to a byte, the first the highest; set where the value is above 0).
    #[serde(default = "floats")]
    #[schema(value_type = Vec<String>)]
    embedding_types: Vec<Kind>,
    /// Length of the vectors: the first numbers of each, scaled to unit length.
    #[serde(default)]
    output_dimension: Option<usize>,
    /// What is cut off texts that are too long: `END`, `START`, or `NONE`, which refuses
    /// them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    truncate: Truncate,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InputType {
    SearchQuery,
    #[default]
    SearchDocument,
    Classification,
    Clustering,
    /// Only to say what is not there.
    Image,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Truncate {
    None,
    Start,
    #[default]
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Float,
    Base64,
    Binary,
    Ubinary,
    Int8,
    Uint8,
}

fn floats() -> Vec<Kind> {
    vec![Kind::Float]
}

/// One input, whose parts are one text.
#[derive(Debug, Deserialize)]
struct Parts {
    content: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: String,
}

impl Parts {
    fn into_text(self) -> Result<String, TeiError> {
        if let Some(part) = self.content.iter().find(|part| part.r#type != "text") {
            let text = format!("content of type `{}` cannot be embedded, only `text`", part.r#type);
            return Err(TeiError::validation(text));
        }
        Ok(self.content.into_iter().map(|part| part.text).collect::<Vec<_>>().join("\n"))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Base64 => "base64",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
        }
    }

    fn of(self, vector: &[f32]) -> Result<Value, TeiError> {
        Ok(match self {
            Self::Float => json!(vector),
            Self::Base64 => json!(base64(vector)),
            Self::Ubinary => json!(packed(vector)),
            Self::Binary => {
                json!(packed(vector).into_iter().map(|byte| i16::from(byte) - 128).collect::<Vec<_>>())
            }
            Self::Int8 | Self::Uint8 => {
                return Err(TeiError::validation(format!(
                    "embedding type `{}` depends on ranges that this model does not have; ask for `float`, \
                     `base64`, `binary` or `ubinary`",
                    self.name()
                )));
            }
        })
    }
}

/// A bit for each value, set where it is above 0.
fn packed(vector: &[f32]) -> Vec<u8> {
    let bits = |eight: &[f32]| {
        eight.iter().enumerate().fold(0, |byte, (at, value)| byte | u8::from(*value > 0.0) << (7 - at))
    };
    vector.chunks(8).map(bits).collect()
}

/// Vectors of texts, as Cohere gives them.
#[utoipa::path(
    post, path = "/v2/embed", tag = "rerank", operation_id = "embed_v2",
    request_body = CohereEmbedRequest,
    responses(
        (status = 200, body = Object), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn embed(
    State(app): State<App>,
    body: Result<Body<CohereEmbedRequest>, ApiError>,
) -> Response {
    let answer = match body {
        Ok(Body(request)) => embedded(&app, request).await,
        Err(error) => Err(error.into()),
    };
    answer.map_or_else(TeiError::into_rerank_response, |answer| Json(answer).into_response())
}

async fn embedded(app: &App, request: CohereEmbedRequest) -> Result<Value, TeiError> {
    let texts = match (request.texts, request.inputs) {
        (Some(texts), None) => texts,
        (None, Some(inputs)) => inputs.into_iter().map(Parts::into_text).collect::<Result<_, _>>()?,
        _ => return Err(TeiError::validation("one of `texts` and `inputs` must be given")),
    };
    check_count("texts", texts.len())?;
    if texts.iter().any(|text| text.trim().is_empty()) {
        return Err(TeiError::validation("a text is empty or has only white space"));
    }
    let kind = match request.input_type {
        InputType::SearchQuery => TextKind::Query,
        InputType::Image => return Err(TeiError::validation("images cannot be embedded, only texts")),
        _ => TextKind::Passage,
    };
    let (truncate, ones): (_, Vec<One>) = (request.truncate, texts.iter().cloned().map(One::Text).collect());
    let embedded = app.with_embedder(request.model, move |loaded| {
        let inputs: Vec<_> = ones.iter().map(|one| one.input(truncate == Truncate::Start)).collect();
        if truncate == Truncate::None {
            check_lengths_of(&loaded.model, &inputs, kind)?;
        }
        Ok(loaded.model.embed_inputs(&inputs, kind, &loaded.cancel)?)
    });
    let embedded = embedded.await?;
    let mut vectors = embedded.vectors;
    if let Some(dimensions) = request.output_dimension {
        vectors = vectors.into_iter().map(|vector| cut(vector, dimensions)).collect::<Result<_, _>>()?;
    }
    let mut embeddings = Map::new();
    for kind in request.embedding_types {
        let all: Vec<Value> = vectors.iter().map(|vector| kind.of(vector)).collect::<Result<_, _>>()?;
        embeddings.insert(kind.name().to_owned(), Value::Array(all));
    }
    Ok(json!({
        "id": Uuid::new_v4(),
        "embeddings": embeddings,
        "texts": texts,
        "response_type": "embeddings_by_type",
        "meta": {
            "api_version": { "version": "2" },
            "billed_units": { "input_tokens": embedded.tokens },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_with_the_first_value_highest() {
        let vector = [0.1, -0.1, 0.0, 0.2, -1.0, 3.0, -0.0, 1.0, 0.5, -0.5];
        assert_eq!(packed(&vector), [0b1001_0101, 0b1000_0000]);
        assert_eq!(Kind::Binary.of(&vector).unwrap(), json!([21, 0]));
    }
}
