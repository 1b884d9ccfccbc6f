//! What is on its way into the vector stores: orders, batches, and files that
//! could not be added, all of which outlive a restart.
//!
//! An order is a record that goes away once each of its files is in the store or
//! has a record that says why it is not. After a restart the orders that are left
//! are worked off from their beginning; a file that is there by then is left as it
//! is. How a file is added is said in `adding`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;

use cairn_embed::Cancel;
use parking_lot::Mutex;
use uuid::Uuid;

use super::pending::{Batch, Counts, Order, Pending, State, Use};
use crate::error::ApiResult;
use crate::files::{Records, now};

/// That a store was used is written down so many seconds after the last time.
const USES_KEPT_S: u64 = 60;

/// What is on its way into the stores of a data directory.
pub(crate) struct Attaching {
    orders: Records<Order>,
    files: Records<Pending>,
    batches: Records<Batch>,
    uses: Records<Use>,
    known: Mutex<Known>,
    active: Mutex<HashMap<String, Active>>,
    /// Set when the process is to end.
    pub(super) stopping: Cancel,
}

/// As the records are.
#[derive(Default)]
struct Known {
    pending: BTreeMap<(String, String), Pending>,
    batches: HashMap<String, Batch>,
    /// The orders of each store, the first of which is worked off.
    queues: HashMap<String, VecDeque<Order>>,
    /// The stores that a thread works on.
    working: HashSet<String>,
    numbers: u64,
}

/// When a store was used last, and what of that is written down.
#[derive(Default, Clone, Copy)]
struct Active {
    at: u64,
    kept: u64,
}

/// What is to be done about a file of an order.
pub(super) enum Turn {
    Add,
    /// Its batch was cancelled.
    Cancelled,
    /// Its outcome is known, it was removed, or a later order has it too.
    Over,
}

impl Attaching {
    /// Takes up what was there when the process before ended.
    pub(crate) fn open(data_dir: &Path) -> Self {
        let folder = data_dir.join("vector_stores");
        let this = Self {
            orders: Records::new(folder.join("orders")),
            files: Records::new(folder.join("files")),
            batches: Records::new(folder.join("batches")),
            uses: Records::new(folder.join("uses")),
            known: Mutex::default(),
            active: Mutex::default(),
            stopping: Cancel::new(),
        };
        let mut known = Known::default();
        for outcome in this.files.all() {
            known.pending.insert((outcome.store.clone(), outcome.adding.file.clone()), outcome);
        }
        known.batches.extend(this.batches.all().into_iter().map(|batch| (batch.id.clone(), batch)));
        let mut orders = this.orders.all();
        orders.sort_by_key(|order| order.number);
        known.numbers = orders.last().map_or(0, |order| order.number);
        for order in orders {
            known.expect(&order);
            known.queues.entry(order.store.clone()).or_default().push_back(order);
        }
        *this.known.lock() = known;
        let uses = this.uses.all().into_iter();
        *this.active.lock() = uses.map(|used| (used.store, Active { at: used.at, kept: used.at })).collect();
        this
    }

    /// The stores that have orders.
    pub(super) fn waiting(&self) -> Vec<String> {
        self.known.lock().queues.keys().cloned().collect()
    }

    /// All stores that something is known of.
    pub(super) fn stores(&self) -> Vec<String> {
        let known = self.known.lock();
        let mut stores: Vec<String> = known.queues.keys().cloned().collect();
        stores.extend(known.pending.keys().map(|(store, _)| store.clone()));
        stores.extend(known.batches.values().map(|batch| batch.store.clone()));
        stores.extend(self.active.lock().keys().cloned());
        stores.sort();
        stores.dedup();
        stores
    }

    /// Takes an order, and the batch that it is.
    pub(super) fn take(&self, mut order: Order, batch: Option<Batch>) -> ApiResult<()> {
        let mut known = self.known.lock();
        known.numbers += 1;
        order.number = known.numbers;
        if let Some(batch) = batch {
            self.batches.put(&batch.id, &batch)?;
            known.batches.insert(batch.id.clone(), batch);
        }
        if order.files.is_empty() {
            return Ok(());
        }
        self.orders.put(&order.id, &order)?;
        for adding in &order.files {
            self.files.delete(&record(&order.store, &adding.file))?;
        }
        known.expect(&order);
        known.queues.entry(order.store.clone()).or_default().push_back(order);
        Ok(())
    }

    /// Whether a thread is to work on this store: it has orders, and there is none.
    pub(super) fn begin(&self, store: &str) -> bool {
        let mut known = self.known.lock();
        known.queues.contains_key(store) && known.working.insert(store.to_owned())
    }

    /// No thread works on this store.
    pub(super) fn end(&self, store: &str) {
        self.known.lock().working.remove(store);
    }

    /// The order of a store whose turn it is; with none, nobody works on the store
    /// any more.
    pub(super) fn order(&self, store: &str) -> Option<Order> {
        let mut known = self.known.lock();
        let first = known.queues.get(store).and_then(|queue| queue.front()).cloned();
        if first.is_none() {
            known.queues.remove(store);
            known.working.remove(store);
        }
        first
    }

    pub(super) fn turn(&self, order: &Order, file: &str) -> Turn {
        let known = self.known.lock();
        let pending = known.pending.get(&(order.store.clone(), file.to_owned()));
        let is_next =
            pending.is_some_and(|pending| pending.order == order.id && pending.state == State::InProgress);
        let batch = order.batch.as_ref().and_then(|batch| known.batches.get(batch));
        match is_next {
            false => Turn::Over,
            true if batch.is_some_and(|batch| batch.cancelled) => Turn::Cancelled,
            true => Turn::Add,
        }
    }

    /// A file of an order was added, or was not; whether it is still wanted.
    pub(super) fn settle(&self, order: &Order, file: &str, state: Option<State>) -> bool {
        let key = (order.store.clone(), file.to_owned());
        let mut known = self.known.lock();
        let Some(pending) = known.pending.get_mut(&key) else { return false };
        if pending.order != order.id {
            return true;
        }
        let Some(state) = state else {
            known.pending.remove(&key);
            return true;
        };
        pending.state = state;
        if let Err(error) = self.files.put(&record(&key.0, &key.1), pending) {
            tracing::warn!(store = key.0, file, %error.text, "what became of a file cannot be kept");
        }
        true
    }

    /// An order is worked off.
    pub(super) fn finish(&self, order: &Order) {
        let mut known = self.known.lock();
        if let Some(queue) = known.queues.get_mut(&order.store) {
            queue.retain(|one| one.id != order.id);
        }
        if let Err(error) = self.orders.delete(&order.id) {
            tracing::warn!(order = order.id, %error.text, "an order that is done cannot be cleared away");
        }
    }

    pub(crate) fn get(&self, store: &str, file: &str) -> Option<Pending> {
        self.known.lock().pending.get(&(store.to_owned(), file.to_owned())).cloned()
    }

    /// Forgets a file that is not there; whether it was known.
    pub(crate) fn remove(&self, store: &str, file: &str) -> ApiResult<bool> {
        let mut known = self.known.lock();
        let orders = known.queues.get_mut(store).into_iter().flatten();
        // What was removed must not come back with the next start.
        for order in orders.filter(|order| order.files.iter().any(|adding| adding.file == file)) {
            order.files.retain(|adding| adding.file != file);
            self.orders.put(&order.id, order)?;
        }
        self.files.delete(&record(store, file))?;
        Ok(known.pending.remove(&(store.to_owned(), file.to_owned())).is_some())
    }

    pub(crate) fn all(&self, store: &str) -> Vec<Pending> {
        let known = self.known.lock();
        known.pending.values().filter(|pending| pending.store == store).cloned().collect()
    }

    pub(crate) fn counts(&self, store: &str) -> Counts {
        let mut counts = Counts::default();
        for pending in self.known.lock().pending.values().filter(|pending| pending.store == store) {
            match pending.state {
                State::InProgress => counts.in_progress += 1,
                State::Failed { .. } => counts.failed += 1,
                State::Cancelled => counts.cancelled += 1,
            }
        }
        counts
    }

    pub(crate) fn batch(&self, id: &str) -> Option<Batch> {
        self.known.lock().batches.get(id).cloned()
    }

    pub(crate) fn cancel_batch(&self, id: &str) -> ApiResult<()> {
        let mut known = self.known.lock();
        if let Some(batch) = known.batches.get_mut(id) {
            batch.cancelled = true;
            self.batches.put(id, batch)?;
        }
        Ok(())
    }

    /// Notes that a store was used; with `keep`, also for the next start.
    pub(crate) fn touch(&self, store: &str, keep: bool) {
        let mut active = self.active.lock();
        let active = active.entry(store.to_owned()).or_default();
        active.at = now();
        if keep && active.at >= active.kept + USES_KEPT_S {
            let used = Use { store: store.to_owned(), at: active.at };
            match self.uses.put(&record(store, ""), &used) {
                Ok(()) => active.kept = active.at,
                Err(error) => tracing::warn!(store, %error.text, "the use of a store cannot be kept"),
            }
        }
    }

    /// As `touch`, at another time.
    #[cfg(test)]
    pub(super) fn was_used(&self, used: &Use) {
        self.active.lock().insert(used.store.clone(), Active { at: used.at, kept: used.at });
        self.uses.put(&record(&used.store, ""), used).unwrap();
    }

    /// When a store was used last. One that nothing was written down of counts as
    /// used now, so that a restart never expires it.
    pub(crate) fn last_active(&self, store: &str, keep: bool) -> u64 {
        let known = self.active.lock().get(store).map(|active| active.at);
        known.unwrap_or_else(|| {
            self.touch(store, keep);
            now()
        })
    }

    /// Forgets a store that was deleted.
    pub(crate) fn forget(&self, store: &str) -> ApiResult<()> {
        let mut known = self.known.lock();
        for order in known.queues.get_mut(store).into_iter().flat_map(std::mem::take) {
            self.orders.delete(&order.id)?;
        }
        for (store, file) in known.pending.keys().filter(|(of, _)| of == store) {
            self.files.delete(&record(store, file))?;
        }
        for id in known.batches.values().filter(|batch| batch.store == store).map(|batch| &batch.id) {
            self.batches.delete(id)?;
        }
        known.pending.retain(|(of, _), _| of != store);
        known.batches.retain(|_, batch| batch.store != store);
        drop(known);
        self.active.lock().remove(store);
        self.uses.delete(&record(store, "")).map(drop)
    }

    /// Ends the work within a file; what is left is done after the next start.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }
}

impl Known {
    /// The files of an order are in progress from now on, but for those whose
    /// outcome is known.
    fn expect(&mut self, order: &Order) {
        for adding in &order.files {
            let key = (order.store.clone(), adding.file.clone());
            if self.pending.get(&key).is_none_or(|there| there.order != order.id) {
                self.pending.insert(key, Pending::of(order, adding, State::InProgress));
            }
        }
    }
}

/// The name of a record about a file of a store; stores may be called anything.
fn record(store: &str, file: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{store}\0{file}").as_bytes()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::pending::Adding;
    use super::*;

    fn order(id: &str, batch: Option<&str>, files: &[&str]) -> Order {
        let adding =
            |file: &&str| Adding { file: (*file).to_owned(), bytes: 4, attributes: Map::new(), chunk: None };
        Order {
            id: id.to_owned(),
            number: 0,
            store: "store".to_owned(),
            batch: batch.map(str::to_owned),
            created_at: 7,
            files: files.iter().map(adding).collect(),
        }
    }

    fn batch(id: &str, files: &[&str]) -> Batch {
        Batch {
            id: id.to_owned(),
            store: "store".to_owned(),
            created_at: 7,
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            cancelled: false,
        }
    }

    fn failure() -> State {
        State::Failed { code: "invalid_file".to_owned(), message: "it is broken".to_owned() }
    }

    #[test]
    fn what_is_not_done_goes_on_after_a_restart_and_what_failed_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let first = Attaching::open(dir.path());
        first.take(order("one", Some("batch"), &["a", "b", "c"]), Some(batch("batch", &["a"]))).unwrap();
        assert!(first.begin("store") && !first.begin("store") && !first.begin("another"));
        first.take(order("two", None, &["d"]), None).unwrap();
        let working = first.order("store").unwrap();
        first.settle(&working, "a", None);
        first.settle(&working, "b", Some(failure()));
        drop(first);

        let again = Attaching::open(dir.path());
        assert_eq!(again.waiting(), ["store"]);
        let working = again.order("store").unwrap();
        assert_eq!((working.id.as_str(), working.files.len()), ("one", 3));
        assert!(matches!(again.turn(&working, "a"), Turn::Add), "it is looked at again");
        assert!(matches!(again.turn(&working, "b"), Turn::Over));
        assert_eq!(again.get("store", "b").unwrap().state, failure());
        again.cancel_batch("batch").unwrap();
        drop(again);

        let last = Attaching::open(dir.path());
        let working = last.order("store").unwrap();
        assert!(matches!(last.turn(&working, "c"), Turn::Cancelled));
        for file in ["a", "c"] {
            last.settle(&working, file, Some(State::Cancelled));
        }
        last.finish(&working);
        let working = last.order("store").unwrap();
        assert_eq!(working.id, "two");
        last.settle(&working, "d", None);
        last.finish(&working);
        assert!(last.order("store").is_none());
        let Counts { in_progress, failed, cancelled } = last.counts("store");
        assert_eq!((in_progress, failed, cancelled), (0, 1, 2));
        drop(last);

        let over = Attaching::open(dir.path());
        assert!(over.waiting().is_empty() && over.batch("batch").unwrap().cancelled);
        assert_eq!(over.get("store", "c").unwrap().state, State::Cancelled);
        over.forget("store").unwrap();
        assert!(Attaching::open(dir.path()).stores().is_empty());
    }

    #[test]
    fn a_file_that_was_removed_does_not_come_back_with_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = Attaching::open(dir.path());
        first.take(order("one", None, &["a", "b"]), None).unwrap();
        assert!(first.remove("store", "b").unwrap());
        assert!(!first.remove("store", "b").unwrap());
        let working = first.order("store").unwrap();
        assert!(matches!(first.turn(&working, "b"), Turn::Over));
        assert!(!first.settle(&working, "b", None), "nobody wants it");
        let again = Attaching::open(dir.path());
        assert!(again.get("store", "b").is_none() && again.get("store", "a").is_some());
    }

    #[test]
    fn a_file_that_is_added_again_belongs_to_the_later_order() {
        let dir = tempfile::tempdir().unwrap();
        let this = Attaching::open(dir.path());
        this.take(order("one", None, &["a"]), None).unwrap();
        let one = this.order("store").unwrap();
        this.take(order("two", None, &["a"]), None).unwrap();
        this.settle(&one, "a", Some(failure()));
        assert_eq!(this.get("store", "a").unwrap().state, State::InProgress);
        assert!(matches!(this.turn(&one, "a"), Turn::Over));
        let again = Attaching::open(dir.path());
        assert_eq!(again.get("store", "a").unwrap().order, "two");
    }

    #[test]
    fn the_last_use_of_a_store_outlives_a_restart_where_it_matters() {
        let dir = tempfile::tempdir().unwrap();
        let first = Attaching::open(dir.path());
        first.touch("kept", true);
        first.touch("another", false);
        let at = first.last_active("kept", true);
        let again = Attaching::open(dir.path());
        assert_eq!(again.stores(), ["kept"]);
        assert_eq!(again.last_active("kept", true), at);
        again.uses.put(&record("kept", ""), &Use { store: "kept".to_owned(), at: 5 }).unwrap();
        let later = Attaching::open(dir.path());
        assert_eq!(later.last_active("kept", true), 5);
        assert!(later.last_active("new", false) >= at);
    }
}
