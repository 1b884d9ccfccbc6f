//! Group commit: many writers, one trip to the disk.
//!
//! Writers queue their operations; whoever holds the lead takes all that is
//! queued, writes it durably in one go, applies it in order of seq and leaves
//! each writer its result. An operation is applied, and answered, only after
//! it is on the disk. Once the disk fails nothing more is written.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::owner::Room;
use crate::shard::Shard;
use crate::state::Applied;
use crate::store::{Record, Store};

/// Bytes written in one go at most, so that no writer waits for ever.
const MAX_COMMIT_BYTES: usize = 64 << 20;

pub(crate) struct Journal {
    store: Arc<dyn Store>,
    room: Room,
    queue: Mutex<Vec<Entry>>,
    lead: Mutex<()>,
    failure: Mutex<Option<String>>,
}

struct Entry {
    shard: Arc<Shard>,
    op: Op,
    bytes: Vec<u8>,
    ticket: Ticket,
}

type Ticket = Arc<Mutex<Option<Result<Applied>>>>;

impl Journal {
    pub(crate) fn new(store: Arc<dyn Store>, room: Room) -> Self {
        Self { store, room, queue: Mutex::default(), lead: Mutex::default(), failure: Mutex::default() }
    }

    /// Makes an operation durable, applies it and returns what it changed.
    pub(crate) fn commit(&self, shard: &Arc<Shard>, op: Op) -> Result<Applied> {
        shard.check_there()?;
        self.check_writable()?;
        let bytes = op.encode()?;
        let ticket = Ticket::default();
        self.queue.lock().push(Entry { shard: shard.clone(), op, bytes, ticket: ticket.clone() });
        self.await_turn(&ticket)
    }

    /// Waits for the result of a queued operation, or takes the lead.
    fn await_turn(&self, ticket: &Ticket) -> Result<Applied> {
        loop {
            let lead = self.lead.lock();
            if let Some(result) = ticket.lock().take() {
                return result;
            }
            if !self.queue.lock().iter().any(|entry| Arc::ptr_eq(&entry.ticket, ticket)) {
                return Err(self.give_up());
            }
            self.commit_queued();
            drop(lead);
        }
    }

    /// An operation was taken from the queue by a writer that panicked: whether it
    /// is on the disk or applied is not known, so nothing may follow it.
    fn give_up(&self) -> Error {
        let cause = Error::Store {
            action: "appending to a log",
            reason: "the writer that had the lead panicked".to_owned(),
        };
        self.fail(&cause);
        Error::ReadOnly { cause: cause.to_string() }
    }

    /// Runs `action` while no operation is being written.
    pub(crate) fn exclusively<T>(&self, action: impl FnOnce() -> T) -> T {
        let _lead = self.lead.lock();
        action()
    }

    /// Takes no more writes: the disk failed where nothing can be lost silently.
    pub(crate) fn fail(&self, error: &Error) {
        let cause = error.to_string();
        tracing::error!(%cause, "writing failed, no more writes are taken");
        self.failure.lock().get_or_insert(cause);
    }

    /// Checks that the disk has room for this and the reserve.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        self.room.check(bytes)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.failure() {
            Some(cause) => Err(Error::ReadOnly { cause }),
            None => Ok(()),
        }
    }

    /// Writes and applies what is queued. The caller has the lead.
    fn commit_queued(&self) {
        let mut entries = self.take_queued();
        // Refused before the log: the collection went away, or there is no room.
        entries.retain(|entry| match entry.shard.check_there() {
            Ok(()) => true,
            Err(error) => {
                *entry.ticket.lock() = Some(Err(error));
                false
            }
        });
        let needed: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        if let Err(error) = self.check_writable().and_then(|()| self.room.check(needed as u64)) {
            refuse(&entries, &error);
            return;
        }
        let mut records: Vec<Record> = entries
            .iter_mut()
            .map(|entry| Record {
                log: entry.shard.log(),
                seq: entry.shard.take_seq(),
                bytes: std::mem::take(&mut entry.bytes),
            })
            .collect();
        let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
        records.sort_by_key(|record| (record.log, record.seq));
        if let Err(error) = self.store.append(&records) {
            self.fail(&error);
            refuse(&entries, &Error::ReadOnly { cause: error.to_string() });
            return;
        }
        for (entry, seq) in entries.into_iter().zip(seqs) {
            let applied = entry.shard.apply(seq, entry.op);
            *entry.ticket.lock() = Some(Ok(applied));
        }
    }

    fn take_queued(&self) -> Vec<Entry> {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let count = queue
            .iter()
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes.len();
                first || bytes <= MAX_COMMIT_BYTES
            })
            .count();
        queue.drain(..count).collect()
    }
}

fn refuse(entries: &[Entry], error: &Error) {
    for entry in entries {
        *entry.ticket.lock() = Some(Err(match error {
            Error::DiskFull { path, free_bytes, needed_bytes } => {
                Error::DiskFull { path: path.clone(), free_bytes: *free_bytes, needed_bytes: *needed_bytes }
            }
            Error::ReadOnly { cause } => Error::ReadOnly { cause: cause.clone() },
            other => Error::ReadOnly { cause: other.to_string() },
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalogue;
    use crate::op::{Change, Selection};
    use crate::shard::Catalogued;
    use crate::state::State;
    use crate::{CollectionConfig, Metric};

    /// Panics when it is to write.
    struct Broken;

    impl Store for Broken {
        fn append(&self, _: &[Record]) -> Result<()> {
            panic!("a bug of the store")
        }
        fn replay(&self, _: u64, _: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()> {
            Ok(())
        }
        fn forget(&self, _: u64) -> Result<()> {
            Ok(())
        }
        fn shrink(&self) -> Result<()> {
            Ok(())
        }
        fn shrink_if_mostly_free(&self) -> Result<()> {
            Ok(())
        }
        fn logs(&self) -> Result<Vec<u64>> {
            Ok(Vec::new())
        }
        fn put(&self, _: &str, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn remove(&self, _: &str) -> Result<()> {
            Ok(())
        }
        fn list(&self, _: &str) -> Result<Vec<(String, Vec<u8>)>> {
            Ok(Vec::new())
        }
    }

    fn shard(dir: &std::path::Path) -> Arc<Shard> {
        let config = CollectionConfig::new(1, Metric::Dot);
        let state = State::new(0, Arc::new(config.clone()), crate::part::VectorUids::new(), Vec::new());
        let entry = catalogue::Entry::new(1, config);
        let catalogued = Catalogued { entry, marks: BTreeMap::new() };
        Arc::new(Shard::new("c".to_owned(), dir.to_owned(), state, catalogued, 0, Vec::new()))
    }

    #[test]
    fn writers_do_not_wait_for_ever_for_one_that_panicked() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room { dir: dir.path().to_owned(), min_free_bytes: 0 };
        let journal = Journal::new(Arc::new(Broken), room);
        let shard = shard(dir.path());
        let delete = || Op::one(Change::Delete(Selection::Ids(Vec::new())));
        // One who waits, and whose operation the next one takes along.
        let (waits, op) = (Ticket::default(), delete());
        let bytes = op.encode().unwrap();
        journal.queue.lock().push(Entry { shard: shard.clone(), op, bytes, ticket: waits.clone() });
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| journal.commit(&shard, delete()));
            assert!(leader.join().is_err());
        });
        assert!(journal.queue.lock().is_empty());
        assert!(matches!(journal.await_turn(&waits), Err(Error::ReadOnly { .. })));
        assert!(matches!(journal.commit(&shard, delete()), Err(Error::ReadOnly { .. })));
    }
}
