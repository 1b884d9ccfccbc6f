//! Files that are to be added to a vector store, and what became of those that
//! were not: records that outlive a restart.

use cairn_rag::ChunkChange;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A file that is to be added, as a request names it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) file_id: String,
    #[serde(default)]
    pub(crate) attributes: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) chunking_strategy: Option<Value>,
}

impl Wanted {
    pub(crate) fn plain(file_id: String) -> Self {
        Self { file_id, attributes: None, chunking_strategy: None }
    }
}

/// A file that is to be added, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adding {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) attributes: Map<String, Value>,
    /// How it is to be cut, where it is not like the others of its store.
    pub(crate) chunk: Option<ChunkChange>,
}

/// Files that one request wants added to one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    /// Orders are worked off in this order.
    pub(crate) number: u64,
    pub(crate) store: String,
    pub(crate) batch: Option<String>,
    /// Seconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) files: Vec<Adding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum State {
    InProgress,
    Failed { code: String, message: String },
    Cancelled,
}

/// A file that is not in its store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) store: String,
    /// The order that it came with.
    pub(crate) order: String,
    pub(crate) created_at: u64,
    #[serde(flatten)]
    pub(crate) adding: Adding,
    #[serde(flatten)]
    pub(crate) state: State,
}

impl Pending {
    pub(super) fn of(order: &Order, adding: &Adding, state: State) -> Self {
        Self {
            store: order.store.clone(),
            order: order.id.clone(),
            created_at: order.created_at,
            adding: adding.clone(),
            state,
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) in_progress: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled: usize,
}

/// Files that are added together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) store: String,
    pub(crate) created_at: u64,
    pub(crate) files: Vec<String>,
    pub(crate) cancelled: bool,
}

/// When a store was used last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    pub(crate) store: String,
    /// Seconds since 1970.
    pub(crate) at: u64,
}
