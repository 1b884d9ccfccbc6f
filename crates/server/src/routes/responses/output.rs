//! What a response says: the search, and the message with its citations.

use std::collections::HashMap;

use cairn_rag::{Answer, Engine, Retrieved};
use serde_json::{Value, json};

use crate::routes::chat::cited;
use crate::routes::stores::{filename, result};

/// A response that is being made.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) call: String,
    pub(super) message: String,
    pub(super) created_at: u64,
    pub(super) collection: String,
    pub(super) with_results: bool,
    pub(super) query: String,
    /// What the request said, and is given back.
    pub(super) told: Value,
}

impl Made {
    /// The response around what it says.
    pub(super) fn response(&self, status: &str, output: &[Value]) -> Value {
        let mut response = json!({
            "id": self.id, "object": "response", "created_at": self.created_at, "status": status,
            "background": false, "error": null, "incomplete_details": null, "max_output_tokens": null,
            "output": output, "parallel_tool_calls": true,
            "reasoning": { "effort": null, "summary": null }, "temperature": 1.0, "top_p": 1.0,
            "text": { "format": { "type": "text" } }, "tool_choice": "auto", "truncation": "disabled",
            "usage": null, "user": null,
        });
        if let (Value::Object(response), Value::Object(told)) = (&mut response, &self.told) {
            response.extend(told.clone());
        }
        response
    }

    pub(super) fn call(&self, status: &str, passages: Option<&[Retrieved]>) -> Value {
        let results = passages.filter(|_| self.with_results).map(|passages| {
            let flat = |passage: &Retrieved| {
                let mut result = result(passage.clone());
                result["text"] = json!(passage.text);
                result
            };
            passages.iter().map(flat).collect::<Vec<_>>()
        });
        json!({
            "id": self.call, "type": "file_search_call", "status": status, "queries": [self.query],
            "results": results,
        })
    }

    pub(super) fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.message, "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    pub(super) fn text(text: &str, annotations: &[Value]) -> Value {
        json!({ "type": "output_text", "text": text, "annotations": annotations, "logprobs": [] })
    }

    /// The citations, each at the end of its sentence, with their place in the
    /// source.
    pub(super) fn annotations(answer: &Answer, passages: &[Retrieved]) -> Vec<Value> {
        let names: HashMap<&str, String> =
            passages.iter().map(|passage| (passage.document_id.as_str(), filename(passage))).collect();
        let annotation = |(place, citation): (std::ops::Range<usize>, &cairn_rag::Citation)| {
            let name = names.get(citation.document_id.as_str()).unwrap_or(&citation.title);
            json!({
                "type": "file_citation", "file_id": citation.document_id, "filename": name,
                "index": place.end, "page": citation.page, "start": citation.start, "end": citation.end,
                "quote": citation.quote, "verified": true,
            })
        };
        cited(answer).into_iter().map(annotation).collect()
    }

    pub(super) fn whole(&self, engine: &Engine, answer: &Answer, passages: &[Retrieved]) -> Value {
        let text = Self::text(&answer.answer, &Self::annotations(answer, passages));
        let output = vec![self.call("completed", Some(passages)), self.message("completed", &[text])];
        let mut response = self.response("completed", &output);
        let count = |text: &str| engine.count_tokens(&self.collection, text).unwrap_or(0);
        let (input, output) = (count(&self.query), count(&answer.answer));
        response["usage"] = json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + output,
        });
        response["context"] = serde_json::to_value(answer).unwrap_or(Value::Null);
        response
    }
}
