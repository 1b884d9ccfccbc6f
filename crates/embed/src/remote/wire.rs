//! What a service is sent and what it answers, in the two protocols.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::Sent;
use super::{Protocol, RemoteOptions, estimate};

/// An input as it is sent.
pub(super) enum Item<'a> {
    Text(String),
    Ids(&'a [u32]),
}

impl Item<'_> {
    /// About how many tokens it has.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Item::Text(text) => estimate::tokens(text),
            Item::Ids(ids) => ids.len(),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Item::Text(_))
    }

    fn to_json(&self) -> Value {
        match self {
            Item::Text(text) => json!(text),
            Item::Ids(ids) => json!(ids),
        }
    }
}

/// What a service made of a batch.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) tokens: usize,
}

/// The body of a request.
pub(super) fn body(options: &RemoteOptions, items: &[Item<'_>], fields: &Map<String, Value>) -> Value {
    let inputs: Vec<Value> = items.iter().map(Item::to_json).collect();
    let mut body = match options.protocol {
        Protocol::OpenAi => {
            json!({ "model": options.model(), "input": inputs, "encoding_format": "float" })
        }
        Protocol::Tei => json!({ "inputs": inputs, "truncate": true }),
    };
    if options.dimensions > 0 {
        body["dimensions"] = json!(options.dimensions);
    }
    for (field, value) in fields {
        body[field] = value.clone();
    }
    body
}

#[derive(Deserialize)]
struct List {
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default)]
    total_tokens: Option<usize>,
}

/// Reads an answer to a batch.
///
/// # Errors
/// In words, what is wrong with it.
pub(super) fn answer(protocol: Protocol, sent: &Sent, items: &[Item<'_>]) -> Result<Answer, String> {
    let not = |error: serde_json::Error| {
        let shown: String = String::from_utf8_lossy(&sent.bytes).chars().take(120).collect();
        format!("its answer is not what an embedding service sends ({error}): {shown}")
    };
    let (vectors, told) = match protocol {
        Protocol::Tei => (serde_json::from_slice(&sent.bytes).map_err(not)?, sent.tokens),
        Protocol::OpenAi => {
            let List { mut data, usage } = serde_json::from_slice(&sent.bytes).map_err(not)?;
            if data.iter().all(|one| one.index.is_some()) {
                data.sort_by_key(|one| one.index);
                if data.iter().enumerate().any(|(at, one)| one.index != Some(at)) {
                    return Err("the vectors of its answer are not numbered from 0 on".into());
                }
            }
            let usage = usage.unwrap_or_default();
            let vectors: Vec<Vec<f32>> = data.into_iter().map(|one| one.embedding).collect();
            (vectors, usage.prompt_tokens.or(usage.total_tokens))
        }
    };
    if vectors.len() != items.len() {
        return Err(format!("it sent {} vectors for {} texts", vectors.len(), items.len()));
    }
    // Numbers that are not finite are no JSON, and those no f32 can hold were refused.
    if vectors.iter().any(Vec::is_empty) {
        return Err("it sent a vector without numbers".into());
    }
    let tokens = told.unwrap_or_else(|| items.iter().map(Item::tokens).sum());
    Ok(Answer { vectors, tokens })
}

/// What a service says about a failure: the text in it, if it is of a known
/// form, else its beginning.
pub(super) fn complaint(bytes: &[u8]) -> String {
    let found: Option<Value> = serde_json::from_slice(bytes).ok();
    let text = found.as_ref().and_then(|found| {
        let error = &found["error"];
        [&error["message"], error, &found["message"], &found["detail"]].into_iter().find_map(Value::as_str)
    });
    let text = text.map_or_else(|| String::from_utf8_lossy(bytes), Into::into);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{Answer, Item, answer, body, complaint};
    use crate::remote::client::Sent;
    use crate::remote::{Protocol, RemoteOptions};

    fn sent(text: &str) -> Sent {
        Sent { bytes: text.as_bytes().to_vec(), tokens: None }
    }

    fn two() -> [Item<'static>; 2] {
        [Item::Text("one".into()), Item::Text("two".into())]
    }

    #[test]
    fn requests_are_those_of_the_protocol_with_further_fields() {
        let mut options = RemoteOptions { name: "far".into(), ..RemoteOptions::default() };
        let fields = Map::from_iter([("input_type".to_owned(), json!("query"))]);
        let want = json!({
            "model": "far", "input": ["one", "two"], "encoding_format": "float", "input_type": "query"
        });
        assert_eq!(body(&options, &two(), &fields), want);
        options.protocol = Protocol::Tei;
        options.dimensions = 8;
        let want = json!({ "inputs": [[1, 2]], "truncate": true, "dimensions": 8 });
        assert_eq!(body(&options, &[Item::Ids(&[1, 2])], &Map::new()), want);
    }

    #[test]
    fn vectors_come_in_the_order_of_their_numbers_and_tokens_as_told() {
        let text = r#"{"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}],
            "usage": {"prompt_tokens": 9, "total_tokens": 9}}"#;
        let want = Answer { vectors: vec![vec![1.0, 2.0], vec![3.0, 4.0]], tokens: 9 };
        assert_eq!(answer(Protocol::OpenAi, &sent(text), &two()), Ok(want));
        let want = Answer { vectors: vec![vec![1.0], vec![2.0]], tokens: 2 };
        assert_eq!(answer(Protocol::Tei, &sent("[[1], [2]]"), &two()), Ok(want));
        let told = Sent { tokens: Some(5), ..sent("[[1], [2]]") };
        assert_eq!(answer(Protocol::Tei, &told, &two()).map(|answer| answer.tokens), Ok(5));
    }

    #[test]
    fn an_answer_that_is_none_is_refused_in_words() {
        let refused = |protocol, text: &str| answer(protocol, &sent(text), &two()).expect_err("refused");
        assert!(refused(Protocol::Tei, "<html>").contains("<html>"));
        assert!(refused(Protocol::Tei, "[[1]]").contains("1 vectors for 2 texts"));
        assert!(refused(Protocol::Tei, "[[1], []]").contains("without numbers"));
        assert!(refused(Protocol::Tei, "[[1], [1e300]]").contains("out of range"));
        assert!(refused(Protocol::Tei, "[[1], [null]]").contains("is not what"));
        let twice = r#"{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}"#;
        assert!(refused(Protocol::OpenAi, twice).contains("not numbered"));
    }

    #[test]
    fn a_complaint_is_the_text_in_it() {
        let openai = br#"{"error": {"message": "no such model", "type": "x"}}"#;
        assert_eq!(complaint(openai), "no such model");
        assert_eq!(complaint(br#"{"error": "overloaded", "error_type": "x"}"#), "overloaded");
        assert_eq!(complaint(br#"{"detail": "not here"}"#), "not here");
        assert_eq!(complaint(b"<h1>Bad\n  Gateway</h1>"), "<h1>Bad Gateway</h1>");
    }
}
