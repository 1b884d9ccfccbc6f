//! A model that reads query and passage together.

use std::sync::Arc;

use crate::error::Result;

/// Scores how well passages answer a query, each pair read as one text; for
/// example a cross-encoder.
pub trait Rerank: Send + Sync {
    /// The model's name.
    fn name(&self) -> &str;

    /// A score for each passage, in their order, from 0 to 1, larger is better.
    ///
    /// # Errors
    /// When the model fails.
    fn score(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>>;
}

/// A reranker that can be shared.
pub(crate) type SharedRerank = Arc<dyn Rerank>;
