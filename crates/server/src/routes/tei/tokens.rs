//! The tokenizer of a model by itself.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check_count;
use super::error::TeiError;
use crate::app::App;
use crate::body::Input as Body;
use crate::error::ApiError;

/// Texts to be cut into tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TokenizeRequest {
    /// A text or up to 2,048 of them.
    #[schema(value_type = Object)]
    inputs: Texts,
    /// With the tokens that the model puts around a text.
    #[serde(default = "yes")]
    add_special_tokens: bool,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "inputs must be a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

fn yes() -> bool {
    true
}

/// A token of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token {
    id: u32,
    text: String,
    special: bool,
    /// Where it starts in the text, in bytes; null for a special token.
    start: Option<usize>,
    /// Where it stops.
    stop: Option<usize>,
}

impl From<cairn_embed::Token> for Token {
    fn from(token: cairn_embed::Token) -> Self {
        let (start, stop) = token.span.unzip();
        Self { id: token.id, text: token.text, special: token.special, start, stop }
    }
}

/// The tokens of texts, with their places.
#[utoipa::path(
    post, path = "/tokenize", tag = "tei",
    request_body = TokenizeRequest,
    responses((status = 200, body = Vec<Vec<Token>>), (status = 400), (status = 404), (status = 413), (status = 422))
)]
pub(crate) async fn tokenize(
    State(app): State<App>,
    body: Result<Body<TokenizeRequest>, ApiError>,
) -> Result<Json<Vec<Vec<Token>>>, TeiError> {
    let Body(request) = body?;
    let texts = match request.inputs {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    check_count("inputs", texts.len())?;
    let tokens = app.with_any_encoder(request.model, move |loaded| {
        let tokens = |text: &String| {
            let found = loaded.model.tokenize(text, request.add_special_tokens)?;
            Ok(found.into_iter().map(Token::from).collect())
        };
        texts.iter().map(tokens).collect()
    });
    Ok(Json(tokens.await?))
}

/// Token ids to be read as text.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DecodeRequest {
    /// A list of token ids or up to 2,048 of them.
    #[schema(value_type = Object)]
    ids: Ids,
    /// Without the tokens that stand for no text.
    #[serde(default = "yes")]
    skip_special_tokens: bool,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "ids must be a list of token ids or a list of such lists")]
enum Ids {
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

/// The texts that token ids stand for.
#[utoipa::path(
    post, path = "/decode", tag = "tei",
    request_body = DecodeRequest,
    responses((status = 200, body = Vec<String>), (status = 400), (status = 404), (status = 413), (status = 422))
)]
pub(crate) async fn decode(
    State(app): State<App>,
    body: Result<Body<DecodeRequest>, ApiError>,
) -> Result<Json<Vec<String>>, TeiError> {
    let Body(request) = body?;
    let ids = match request.ids {
        Ids::One(ids) if ids.is_empty() => Vec::new(),
        Ids::One(ids) => vec![ids],
        Ids::Many(many) => many,
    };
    check_count("ids", ids.len())?;
    let texts = app.with_any_encoder(request.model, move |loaded| {
        let text = |ids: &Vec<u32>| Ok(loaded.model.decode(ids, request.skip_special_tokens)?);
        ids.iter().map(text).collect()
    });
    Ok(Json(texts.await?))
}
