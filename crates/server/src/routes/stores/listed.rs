//! The documents of stores as they were listed last.
//!
//! A client follows a long list page by page, and each page needs all of it in
//! order. What was read for one serves the next until the collection changes.

use std::sync::Arc;

use cairn_index::CollectionConfig;
use cairn_rag::DocumentEntry;
use parking_lot::Mutex;

use crate::app::App;
use crate::error::ApiResult;

/// Lists that are kept, and the documents of one that is.
const LISTS: usize = 4;
const DOCUMENTS: usize = 100_000;
/// Counts that are kept.
const COUNTS: usize = 1000;

/// Lists and counts that were made last, the newest first.
#[derive(Default)]
pub(crate) struct Listed {
    lists: Mutex<Vec<(As, Arc<Vec<DocumentEntry>>)>>,
    counts: Mutex<Vec<(As, usize)>>,
}

/// A collection as it was. One that was made anew has settings of its own, be they
/// the same.
#[derive(Clone)]
struct As {
    name: String,
    config: Arc<CollectionConfig>,
    seq: u64,
}

impl As {
    fn of(app: &App, store: &str) -> ApiResult<Self> {
        let collection = app.engine.database().collection(store)?;
        let (config, seq) = (collection.config(), collection.reading()?.seq());
        Ok(Self { name: store.to_owned(), config, seq })
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.seq == other.seq && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Listed {
    /// The documents of a store, in no order.
    pub(super) fn documents(&self, app: &App, store: &str) -> ApiResult<Arc<Vec<DocumentEntry>>> {
        // From before it is read: what changes meanwhile is read again.
        let now = As::of(app, store)?;
        let known = self.lists.lock().iter().find(|(at, _)| at.is(&now)).map(|(_, list)| list.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let list = Arc::new(app.engine.documents(store)?);
        if list.len() <= DOCUMENTS {
            keep(&mut self.lists.lock(), now, list.clone(), LISTS);
        }
        Ok(list)
    }

    /// How many documents a store has.
    pub(super) fn count(&self, app: &App, store: &str) -> ApiResult<usize> {
        let now = As::of(app, store)?;
        let known = self.counts.lock().iter().find(|(at, _)| at.is(&now)).map(|(_, count)| *count);
        if let Some(known) = known {
            return Ok(known);
        }
        let count = app.engine.count_documents(store)?;
        keep(&mut self.counts.lock(), now, count, COUNTS);
        Ok(count)
    }
}

fn keep<T>(known: &mut Vec<(As, T)>, now: As, what: T, most: usize) {
    known.retain(|(at, _)| at.name != now.name);
    known.insert(0, (now, what));
    known.truncate(most);
}
