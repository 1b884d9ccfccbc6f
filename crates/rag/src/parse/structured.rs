//! JSON and JSON Lines: values as lines that name their keys, what is nested under
//! headings that are its path.

use serde_json::{Map, Value};

use super::text::decoded;
use super::{Parsed, Result, Unreadable, harmless};
use crate::document::Format;

/// The text of a JSON file. What is no JSON, as with comments, is read as it
/// stands.
pub(super) fn json(bytes: &[u8]) -> Result<Parsed> {
    let text = decoded(bytes)?;
    let Ok(value) = serde_json::from_str::<Value>(&text) else {
        return Ok(Parsed { text, format: Format::Text, ..Parsed::default() });
    };
    let title = ["title", "name"].into_iter().find_map(|key| value.get(key)?.as_str());
    let title = title.unwrap_or_default().trim().to_owned();
    let mut blocks = Vec::new();
    write(&mut blocks, &mut Vec::new(), &value);
    Ok(Parsed { title, text: blocks.join("\n\n"), format: Format::Markdown, pages: Vec::new() })
}

/// The text of a file with a JSON value a line.
pub(super) fn json_lines(bytes: &[u8]) -> Result<Parsed> {
    let text = decoded(bytes)?;
    let mut blocks = Vec::new();
    for (number, line) in (0..).zip(text.lines().filter(|line| !line.trim().is_empty())) {
        let value = serde_json::from_str(line)
            .map_err(|error| Unreadable::new(format!("line {} is not JSON: {error}", number + 1)))?;
        element(&mut blocks, &mut Vec::new(), number, &value);
    }
    Ok(Parsed { text: blocks.join("\n\n"), format: Format::Markdown, ..Parsed::default() })
}

fn write(blocks: &mut Vec<String>, path: &mut Vec<String>, value: &Value) {
    match value {
        Value::Object(fields) => object(blocks, path, fields),
        Value::Array(elements) => {
            if let Some(list) = list(elements) {
                blocks.extend((!list.is_empty()).then(|| harmless(&list)));
                return;
            }
            for (number, value) in elements.iter().enumerate() {
                element(blocks, path, number, value);
            }
        }
        scalar => blocks.extend(told(scalar).map(|text| harmless(&text))),
    }
}

fn object(blocks: &mut Vec<String>, path: &mut Vec<String>, fields: &Map<String, Value>) {
    let lines: Vec<String> = fields.iter().filter_map(|(key, value)| line(key, value)).collect();
    if !lines.is_empty() {
        blocks.push(lines.join("\n"));
    }
    for (key, value) in fields.iter().filter(|(_, value)| is_nested(value)) {
        path.push(key.clone());
        blocks.push(heading(path));
        write(blocks, path, value);
        path.pop();
    }
}

/// An element of an array: a line if it is flat, else a section.
fn element(blocks: &mut Vec<String>, path: &mut Vec<String>, number: usize, value: &Value) {
    match value {
        Value::Object(fields) if !fields.values().any(is_nested) => {
            let named = fields.iter().filter_map(|(key, value)| line(key, value));
            let row = named.collect::<Vec<_>>().join("; ");
            blocks.extend((!row.is_empty()).then_some(row));
        }
        value if is_nested(value) => {
            path.push(format!("[{number}]"));
            blocks.push(heading(path));
            write(blocks, path, value);
            path.pop();
        }
        value => write(blocks, path, value),
    }
}

/// Whether a value needs a section of its own.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(elements) => list(elements).is_none(),
        _ => false,
    }
}

/// `key: value`; nothing for null, what is empty, and what is nested.
fn line(key: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(elements) => list(elements)?,
        value => told(value)?,
    };
    (!text.trim().is_empty()).then(|| harmless(&format!("{key}: {text}")))
}

/// An array of plain values as a list.
fn list(elements: &[Value]) -> Option<String> {
    let plain = elements.iter().all(|value| !value.is_object() && !value.is_array());
    plain.then(|| elements.iter().filter_map(told).collect::<Vec<_>>().join(", "))
}

fn told(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The path as Markdown: `## servers.eu`, one mark more the deeper it is.
fn heading(path: &[String]) -> String {
    let mut shown = String::new();
    for part in path {
        if !shown.is_empty() && !part.starts_with('[') {
            shown.push('.');
        }
        shown.push_str(&super::one_line(part));
    }
    format!("{} {shown}", "#".repeat(path.len().min(6)))
}
