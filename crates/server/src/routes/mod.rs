//! The handlers: parse, call one verb, render.

pub(crate) mod aliases;
pub(crate) mod answers;
pub(crate) mod chat;
pub(crate) mod cohere;
pub(crate) mod collections;
pub(crate) mod conversations;
pub(crate) mod evaluation;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod jobs;
pub(crate) mod mcp;
pub(crate) mod openai;
pub(crate) mod points;
pub(crate) mod query;
pub(crate) mod rerank;
pub(crate) mod responses;
pub(crate) mod service;
pub(crate) mod snapshots;
pub(crate) mod stores;
pub(crate) mod tei;
pub(crate) mod text;
pub(crate) mod uploads;
pub(crate) mod writes;
