//! What is known of a job: a record that outlives a restart, and how it is shown.

use cairn_index::DateTime;
use cairn_rag::{Added, ChunkChange, Format};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Access, Level};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobState)]
pub(crate) enum State {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an upload says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// As the request named it, which may be an alias.
    pub(crate) asked: String,
    /// The collection that the upload goes into.
    pub(crate) collection: String,
    /// Whether it was there; one that was and is gone is not made again.
    pub(crate) was_there: bool,
    /// What the entries are.
    pub(crate) kind: Kind,
    /// How the texts of documents are written.
    pub(crate) format: Format,
    pub(crate) chunk: Option<ChunkChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Files of any format; the name of one is its document's id.
    Files,
    /// Documents, each as JSON.
    Documents,
}

/// How much of an upload came to what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) files_done: u64,
    pub(crate) bytes_done: u64,
    pub(crate) documents: u64,
    pub(crate) unchanged: u64,
    pub(crate) passages: u64,
    pub(crate) tokens: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn take(&mut self, added: &Added) {
        self.documents += added.documents as u64;
        self.unchanged += added.unchanged as u64;
        self.passages += added.passages as u64;
        self.tokens += added.tokens as u64;
    }
}

/// A file that could not be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FileFailure {
    /// Its name.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: String,
}

/// Reasons that are kept; more failures are only counted.
const KEPT_REASONS: usize = 1000;

/// A job as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// Jobs are done in this order.
    pub(crate) number: u64,
    pub(crate) about: About,
    pub(crate) state: State,
    pub(crate) cancel_asked: bool,
    /// Milliseconds since 1970, as the other times.
    pub(crate) created_at: u64,
    pub(crate) started_at: Option<u64>,
    pub(crate) ended_at: Option<u64>,
    /// Where in the upload the first entry begins that is not done.
    pub(crate) at: u64,
    pub(crate) counts: Counts,
    pub(crate) failures: Vec<FileFailure>,
    pub(crate) error: Option<String>,
}

impl Job {
    pub(crate) fn fail_file(&mut self, name: String, reason: String) {
        self.counts.failed += 1;
        if self.failures.len() < KEPT_REASONS {
            self.failures.push(FileFailure { name, reason });
        }
    }

    /// Whether whoever asks may use the collection of this job so.
    pub(crate) fn allows(&self, access: &Access, level: Level) -> bool {
        access.allows(&self.about.collection, level) || access.allows(&self.about.asked, level)
    }

    /// As it is shown; `before` are the jobs that come before it.
    pub(crate) fn shown(&self, before: Option<usize>) -> Shown {
        let time = |millis: u64| DateTime::from_millis(millis).to_string();
        let Counts { files, bytes, files_done, bytes_done, documents, unchanged, passages, tokens, failed } =
            self.counts;
        Shown {
            id: self.id.clone(),
            collection: self.about.collection.clone(),
            state: self.state,
            cancel_asked: self.cancel_asked && !self.state.is_over(),
            before,
            created_at: time(self.created_at),
            started_at: self.started_at.map(time),
            ended_at: self.ended_at.map(time),
            files,
            files_done,
            bytes,
            bytes_done,
            documents,
            unchanged,
            passages,
            tokens,
            failed,
            failures: Some(self.failures.clone()),
            error: self.error.clone(),
        }
    }
}

/// A job as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) collection: String,
    pub(crate) state: State,
    /// It runs and ends soon, because it is to be cancelled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cancel_asked: bool,
    /// While it is queued: jobs that come before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<usize>,
    /// RFC 3339.
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    /// Files that came, or documents of a JSON body.
    pub(crate) files: u64,
    pub(crate) files_done: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_done: u64,
    /// Documents written.
    pub(crate) documents: u64,
    /// Documents that were there already as they are, and were skipped.
    pub(crate) unchanged: u64,
    pub(crate) passages: u64,
    pub(crate) tokens: u64,
    /// Files that could not be added.
    pub(crate) failed: u64,
    /// Why, for the first thousand of them. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failures: Option<Vec<FileFailure>>,
    /// Why the job failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}
