//! How passages are found: what can be set in the configuration, for a
//! collection, and for one request.
//!
//! The three are merged field by field; the request wins, then the collection.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a query is compared by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Meaning alone: the cosine of embeddings.
    Dense,
    /// Words alone: BM25.
    Sparse,
    /// Both, fused.
    #[default]
    Hybrid,
}

/// What makes one list of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FusionMethod {
    /// The weighted mean of scores, each list's scaled so that its best is 1 and
    /// its last 0. From 0 to 1. Better than ranks alone on the judged sets, as
    /// Bruch, Gai and Ingber (2023) found on others.
    #[default]
    Weighted,
    /// Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): the sum of
    /// `1 / (k + rank)` over the lists, ranks from 1, divided by what a passage
    /// that is first everywhere gets. From 0 to 1.
    Rrf,
}

/// How ranked lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fusion {
    /// The method.
    pub method: FusionMethod,
    /// Of [`FusionMethod::Rrf`]: how little the first ranks stand out; 1 or more.
    pub k: f32,
    /// Of [`FusionMethod::Weighted`]: the share of the dense scores, 0 to 1; the
    /// sparse ones have the rest.
    pub dense: f32,
}

impl Default for Fusion {
    fn default() -> Self {
        Self { method: FusionMethod::default(), k: 60.0, dense: 0.5 }
    }
}

fn half() -> f32 {
    0.5
}

/// Newer passages come first: each score is multiplied with
/// `1 - weight + weight * 0.5 ^ (age / half_life_days)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    /// The key below `metadata` that holds a date: RFC 3339, a plain date, or
    /// seconds since 1970. Passages without one count as one half-life old.
    pub field: String,
    /// Days after which half of the weighted share is gone; above 0.
    pub half_life_days: f32,
    /// The share of the score that ages, 0 to 1.
    #[serde(default = "half")]
    pub weight: f32,
}

/// Passages around a hit that come along with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expand {
    /// None.
    #[default]
    None,
    /// The one before and the one after in the same document.
    Neighbours,
    /// All of the same section, that is with the same headings.
    Section,
}

/// How passages are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrievalOptions {
    /// What a query is compared by.
    pub mode: Mode,
    /// How ranked lists become one.
    pub fusion: Fusion,
    /// Candidates each list brings, 1 to 1000.
    pub candidates: usize,
    /// Order the best candidates anew with the rerank model, if one is set.
    pub rerank: bool,
    /// Candidates that are reranked, 1 to 200.
    pub rerank_candidates: usize,
    /// Maximal marginal relevance (Carbonell and Goldstein 1998): how much
    /// unlikeness to the passages before counts against the score, 0 to 1; 0 is
    /// off.
    pub diversity: f32,
    /// Passages around a hit that come along with it.
    pub expand: Expand,
    /// Further wordings of the query, by the generator, that are searched too;
    /// 0 to 8.
    pub rewrites: usize,
    /// Also search with an answer that the generator makes up (Gao et al. 2022).
    pub hyde: bool,
    /// Newer passages come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
}

impl Default for RetrievalOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Hybrid,
            fusion: Fusion::default(),
            candidates: 100,
            rerank: true,
            rerank_candidates: 30,
            diversity: 0.0,
            expand: Expand::None,
            rewrites: 0,
            hyde: false,
            decay: None,
        }
    }
}

/// Those of the [`RetrievalOptions`] that a collection or a request sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrievalChange {
    /// See [`RetrievalOptions::mode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// See [`RetrievalOptions::fusion`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion: Option<Fusion>,
    /// See [`RetrievalOptions::candidates`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<usize>,
    /// See [`RetrievalOptions::rerank`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<bool>,
    /// See [`RetrievalOptions::rerank_candidates`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank_candidates: Option<usize>,
    /// See [`RetrievalOptions::diversity`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// See [`RetrievalOptions::expand`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expand: Option<Expand>,
    /// See [`RetrievalOptions::rewrites`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrites: Option<usize>,
    /// See [`RetrievalOptions::hyde`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hyde: Option<bool>,
    /// See [`RetrievalOptions::decay`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
}

impl RetrievalOptions {
    /// The options with a change on top.
    #[must_use]
    pub fn with(&self, change: &RetrievalChange) -> Self {
        let change = change.clone();
        Self {
            mode: change.mode.unwrap_or(self.mode),
            fusion: change.fusion.unwrap_or(self.fusion),
            candidates: change.candidates.unwrap_or(self.candidates),
            rerank: change.rerank.unwrap_or(self.rerank),
            rerank_candidates: change.rerank_candidates.unwrap_or(self.rerank_candidates),
            diversity: change.diversity.unwrap_or(self.diversity),
            expand: change.expand.unwrap_or(self.expand),
            rewrites: change.rewrites.unwrap_or(self.rewrites),
            hyde: change.hyde.unwrap_or(self.hyde),
            decay: change.decay.or_else(|| self.decay.clone()),
        }
    }

    /// # Errors
    /// [`Error::Option`] for a value out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        within("retrieval.candidates", self.candidates as f32, 1.0, 1000.0)?;
        within("retrieval.rerank_candidates", self.rerank_candidates as f32, 1.0, 200.0)?;
        within("retrieval.diversity", self.diversity, 0.0, 1.0)?;
        within("retrieval.rewrites", self.rewrites as f32, 0.0, 8.0)?;
        within("retrieval.fusion.k", self.fusion.k, 1.0, 10_000.0)?;
        within("retrieval.fusion.dense", self.fusion.dense, 0.0, 1.0)?;
        let Some(decay) = &self.decay else { return Ok(()) };
        within("retrieval.decay.weight", decay.weight, 0.0, 1.0)?;
        within("retrieval.decay.half_life_days", decay.half_life_days, 1e-3, 1e6)
    }
}

/// Refuses a number that is not from `min` to `max`.
pub(crate) fn within(field: &'static str, value: f32, min: f32, max: f32) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::Option { field, value: value.to_string(), range: format!("from {min} to {max}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: serde_json::Value) -> RetrievalChange {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_request_changes_what_it_names_and_leaves_the_rest() {
        let collection = change(serde_json::json!({"mode": "dense", "diversity": 0.3}));
        let request = change(serde_json::json!({"diversity": 0.0, "fusion": {"method": "rrf", "k": 10.0}}));
        let options = RetrievalOptions::default().with(&collection).with(&request);
        assert_eq!((options.mode, options.diversity), (Mode::Dense, 0.0));
        assert_eq!((options.fusion.method, options.fusion.k), (FusionMethod::Rrf, 10.0));
        assert_eq!(options.candidates, RetrievalOptions::default().candidates);
    }

    #[test]
    fn what_is_out_of_range_is_named_with_the_range() {
        for (json, field) in [
            (serde_json::json!({"candidates": 0}), "retrieval.candidates"),
            (serde_json::json!({"diversity": 1.5}), "retrieval.diversity"),
            (serde_json::json!({"fusion": {"method": "rrf", "k": 0.0}}), "retrieval.fusion.k"),
            (serde_json::json!({"decay": {"field": "d", "half_life_days": 0.0}}), "half_life_days"),
        ] {
            let error = RetrievalOptions::default().with(&change(json)).check().unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("from"), "{error}");
        }
        assert!(serde_json::from_value::<RetrievalChange>(serde_json::json!({"mod": "dense"})).is_err());
    }
}
