//! One collection as the journal and the indexer see it: its settings, its
//! state behind a lock, and the place of its log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::config::CollectionConfig;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::state::{Applied, State};

pub(crate) struct Shard {
    pub(crate) name: String,
    /// Number of the log in the store.
    pub(crate) log: u32,
    pub(crate) config: CollectionConfig,
    pub(crate) state: RwLock<State>,
    next_seq: AtomicU64,
    dropped: AtomicBool,
    /// Whether a graph of this collection is being built.
    pub(crate) indexing: AtomicBool,
}

impl Shard {
    pub(crate) fn new(name: String, log: u32, config: CollectionConfig, state: State, next_seq: u64) -> Self {
        Self {
            name,
            log,
            config,
            state: RwLock::new(state),
            next_seq: AtomicU64::new(next_seq),
            dropped: AtomicBool::new(false),
            indexing: AtomicBool::new(false),
        }
    }

    /// The seq for the next operation. Only the journal's leader calls this,
    /// so seqs reach the log and the state in order.
    pub(crate) fn take_seq(&self) -> u64 {
        self.next_seq.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn apply(&self, seq: u64, op: Op) -> Applied {
        self.state.write().apply(seq, op)
    }

    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    pub(crate) fn check_there(&self) -> Result<()> {
        if self.is_dropped() {
            return Err(Error::UnknownCollection { name: self.name.clone() });
        }
        Ok(())
    }
}
