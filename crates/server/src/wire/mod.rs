//! The shapes of requests and responses, and how they become the engine's own.

pub(crate) mod collections;
pub(crate) mod points;
pub(crate) mod query;
pub(crate) mod settings;
pub(crate) mod vector;
pub(crate) mod writes;
