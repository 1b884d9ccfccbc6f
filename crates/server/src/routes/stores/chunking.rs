//! How files of a vector store are cut, in the OpenAI shape.

use cairn_rag::{ChunkChange, ChunkOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};

const MIN_SIZE: usize = 100;
const MAX_SIZE: usize = 4096;

#[derive(Deserialize)]
struct Static {
    max_chunk_size_tokens: usize,
    chunk_overlap_tokens: usize,
}

/// What a `chunking_strategy` changes about how a store cuts its files; nothing
/// where it is `auto` or not given.
pub(super) fn strategy(given: Option<&Value>) -> ApiResult<Option<ChunkChange>> {
    let Some(given) = given.filter(|given| !given.is_null()) else { return Ok(None) };
    let refused = |text: String| ApiError::bad_request(format!("chunking_strategy{text}"));
    match given["type"].as_str() {
        Some("auto") => return Ok(None),
        Some("static") => {}
        Some(other) => return Err(refused(format!(".type must be auto or static, got {other}"))),
        None => return Err(refused(" must be an object whose type is auto or static".to_owned())),
    }
    let Static { max_chunk_size_tokens, chunk_overlap_tokens } = Static::deserialize(&given["static"])
        .map_err(|error| {
            refused(format!(
                ".static must have the numbers max_chunk_size_tokens and chunk_overlap_tokens: {error}"
            ))
        })?;
    if !(MIN_SIZE..=MAX_SIZE).contains(&max_chunk_size_tokens) {
        return Err(refused(format!(
            ".static.max_chunk_size_tokens must be from {MIN_SIZE} to {MAX_SIZE}, got {max_chunk_size_tokens}"
        )));
    }
    let most = max_chunk_size_tokens / 2;
    if chunk_overlap_tokens > most {
        return Err(refused(format!(
            ".static.chunk_overlap_tokens must be from 0 to {most}, half of max_chunk_size_tokens, got \
             {chunk_overlap_tokens}"
        )));
    }
    Ok(Some(ChunkChange { max_tokens: Some(max_chunk_size_tokens), overlap: Some(chunk_overlap_tokens) }))
}

/// How a file was cut; `other` where that is not known.
pub(super) fn shown(chunk: Option<&ChunkOptions>) -> Value {
    chunk.map_or_else(
        || json!({ "type": "other" }),
        |chunk| {
            let sizes =
                json!({ "max_chunk_size_tokens": chunk.max_tokens, "chunk_overlap_tokens": chunk.overlap });
            json!({ "type": "static", "static": sizes })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_auto_or_sizes_within_bounds() {
        let sizes = |size: usize, overlap: usize| json!({ "type": "static", "static": { "max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap } });
        for auto in [None, Some(Value::Null), Some(json!({ "type": "auto" }))] {
            assert_eq!(strategy(auto.as_ref()).unwrap(), None);
        }
        for (size, overlap) in [(100, 0), (100, 50), (4096, 2048), (101, 50)] {
            let wanted = ChunkChange { max_tokens: Some(size), overlap: Some(overlap) };
            assert_eq!(strategy(Some(&sizes(size, overlap))).unwrap(), Some(wanted));
            let cut = ChunkOptions::default().with(wanted);
            assert_eq!(shown(Some(&cut)), sizes(size, overlap));
        }
        for (wrong, reason) in [
            (sizes(99, 0), "from 100 to 4096, got 99"),
            (sizes(4097, 0), "from 100 to 4096, got 4097"),
            (sizes(101, 51), "from 0 to 50, half of max_chunk_size_tokens, got 51"),
            (json!({ "type": "static" }), "max_chunk_size_tokens"),
            (json!({ "type": "static", "static": { "max_chunk_size_tokens": 200 } }), "chunk_overlap_tokens"),
            (json!({ "type": "semantic" }), "auto or static, got semantic"),
            (json!("auto"), "an object"),
        ] {
            let text = strategy(Some(&wrong)).unwrap_err().text;
            assert!(text.contains(reason), "{text}");
        }
    }
}
