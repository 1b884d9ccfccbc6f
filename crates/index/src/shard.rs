//! One collection as the journal and the maintenance see it: its state behind
//! a lock, its catalogue entry behind another, and the place of its log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::catalogue::{Entry, log_id};
use crate::config::CollectionConfig;
use crate::error::{Error, Result};
use crate::id::PointId;
use crate::maintain::linking::Draft;
use crate::op::Op;
use crate::part::Marks;
use crate::state::{Applied, State};
use crate::view::{Place, View};

pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// The folder of its segments.
    pub(crate) dir: PathBuf,
    pub(crate) state: RwLock<State>,
    /// The view of the state as it is, or as it was before the change that is
    /// being made now: nobody was told of that yet.
    pictured: RwLock<Option<View>>,
    /// What the store has; held while it is being changed.
    pub(crate) catalogued: Mutex<Catalogued>,
    /// Held by whoever merges and builds.
    pub(crate) optimizer: Mutex<()>,
    /// Graphs that follow the growing part.
    pub(crate) draft: Mutex<Option<Draft>>,
    /// The log that operations go to. Changed only between two commits.
    log: AtomicU64,
    next_seq: AtomicU64,
    dropped: AtomicBool,
    /// As in the settings, for who cannot wait for a change to be done.
    string_ids: AtomicBool,
    pub(crate) wants: Wants,
    pub(crate) damaged: Mutex<Vec<Damage>>,
}

/// The entry as it is in the store, and the marks it names.
pub(crate) struct Catalogued {
    pub(crate) entry: Entry,
    pub(crate) marks: BTreeMap<u64, Marks>,
}

/// What the maintenance was asked for and has not begun.
#[derive(Default)]
pub(crate) struct Wants {
    pub(crate) sealing: AtomicBool,
    pub(crate) optimizing: AtomicBool,
    pub(crate) linking: AtomicBool,
    /// Jobs that were asked for and are not done.
    pub(crate) jobs: AtomicUsize,
    /// Whether the segments were read through since opening.
    pub(crate) scrubbed: AtomicBool,
    /// When sealing failed last, milliseconds since 1970.
    pub(crate) failed_ms: AtomicU64,
}

/// A segment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The collection.
    pub collection: String,
    /// The segment file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Shard {
    pub(crate) fn new(
        name: String,
        dir: PathBuf,
        state: State,
        catalogued: Catalogued,
        generation: u32,
        damaged: Vec<Damage>,
    ) -> Self {
        let uid = catalogued.entry.uid;
        Self {
            name,
            uid,
            dir,
            next_seq: AtomicU64::new(state.applied + 1),
            string_ids: AtomicBool::new(state.config.string_ids),
            state: RwLock::new(state),
            pictured: RwLock::default(),
            catalogued: Mutex::new(catalogued),
            optimizer: Mutex::default(),
            draft: Mutex::default(),
            log: AtomicU64::new(log_id(uid, generation)),
            dropped: AtomicBool::new(false),
            wants: Wants::default(),
            damaged: Mutex::new(damaged),
        }
    }

    pub(crate) fn config(&self) -> Arc<CollectionConfig> {
        self.state.read().config.clone()
    }

    /// Whether ids may be any string. Waits for nobody.
    pub(crate) fn takes_string_ids(&self) -> bool {
        self.string_ids.load(Ordering::Acquire)
    }

    /// Changes the state.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write();
        let changed = change(&mut state);
        self.string_ids.store(state.config.string_ids, Ordering::Release);
        let before = self.pictured.write().take();
        // What it alone still held is given back while nobody waits.
        drop(state);
        drop(before);
        changed
    }

    /// A picture of the state. Waits for no change but one that begins right
    /// after another.
    pub(crate) fn view(&self) -> Result<View> {
        self.check_there()?;
        if let Some(view) = &*self.pictured.read() {
            return Ok(view.now());
        }
        let state = self.state.read();
        let view = state.view();
        *self.pictured.write() = Some(view.clone());
        Ok(view)
    }

    /// A view, and where some points are in it.
    pub(crate) fn view_of(&self, ids: &[PointId]) -> Result<(View, Vec<Option<Place>>)> {
        self.check_there()?;
        let state = self.state.read();
        let view = state.view();
        let places = state.find(ids, view.now_ms);
        Ok((view, places))
    }

    /// The log that operations go to. Only the journal's leader may rely on it.
    pub(crate) fn log(&self) -> u64 {
        self.log.load(Ordering::Acquire)
    }

    /// Begins a new log. The caller has the journal's lead.
    pub(crate) fn next_log(&self) -> u64 {
        self.log.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The seq for the next operation. Only the journal's leader calls this,
    /// so seqs reach the log and the state in order.
    pub(crate) fn take_seq(&self) -> u64 {
        self.next_seq.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn apply(&self, seq: u64, op: Op) -> Applied {
        self.change(|state| state.apply(seq, op))
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
