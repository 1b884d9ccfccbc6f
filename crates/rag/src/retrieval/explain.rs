//! How passages came to be where they are, told on request.

use std::collections::HashMap;
use std::time::Instant;

use cairn_index::PointId;
use serde::{Deserialize, Serialize};

/// One stage of a retrieval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `rewrite`, `embed`, `dense`, `sparse`, `fuse`, `rerank`, `decay`,
    /// `diversify`, `expand` or `read`.
    pub stage: String,
    /// What it worked with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// Passages, or texts, that came out of it.
    pub found: usize,
    /// Microseconds it took.
    pub micros: u64,
}

/// Where one passage stood after a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// As in [`Stage`].
    pub stage: String,
    /// From 1.
    pub rank: usize,
    /// The score that the stage gave it.
    pub score: f32,
}

/// Collects stages and steps while a search runs; nothing unless asked to.
pub(crate) struct Trace {
    wanted: bool,
    last: Instant,
    pub(crate) stages: Vec<Stage>,
    steps: HashMap<PointId, Vec<Step>>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, last: Instant::now(), stages: Vec::new(), steps: HashMap::new() }
    }

    /// A stage is done; its time began when the one before it ended.
    pub(crate) fn stage(&mut self, stage: &str, found: usize, detail: impl FnOnce() -> Option<String>) {
        if self.wanted {
            let micros = self.last.elapsed().as_micros() as u64;
            self.stages.push(Stage { stage: stage.to_owned(), detail: detail(), found, micros });
            self.last = Instant::now();
        }
    }

    /// A stage that put points into an order is done.
    pub(crate) fn ranked(
        &mut self,
        stage: &str,
        ranked: &[(PointId, f32)],
        detail: impl FnOnce() -> Option<String>,
    ) {
        self.stage(stage, ranked.len(), detail);
        if !self.wanted {
            return;
        }
        for (rank, (id, score)) in (1..).zip(ranked) {
            let step = Step { stage: stage.to_owned(), rank, score: *score };
            self.steps.entry(*id).or_default().push(step);
        }
    }

    /// The path of one passage.
    pub(crate) fn path(&mut self, id: PointId) -> Vec<Step> {
        self.steps.remove(&id).unwrap_or_default()
    }
}
