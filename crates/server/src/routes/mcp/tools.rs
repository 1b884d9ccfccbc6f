//! The tools of an assistant, and what each does.
//!
//! `search` and `fetch` keep to what connectors expect: one string in, one text
//! that is JSON out. An id of theirs is a collection and a document id, with a
//! slash between. The others answer with structure, too. Tools that write are there
//! for keys that may write somewhere.

use cairn_index::Filter;
use cairn_rag::{Document, Engine, Format, Question, TextSearch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::{Access, Level};
use crate::error::{ApiError, ApiResult};
use crate::routes::stores::{has_expired, in_use};

/// Documents that `search` names at most.
const DOCUMENTS: usize = 10;
/// Passages at most.
const MAX_LIMIT: usize = 100;
/// The collection of what is to be remembered, unless another is named.
const MEMORY: &str = "memory";

/// A tool.
pub(crate) struct Tool {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    writes: bool,
    /// Whether the answer comes as structure besides text.
    pub(crate) structured: bool,
    input: fn() -> Value,
    pub(crate) run: fn(&App, &Access, &Value) -> ApiResult<Value>,
}

/// In the order in which they are listed.
static TOOLS: [Tool; 10] = [
    Tool {
        name: "search",
        title: "Search documents",
        description: "Finds documents in all collections by meaning and words.",
        writes: false,
        structured: false,
        input: || object(&[("query", "string", "What is looked for")], &["query"]),
        run: search,
    },
    Tool {
        name: "fetch",
        title: "Read a document",
        description: "The whole text of a document that a search found.",
        writes: false,
        structured: false,
        input: || object(&[("id", "string", "An id that `search` gave")], &["id"]),
        run: fetch,
    },
    Tool {
        name: "ask",
        title: "Ask a collection",
        description: "Answers a question with quotations that were checked against the documents, or says \
                      that they do not answer it.",
        writes: false,
        structured: true,
        input: || {
            let fields = [
                ("collection", "string", "The collection"),
                ("question", "string", "The question"),
                ("filter", "object", "Only passages that match, in the Qdrant grammar"),
            ];
            object(&fields, &["collection", "question"])
        },
        run: ask,
    },
    Tool {
        name: "query_collection",
        title: "Find passages",
        description: "Finds passages of one collection by meaning and words, under a filter.",
        writes: false,
        structured: true,
        input: || {
            let fields = [
                ("collection", "string", "The collection"),
                ("query", "string", "What is looked for"),
                ("limit", "integer", "Passages at most, 1 to 100; 10 when absent"),
                ("filter", "object", "Only passages that match, in the Qdrant grammar"),
            ];
            object(&fields, &["collection", "query"])
        },
        run: query,
    },
    Tool {
        name: "list_collections",
        title: "List collections",
        description: "The collections there are, and which of them can be searched by text.",
        writes: false,
        structured: true,
        input: || object(&[], &[]),
        run: list,
    },
    Tool {
        name: "describe_collection",
        title: "Describe a collection",
        description: "How many points a collection has, its vectors, its model and its indexed fields.",
        writes: false,
        structured: true,
        input: || object(&[("collection", "string", "The collection")], &["collection"]),
        run: describe,
    },
    Tool {
        name: "upsert_documents",
        title: "Add documents",
        description: "Adds documents to a collection, or replaces those of the same ids.",
        writes: true,
        structured: true,
        input: || {
            let document = json!({
                "type": "object",
                "properties": {
                    "id": { "type": "string" }, "title": { "type": "string" }, "text": { "type": "string" },
                    "metadata": { "type": "object" },
                },
                "required": ["id", "text"],
            });
            let mut schema =
                object(&[("collection", "string", "The collection")], &["collection", "documents"]);
            schema["properties"]["documents"] = json!({ "type": "array", "items": document });
            schema
        },
        run: upsert,
    },
    Tool {
        name: "delete_documents",
        title: "Remove documents",
        description: "Removes documents from a collection.",
        writes: true,
        structured: true,
        input: || {
            let mut schema = object(&[("collection", "string", "The collection")], &["collection", "ids"]);
            schema["properties"]["ids"] = json!({ "type": "array", "items": { "type": "string" } });
            schema
        },
        run: delete,
    },
    Tool {
        name: "remember",
        title: "Remember",
        description: "Keeps a piece of text, to be found again with `recall`.",
        writes: true,
        structured: true,
        input: || {
            let fields = [
                ("information", "string", "What is to be kept"),
                ("metadata", "object", "What belongs to it"),
                ("collection", "string", "Where it is kept; `memory` when absent"),
            ];
            object(&fields, &["information"])
        },
        run: remember,
    },
    Tool {
        name: "recall",
        title: "Recall",
        description: "Finds what was kept with `remember`.",
        writes: false,
        structured: true,
        input: || {
            let fields = [
                ("query", "string", "What is looked for"),
                ("collection", "string", "Where it is kept; `memory` when absent"),
            ];
            object(&fields, &["query"])
        },
        run: recall,
    },
];

/// Other names, which prompts written for other servers use.
const ALIASES: [(&str, &str); 2] = [("qdrant-store", "remember"), ("qdrant-find", "recall")];

fn object(fields: &[(&str, &str, &str)], required: &[&str]) -> Value {
    let field = |(name, kind, description): &(&str, &str, &str)| {
        ((*name).to_owned(), json!({ "type": kind, "description": description }))
    };
    let properties: Map<String, Value> = fields.iter().map(field).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn is_for(tool: &Tool, access: &Access) -> bool {
    !tool.writes || access.can_write_somewhere()
}

/// The tools that a key can use, described.
pub(crate) fn listed(access: &Access) -> Vec<Value> {
    let tools = TOOLS.iter().filter(|tool| is_for(tool, access));
    let described = tools.map(|tool| {
        json!({
            "name": tool.name, "title": tool.title, "description": tool.description,
            "inputSchema": (tool.input)(),
            "annotations": {
                "readOnlyHint": !tool.writes, "openWorldHint": false,
                "destructiveHint": matches!(tool.name, "delete_documents" | "upsert_documents"),
            },
        })
    });
    described.collect()
}

/// The tool of a name, if the key can use it.
pub(crate) fn named(name: &str, access: &Access) -> Option<&'static Tool> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    TOOLS.iter().find(|tool| tool.name == name && is_for(tool, access))
}

/// The arguments of a tool.
fn read<T: DeserializeOwned>(arguments: &Value) -> ApiResult<T> {
    let arguments = if arguments.is_null() { json!({}) } else { arguments.clone() };
    serde_json::from_value(arguments).map_err(|error| ApiError::bad_request(format!("arguments: {error}")))
}

#[derive(Deserialize)]
struct Query {
    query: String,
}

/// The collections of texts that a key may read.
fn readable<'e>(engine: &'e Engine, access: &'e Access) -> impl Iterator<Item = String> + 'e {
    let names = engine.database().collections().into_iter();
    names.filter(|name| access.allows(name, Level::Read) && engine.about(name).is_ok())
}

fn search(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    let engine = &*app.engine;
    let Query { query } = read(arguments)?;
    let mut found: Vec<(f32, Value)> = Vec::new();
    // A store that nobody used for too long is not searched, and not used by that.
    for collection in readable(engine, access).filter(|name| !has_expired(app, name)) {
        let mut seen = std::collections::HashSet::new();
        for hit in engine.search(&collection, &TextSearch::new(query.as_str()))?.passages {
            if !seen.insert(hit.document_id.clone()) {
                continue;
            }
            let id = format!("{collection}/{}", hit.document_id);
            let url = url(&id, &hit.metadata);
            // Scores of different collections compare by meaning alone.
            let score = hit.scores.dense.unwrap_or(hit.score);
            found.push((score, json!({ "id": id, "title": hit.title, "url": url, "text": hit.text })));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let results: Vec<Value> = found.into_iter().take(DOCUMENTS).map(|(_, result)| result).collect();
    Ok(json!({ "results": results }))
}

fn url(id: &str, metadata: &Map<String, Value>) -> String {
    metadata.get("url").and_then(Value::as_str).map_or_else(|| format!("cairn://{id}"), str::to_owned)
}

fn fetch(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }

    let engine = &*app.engine;
    let Id { id } = read(arguments)?;
    let none = || ApiError::not_found(format!("there is no document `{id}`: take an id that `search` gave"));
    let (collection, document) = id.split_once('/').ok_or_else(none)?;
    access.check(collection, Level::Read)?;
    in_use(app, collection)?;
    let kept = engine.document(collection, document)?.ok_or_else(none)?;
    let url = url(&id, &kept.metadata);
    Ok(json!({ "id": id, "title": kept.title, "text": kept.text, "url": url, "metadata": kept.metadata }))
}

fn ask(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Asked {
        collection: String,
        question: String,
        #[serde(default)]
        filter: Option<Filter>,
    }

    let engine = &*app.engine;
    let asked: Asked = read(arguments)?;
    access.check(&asked.collection, Level::Read)?;
    in_use(app, &asked.collection)?;
    let search = TextSearch { limit: 8, filter: asked.filter, ..TextSearch::new(asked.question) };
    let answer = engine.ask(&asked.collection, &Question::from(search), &mut |_| Ok(()))?;
    Ok(json!({
        "answer": answer.answer, "citations": answer.citations, "refused": answer.refused,
        "reason": answer.reason, "warnings": answer.warnings,
    }))
}

fn query(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Asked {
        collection: String,
        query: String,
        #[serde(default)]
        limit: Option<usize>,
        #[serde(default)]
        filter: Option<Filter>,
    }

    let engine = &*app.engine;
    let asked: Asked = read(arguments)?;
    access.check(&asked.collection, Level::Read)?;
    in_use(app, &asked.collection)?;
    let limit = asked.limit.unwrap_or(10);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit must be from 1 to {MAX_LIMIT}, got {limit}")));
    }
    let wanted = TextSearch { limit, filter: asked.filter, ..TextSearch::new(asked.query) };
    let found = engine.search(&asked.collection, &wanted)?;
    Ok(json!({ "hits": found.passages, "warnings": found.warnings }))
}

#[allow(clippy::unnecessary_wraps)] // As the other tools.
fn list(app: &App, access: &Access, _: &Value) -> ApiResult<Value> {
    let engine = &*app.engine;
    let names = engine.database().collections().into_iter();
    let seen = names.filter(|name| access.allows(name, Level::Read));
    let described = seen.map(|name| {
        let about = engine.about(&name).ok();
        json!({ "name": name, "text": about.is_some(), "passages": about.map(|about| about.passages) })
    });
    Ok(json!({ "collections": described.collect::<Vec<_>>() }))
}

fn describe(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Named {
        collection: String,
    }

    let engine = &*app.engine;
    let Named { collection } = read(arguments)?;
    access.check(&collection, Level::Read)?;
    let info = engine.database().collection(&collection)?.info();
    let vectors = info.config.vectors.iter().map(|(name, vector)| {
        let metric = format!("{:?}", vector.distance);
        json!({ "name": name, "size": vector.size, "distance": metric })
    });
    Ok(json!({
        "name": collection, "points": info.points,
        "vectors": vectors.collect::<Vec<_>>(),
        "sparse_vectors": info.config.sparse_vectors.keys().collect::<Vec<_>>(),
        "model": engine.about(&collection).ok().map(|about| about.model),
        "indexed_fields": info.config.payload_indexes.keys().collect::<Vec<_>>(),
    }))
}

fn upsert(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Given {
        collection: String,
        documents: Vec<Document>,
    }

    let engine = &*app.engine;
    let given: Given = read(arguments)?;
    access.check(&given.collection, Level::Write)?;
    in_use(app, &given.collection)?;
    let added = engine.add(&given.collection, &given.documents, Format::Markdown, &mut |_| {})?;
    Ok(json!(added))
}

fn delete(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Given {
        collection: String,
        ids: Vec<String>,
    }

    let engine = &*app.engine;
    let given: Given = read(arguments)?;
    access.check(&given.collection, Level::Write)?;
    let mut removed = 0;
    for id in &given.ids {
        removed += usize::from(engine.delete_document(&given.collection, id)? > 0);
    }
    Ok(json!({ "deleted": removed }))
}

#[derive(Deserialize)]
struct Kept {
    #[serde(default = "memory")]
    #[serde(alias = "collection_name")]
    collection: String,
}

fn memory() -> String {
    MEMORY.to_owned()
}

fn remember(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Given {
        information: String,
        #[serde(default)]
        metadata: Option<Map<String, Value>>,
        #[serde(flatten)]
        place: Kept,
    }

    let engine = &*app.engine;
    let given: Given = read(arguments)?;
    let collection = given.place.collection;
    access.check(&collection, Level::Write)?;
    // The same said twice is kept once.
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, given.information.as_bytes()).to_string();
    let document = Document {
        id: id.clone(),
        title: String::new(),
        text: given.information,
        metadata: given.metadata.unwrap_or_default(),
        pages: Vec::new(),
    };
    engine.add(&collection, &[document], Format::Text, &mut |_| {})?;
    Ok(json!({ "id": id, "collection": collection }))
}

fn recall(app: &App, access: &Access, arguments: &Value) -> ApiResult<Value> {
    #[derive(Deserialize)]
    struct Asked {
        query: String,
        #[serde(flatten)]
        place: Kept,
    }

    let engine = &*app.engine;
    let asked: Asked = read(arguments)?;
    let collection = asked.place.collection;
    access.check(&collection, Level::Read)?;
    in_use(app, &collection)?;
    let found = engine.search(&collection, &TextSearch::new(asked.query))?;
    let hits = found.passages.into_iter();
    let hits = hits.map(|hit| json!({ "id": hit.document_id, "text": hit.text, "metadata": hit.metadata }));
    Ok(json!({ "results": hits.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_write_sees_no_tool_that_writes() {
        let names = |access: &Access| -> Vec<String> {
            listed(access).iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&Access::Manage).len(), TOOLS.len());
        let reading = names(&Access::Read);
        assert!(reading.contains(&"recall".to_owned()) && !reading.contains(&"remember".to_owned()));
        assert!(named("upsert_documents", &Access::Read).is_none());
        assert!(named("qdrant-store", &Access::Manage).is_some_and(|tool| tool.name == "remember"));
    }
}
