//! The interface of text-embeddings-inference (TEI): bare arrays out, flat
//! errors. Where it has one model, a request here may name another in `model`.

pub(crate) mod embed;
pub(crate) mod error;
pub(crate) mod info;
pub(crate) mod predict;
pub(crate) mod sparse;
pub(crate) mod tokens;

use cairn_embed::{Embedder, Encoder, Input, TextKind};

use self::error::TeiError;
use crate::embedding::{Inputs, MAX_INPUTS, One};

/// The inputs of a request, if there are any and not too many.
fn checked(inputs: Inputs) -> Result<Vec<One>, TeiError> {
    let inputs = inputs.into_vec();
    check_count("inputs", inputs.len())?;
    Ok(inputs)
}

/// Refuses a batch without anything in it, and one that is too large.
pub(crate) fn check_count(field: &str, count: usize) -> Result<(), TeiError> {
    match count {
        0 => Err(TeiError::empty(format!("`{field}` cannot be empty"))),
        1..=MAX_INPUTS => Ok(()),
        _ => {
            Err(TeiError::too_large(format!("batch size {count} > maximum allowed batch size {MAX_INPUTS}")))
        }
    }
}

/// Refuses what a model would not read whole.
pub(crate) fn check_lengths(
    encoder: &Encoder,
    inputs: &[Input<'_>],
    kind: TextKind,
) -> cairn_rag::Result<()> {
    let limit = encoder.max_tokens_of(kind);
    for (text, input) in inputs.iter().enumerate() {
        // No tokenizer here makes more tokens than there are bytes, but for those it adds.
        if input.text().is_some_and(|text| text.len() + 16 < limit) {
            continue;
        }
        let tokens = encoder.input_tokens(input, kind);
        if tokens > limit {
            return Err(cairn_embed::Error::TooLong { text, tokens, limit }.into());
        }
    }
    Ok(())
}

/// The same for a model that may be behind an address: what it would not read
/// whole is estimated there.
pub(crate) fn check_lengths_of(
    embedder: &Embedder,
    inputs: &[Input<'_>],
    kind: TextKind,
) -> cairn_rag::Result<()> {
    if let Some(encoder) = embedder.encoder() {
        return check_lengths(encoder, inputs, kind);
    }
    let limit = embedder.max_tokens();
    let tokens = inputs.iter().map(|input| embedder.input_tokens(input, kind));
    match tokens.enumerate().find(|(_, tokens)| *tokens > limit) {
        Some((text, tokens)) => Err(cairn_embed::Error::TooLong { text, tokens, limit }.into()),
        None => Ok(()),
    }
}
