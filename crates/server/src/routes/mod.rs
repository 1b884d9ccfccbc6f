//! The handlers: parse, call one verb, render.

pub(crate) mod collections;
pub(crate) mod openai;
pub(crate) mod points;
pub(crate) mod service;
pub(crate) mod text;
