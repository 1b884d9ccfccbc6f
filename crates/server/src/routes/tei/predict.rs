//! Labels of texts, by a model for sequence classification.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check_count;
use super::error::TeiError;
use crate::app::App;
use crate::body::Input as Body;
use crate::error::ApiError;

/// Texts to be labelled.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PredictRequest {
    /// A text, a pair of texts, or a list of lists with a text or a pair each;
    /// up to 2,048 of them.
    #[schema(value_type = Object)]
    inputs: Sequences,
    /// Give logits instead of probabilities.
    #[serde(default)]
    raw_scores: bool,
    /// Cut texts that are too long for the model; otherwise they are refused.
    #[serde(default)]
    truncate: Option<bool>,
    /// The rerank model of the settings when absent.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "inputs must be a text, a pair of texts, or a list of lists with one or two texts"
)]
enum Sequences {
    Text(String),
    Pair(Vec<String>),
    Many(Vec<Sequence>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "inputs must be texts or lists with one or two texts")]
enum Sequence {
    Text(String),
    Pair(Vec<String>),
}

/// A label and how probable it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Prediction {
    label: String,
    score: f32,
}

type Pair = (String, Option<String>);

/// The labels of texts or of pairs of them, the most probable first: a list for
/// one input, a list of lists for many.
#[utoipa::path(
    post, path = "/predict", tag = "tei",
    request_body = PredictRequest,
    responses(
        (status = 200, body = Object), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn predict(
    State(app): State<App>,
    body: Result<Body<PredictRequest>, ApiError>,
) -> Result<Response, TeiError> {
    let Body(PredictRequest { inputs, raw_scores, truncate, model }) = body?;
    let one = !matches!(inputs, Sequences::Many(_));
    let pairs = inputs.pairs()?;
    check_count("inputs", pairs.len())?;
    let truncate = truncate.unwrap_or(false);
    let predictions = app.with_reranker(model, move |loaded| {
        let model = &loaded.model;
        let inputs: Vec<(&str, Option<&str>)> = pairs.iter().map(|(a, b)| (&a[..], b.as_deref())).collect();
        if !truncate {
            model.check_lengths(&inputs)?;
        }
        let found = model.predict_until(&inputs, &loaded.cancel)?;
        let scores = if raw_scores { found.raw } else { found.probabilities() };
        Ok(scores.into_iter().map(|scores| ranked(model.labels(), scores)).collect::<Vec<_>>())
    });
    let mut predictions = predictions.await?;
    if one {
        return Ok(Json(predictions.swap_remove(0)).into_response());
    }
    Ok(Json(predictions).into_response())
}

fn ranked(labels: &[String], scores: Vec<f32>) -> Vec<Prediction> {
    let mut found: Vec<Prediction> =
        labels.iter().zip(scores).map(|(label, score)| Prediction { label: label.clone(), score }).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

impl Sequences {
    fn pairs(self) -> Result<Vec<Pair>, TeiError> {
        match self {
            Self::Text(text) => Ok(vec![(text, None)]),
            Self::Pair(texts) if texts.is_empty() => Ok(Vec::new()),
            Self::Pair(texts) => Ok(vec![pair(texts)?]),
            Self::Many(many) => many.into_iter().map(Sequence::pair).collect(),
        }
    }
}

impl Sequence {
    fn pair(self) -> Result<Pair, TeiError> {
        match self {
            Self::Text(text) => Ok((text, None)),
            Self::Pair(texts) => pair(texts),
        }
    }
}

fn pair(texts: Vec<String>) -> Result<Pair, TeiError> {
    let count = texts.len();
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next(), texts.next()) {
        (Some(one), other, None) => Ok((one, other)),
        _ => Err(TeiError::validation(format!(
            "`inputs` must have one or two texts for each prediction, got {count}: put each into a list of its own"
        ))),
    }
}
