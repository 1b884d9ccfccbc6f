//! Work in the background: sealing, merging, and what is derived from segments.
//!
//! One thread seals, so that memory and the log stay small; another merges and
//! builds, which takes longer; a third links recent points while they are
//! searched. All leave readers and writers the processor, as `priority` says,
//! and change nothing that readers see but for the moment in which a finished segment takes the place
//! of the parts it was made from. The catalogue changes first: a crash at any
//! point leaves either the old parts or the new one, and files that nobody
//! names are removed when the database is opened.
//!
//! A merge takes the rows that are live in the catalogue, not those that are
//! live now: the log is replayed onto what the catalogue says.

mod derive;
pub(crate) mod linking;
mod policy;
mod priority;

pub(crate) use self::derive::load as load_derived;

use self::priority::Priority;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::catalogue::{self, Entry, SegmentEntry, generation_of, log_id, segment_path, uid_of};
use crate::config::Options;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::part::{Derived, Marks, Part, PartRows};
use crate::picked::Picked;
use crate::point::now_ms;
use crate::segment::{self, Segment};
use crate::shard::{Catalogued, Damage, Shard};
use crate::state::State;
use crate::store::Store;
use crate::view::View;

/// How long sealing rests after it failed.
const RETRY_MS: u64 = 5_000;
/// How fast segments are read through after opening.
const SCRUB_BYTES_PER_SECOND: f64 = 200e6;
/// Writers help to seal when this many times the usual is waiting.
const BEHIND: usize = 6;

/// Does the background work until it is dropped.
pub(crate) struct Maintenance {
    work: Arc<Work>,
    seal: Mutex<Option<Sender<Arc<Shard>>>>,
    optimize: Mutex<Option<Sender<Arc<Shard>>>>,
    link: Mutex<Option<Sender<Arc<Shard>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Work {
    store: Arc<dyn Store>,
    journal: Arc<Journal>,
    options: Options,
    /// For merging and building.
    pool: rayon::ThreadPool,
    /// For linking, which must not wait for those.
    linking: linking::Pools,
    stopping: AtomicBool,
}

impl Maintenance {
    pub(crate) fn start(store: Arc<dyn Store>, journal: Arc<Journal>, options: Options) -> Result<Self> {
        let pool = threads("build", options.background_threads(), Priority::Idle)?;
        let linking = linking::Pools {
            usual: threads("link", 1, Priority::Idle)?,
            behind: threads("link-behind", 1, Priority::Low)?,
        };
        let stopping = AtomicBool::new(false);
        let work = Arc::new(Work { store, journal, options, pool, linking, stopping });
        let (seal, seals) = mpsc::channel();
        let (optimize, optimizations) = mpsc::channel();
        let (link, links) = mpsc::channel();
        let (sealer, optimizer, linker) = (work.clone(), work.clone(), work.clone());
        let next = optimize.clone();
        let threads = vec![
            spawn("cairn-sealer", Priority::Low, move || sealer.seal_asked(&seals, &next))?,
            spawn("cairn-optimizer", Priority::Idle, move || optimizer.optimize_asked(&optimizations))?,
            spawn("cairn-linker", Priority::Low, move || linker.link_asked(&links))?,
        ];
        Ok(Self {
            work,
            seal: Mutex::new(Some(seal)),
            optimize: Mutex::new(Some(optimize)),
            link: Mutex::new(Some(link)),
            threads: Mutex::new(threads),
        })
    }

    /// Called after each write: asks for sealing when it is due, and seals at
    /// once when the sealer cannot keep up.
    pub(crate) fn after_write(&self, shard: &Arc<Shard>) {
        let options = &self.work.options;
        let (growing, bytes, unsealed) = {
            let state = shard.state.read();
            (state.growing_points(), state.growing_bytes(), state.unsealed().1)
        };
        if growing < options.seal_points && bytes < options.seal_bytes {
            return;
        }
        let resting = now_ms() < shard.wants.failed_ms.load(Ordering::Relaxed) + RETRY_MS;
        if resting {
            return;
        }
        if unsealed > options.seal_bytes.saturating_mul(BEHIND) {
            self.work.seal_or_tell(shard);
            self.consider(shard);
        } else if let Some(jobs) = &*self.seal.lock() {
            ask(jobs, &shard.wants.sealing, shard);
        }
    }

    /// Called after each search: asks for a graph over recent points when
    /// comparing with them takes long.
    pub(crate) fn after_search(&self, shard: &Arc<Shard>, view: &View) {
        if linking::is_due(view)
            && !shard.wants.linking.load(Ordering::Relaxed)
            && let Some(jobs) = &*self.link.lock()
        {
            ask(jobs, &shard.wants.linking, shard);
        }
    }

    /// Asks for merging and building what is missing.
    pub(crate) fn consider(&self, shard: &Arc<Shard>) {
        if let Some(jobs) = &*self.optimize.lock() {
            ask(jobs, &shard.wants.optimizing, shard);
        }
    }

    /// Seals what was written and builds what is missing, now.
    pub(crate) fn index_now(&self, shard: &Arc<Shard>) -> Result<()> {
        self.work.seal(shard)?;
        self.work.optimize(shard, policy::Aim::Usual, None)
    }

    /// The same, and merges into as few segments as possible without dead rows.
    pub(crate) fn compact(&self, shard: &Arc<Shard>) -> Result<()> {
        self.work.seal(shard)?;
        self.work.optimize(shard, policy::Aim::Smallest, None)?;
        self.work.store.shrink()
    }

    /// Makes the catalogue true as of now, without a merge.
    pub(crate) fn seal(&self, shard: &Arc<Shard>) -> Result<()> {
        self.work.seal(shard)
    }
}

/// Asks for a job unless it was asked for and has not begun.
fn ask(jobs: &Sender<Arc<Shard>>, asked: &AtomicBool, shard: &Arc<Shard>) {
    if !asked.swap(true, Ordering::AcqRel) {
        shard.wants.jobs.fetch_add(1, Ordering::AcqRel);
        // The receiver lives as long as the sender is not taken.
        let _ = jobs.send(shard.clone());
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.work.stopping.store(true, Ordering::Release);
        self.seal.lock().take();
        self.optimize.lock().take();
        self.link.lock().take();
        for thread in self.threads.lock().drain(..) {
            // A panic of the thread was printed; it must not become a second one.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, priority: Priority, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        priority.take();
        run();
    });
    thread.map_err(Error::io("start a thread for", name))
}

fn threads(what: &'static str, count: usize, priority: Priority) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(move |number| format!("cairn-{what}-{number}"))
        .start_handler(move |_| priority.take())
        .build()
        .map_err(|error| Error::Request(format!("cannot start threads: {error}")))
}

impl Work {
    fn seal_asked(&self, jobs: &Receiver<Arc<Shard>>, next: &Sender<Arc<Shard>>) {
        for shard in jobs {
            shard.wants.sealing.store(false, Ordering::Release);
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            self.seal_or_tell(&shard);
            ask(next, &shard.wants.optimizing, &shard);
            shard.wants.jobs.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn seal_or_tell(&self, shard: &Shard) {
        if let Err(error) = self.seal(shard) {
            shard.wants.failed_ms.store(now_ms(), Ordering::Relaxed);
            if !shard.is_dropped() {
                tracing::error!(collection = shard.name, %error, "sealing failed, points stay in the log and in memory");
            }
        }
    }

    fn optimize_asked(&self, jobs: &Receiver<Arc<Shard>>) {
        for shard in jobs {
            shard.wants.optimizing.store(false, Ordering::Release);
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            if !shard.wants.scrubbed.swap(true, Ordering::AcqRel) {
                self.scrub(&shard);
            }
            if let Err(error) = self.optimize(&shard, policy::Aim::Usual, Some(&self.pool))
                && !self.is_cancelled(&shard)
            {
                tracing::error!(collection = shard.name, %error, "optimizing failed, searches scan instead");
            }
            shard.wants.jobs.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn link_asked(&self, jobs: &Receiver<Arc<Shard>>) {
        for shard in jobs {
            let cancelled = || self.is_cancelled(&shard);
            // Searches that find the shard asked for need not ask again.
            if let Err(error) = linking::follow(&shard, &self.linking, &cancelled)
                && !cancelled()
            {
                tracing::error!(collection = shard.name, %error, "recent points have no graph");
            }
            shard.wants.linking.store(false, Ordering::Release);
            shard.wants.jobs.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn is_cancelled(&self, shard: &Shard) -> bool {
        self.stopping.load(Ordering::Acquire) || shard.is_dropped()
    }

    /// Puts all points that are in memory into a segment, and makes the
    /// catalogue true as of the moment this began.
    fn seal(&self, shard: &Shard) -> Result<()> {
        let mut catalogued = shard.catalogued.lock();
        shard.check_there()?;
        self.journal.check_writable()?;
        // Between two commits: every op below the new log is in the state, none
        // above.
        let (parts, seq, config, uids, log) = self.journal.exclusively(|| {
            shard.change(|state| {
                let changed = state.applied > catalogued.entry.seq;
                if changed {
                    state.freeze();
                }
                let log = if changed { shard.next_log() } else { shard.log() };
                (state.settled.clone(), state.applied, state.config.clone(), state.uids.clone(), log)
            })
        });
        if seq == catalogued.entry.seq {
            return Ok(());
        }

        let mut entry = catalogued.entry.clone();
        entry.seq = seq;
        entry.generation = generation_of(log);
        entry.config = (*config).clone();
        entry.vector_uids = (*uids).clone();
        let mut marks = catalogued.marks.clone();
        for part in parts.iter().filter(|part| part.is_sealed()) {
            mark(shard, &mut entry, &mut marks, part)?;
        }
        let frozen: Vec<Part> = parts.into_iter().filter(|part| !part.is_sealed()).collect();
        // Nothing is left out that disappeared meanwhile: it may have been renewed
        // meanwhile, too. A merge looks at that.
        let picked = Picked::new(frozen, uids, |_, _| false);
        let sealed = if picked.is_empty() {
            None
        } else {
            // Taken also when this fails: what is left of it must not be taken
            // for files of another segment.
            let number = catalogued.entry.next_number;
            catalogued.entry.next_number += 1;
            entry.next_number = catalogued.entry.next_number;
            let write = || {
                let mut part = self.write_segment(shard, number, &config, &picked)?;
                derive::adopt(shard, &mut part, &picked, &self.options, &self.linking.behind)?;
                Ok(part)
            };
            let part = write().inspect_err(|_: &Error| catalogue::remove_segment(&shard.dir, number))?;
            entry.segments.push(SegmentEntry { number, marks: None });
            marks.insert(number, part.marks.clone());
            Some(part)
        };

        self.journal.check_writable()?;
        entry.put(&*self.store, &shard.name).inspect_err(|error| self.journal.fail(error))?;
        replace(shard, &picked, sealed);
        *catalogued = Catalogued { entry, marks };
        shard.state.write().clocks.forget(seq);
        self.clear_away(shard, &catalogued.entry);
        Ok(())
    }

    /// Logs and marks that the entry no longer needs.
    fn clear_away(&self, shard: &Shard, entry: &Entry) {
        catalogue::remove_old_marks(&shard.dir, entry);
        let forget = || {
            for log in self.store.logs()? {
                if uid_of(log) == shard.uid && log < log_id(entry.uid, entry.generation) {
                    self.store.forget(log)?;
                }
            }
            Ok(())
        };
        self.journal.exclusively(|| {
            // What the store could not write here, later writes may lie behind.
            if let Err(error) = forget() {
                self.journal.fail(&error);
            } else if let Err(error) = self.store.shrink_if_mostly_free() {
                tracing::warn!(collection = shard.name, %error, "the log stays as large as it is");
            }
        });
    }

    /// Writes picked rows and what is derived from them, and maps the files.
    fn write_segment(
        &self,
        shard: &Shard,
        number: u64,
        config: &crate::CollectionConfig,
        picked: &Picked,
    ) -> Result<Part> {
        let path = segment_path(&shard.dir, number);
        self.journal.check_room(0)?;
        segment::write(&path, picked.vectors(config), picked)?;
        let segment = Segment::open(&path)
            .map_err(|reason| Error::Corrupt { what: path.display().to_string(), reason })?;
        let live = Arc::new(crate::bits::Bits::full(segment.len()));
        let mut part = Part {
            number,
            rows: PartRows::Sealed(Arc::new(segment)),
            marks: Marks { live, ..Marks::default() },
            derived: Derived::default(),
        };
        let (config, uids) = {
            let state = shard.state.read();
            (state.config.clone(), state.uids.clone())
        };
        derive::indexes(&shard.dir, &mut part, &config, &uids)?;
        Ok(part)
    }

    /// Merges and builds until nothing is left to do, within a pool or, for a
    /// caller who waits, with all cores.
    fn optimize(&self, shard: &Shard, aim: policy::Aim, pool: Option<&rayon::ThreadPool>) -> Result<()> {
        // Two threads would merge the same segments.
        let _alone = shard.optimizer.lock();
        let mut aim = aim;
        loop {
            if self.is_cancelled(shard) {
                return Ok(());
            }
            shard.check_there()?;
            let view = shard.view()?;
            if let Some(missing) = derive::missing_index(&view) {
                within(pool, || derive::add(shard, &missing))?;
            } else if let Some(numbers) = policy::merge(&mergeable(shard), &self.options, aim) {
                // A merge would give damaged rows a checksum that holds.
                if !self.are_whole(shard, &numbers) {
                    continue;
                }
                self.merge(shard, &numbers, pool)?;
                // What dies while this runs waits for the next time.
                if aim == policy::Aim::Smallest {
                    aim = policy::Aim::Usual;
                }
            } else if let Some(missing) =
                derive::missing_graph(&view, &self.options).or_else(|| derive::missing_curve(&view))
            {
                let cancelled = || self.is_cancelled(shard);
                within(pool, || derive::add_graph(shard, &missing, &cancelled))?;
            } else {
                return Ok(());
            }
        }
    }

    /// Writes the live rows of some segments into one in their place.
    fn merge(&self, shard: &Shard, numbers: &[u64], pool: Option<&rayon::ThreadPool>) -> Result<()> {
        // The settings are those of the catalogue, like the marks: the log may ask
        // for a vector that was dropped since.
        let (parts, current, config, uids, number, now) = {
            let mut catalogued = shard.catalogued.lock();
            let state = shard.state.read();
            let current: Vec<Part> =
                state.settled.iter().filter(|part| numbers.contains(&part.number)).cloned().collect();
            let parts: Vec<Part> = current.iter().map(|part| as_catalogued(part, &catalogued)).collect();
            let number = catalogued.entry.next_number;
            catalogued.entry.next_number += 1;
            let uids = Arc::new(catalogued.entry.vector_uids.clone());
            let now = gone_by(&state, &catalogued);
            (parts, current, catalogued.entry.config.clone(), uids, number, now)
        };
        let had_graphs = parts.iter().any(|part| part.derived.has_graphs());
        let bytes: u64 = parts.iter().map(Part::file_bytes).sum();
        self.journal.check_room(bytes)?;
        let expires: Vec<bool> = parts.iter().map(Part::has_expiry).collect();
        let gone = |index: usize, slot| expires[index] && is_over(&parts[index], &current[index], slot, now);
        let picked = Picked::new(parts.clone(), uids, gone);
        let merged = if picked.is_empty() {
            None
        } else {
            let write = || {
                let mut part = self.write_segment(shard, number, &config, &picked)?;
                if had_graphs {
                    let cancelled = || self.is_cancelled(shard);
                    derive::merged(shard, &mut part, &picked, &self.options, &cancelled)?;
                }
                Ok(part)
            };
            let written = within(pool, write);
            Some(written.inspect_err(|_: &Error| catalogue::remove_segment(&shard.dir, number))?)
        };

        let mut catalogued = shard.catalogued.lock();
        shard.check_there()?;
        let finish = || {
            // A point that was passed over was renewed, written or asked for again
            // in the moment before it disappeared: once more.
            let left_out = |(index, part): (usize, &Part)| {
                let state = shard.state.read();
                let now = now.min(gone_by(&state, &catalogued));
                let known = state.settled.iter().find(|known| known.number == part.number);
                let mut rows = part.marks.live.iter_from(0).filter(|slot| gone(index, *slot));
                known.is_some_and(|known| rows.any(|slot| !is_over(part, known, slot, now)))
            };
            if parts.iter().enumerate().filter(|(index, _)| expires[*index]).any(left_out) {
                catalogue::remove_segment(&shard.dir, number);
                return Ok(());
            }
            self.take_the_place(shard, &mut catalogued, &picked, merged)
        };
        // No point is renewed between the look and the exchange.
        if expires.contains(&true) { self.journal.exclusively(finish) } else { finish() }
    }

    /// Puts a merged segment where those are that its rows were picked from, in
    /// the catalogue and in service.
    fn take_the_place(
        &self,
        shard: &Shard,
        catalogued: &mut Catalogued,
        picked: &Picked,
        merged: Option<Part>,
    ) -> Result<()> {
        let numbers: Vec<u64> = picked.numbers().collect();
        let mut entry = catalogued.entry.clone();
        let mut marks = catalogued.marks.clone();
        let old: Vec<Marks> = picked_marks(picked, &mut marks);
        entry.segments.retain(|segment| !numbers.contains(&segment.number));
        if let Some(part) = &merged {
            let carried = picked.carry(&old.iter().collect::<Vec<_>>());
            let written = catalogue::write_marks(&shard.dir, part.number, entry.seq, part.len(), &carried)?;
            entry.segments.push(SegmentEntry { number: part.number, marks: written });
            marks.insert(part.number, carried);
        }
        self.journal.check_writable()?;
        entry.put(&*self.store, &shard.name).inspect_err(|error| self.journal.fail(error))?;
        replace(shard, picked, merged);
        *catalogued = Catalogued { entry, marks };
        numbers.iter().for_each(|number| catalogue::remove_segment(&shard.dir, *number));
        Ok(())
    }

    /// Reads every segment through; one whose checksums do not hold is taken
    /// out of service.
    fn scrub(&self, shard: &Shard) {
        let parts = shard.state.read().settled.clone();
        for part in parts {
            if self.is_cancelled(shard) {
                return;
            }
            let started = Instant::now();
            let mut read = 0;
            Self::is_whole(shard, &part, &mut |bytes| {
                read += bytes;
                // Queries that come right after opening need the disk, too.
                let due = Duration::from_secs_f64(read as f64 / SCRUB_BYTES_PER_SECOND);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
                !self.is_cancelled(shard)
            });
        }
    }

    fn are_whole(&self, shard: &Shard, numbers: &[u64]) -> bool {
        let mut parts = shard.state.read().settled.clone();
        parts.retain(|part| numbers.contains(&part.number));
        parts.iter().all(|part| Self::is_whole(shard, part, &mut |_| !self.is_cancelled(shard)))
    }

    /// Reads a segment through; false if its checksums do not hold, and then it is
    /// out of service.
    fn is_whole(shard: &Shard, part: &Part, pace: &mut dyn FnMut(usize) -> bool) -> bool {
        let PartRows::Sealed(segment) = &part.rows else { return true };
        let file = segment_path(&shard.dir, part.number);
        // One that was merged meanwhile has no file.
        let Some(reason) = segment.verify(pace).err().filter(|_| file.exists()) else { return true };
        let known = shard.change(|state| {
            let before = state.settled.len();
            state.settled.retain(|other| other.number != part.number);
            state.settled.len() < before
        });
        if known {
            tracing::error!(collection = shard.name, file = %file.display(), reason, "a damaged segment is taken out of service");
            shard.damaged.lock().push(Damage { collection: shard.name.clone(), file, reason });
        }
        false
    }
}

/// Does something in a pool, or with all cores.
fn within<T: Send>(pool: Option<&rayon::ThreadPool>, work: impl FnOnce() -> T + Send) -> T {
    match pool {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Writes the marks of a segment if they are not the catalogue's.
fn mark(shard: &Shard, entry: &mut Entry, marks: &mut BTreeMap<u64, Marks>, part: &Part) -> Result<()> {
    if marks.get(&part.number).is_some_and(|known| known.same(&part.marks)) {
        return Ok(());
    }
    let written = catalogue::write_marks(&shard.dir, part.number, entry.seq, part.len(), &part.marks)?;
    if let Some(segment) = entry.segments.iter_mut().find(|segment| segment.number == part.number) {
        segment.marks = written;
    }
    marks.insert(part.number, part.marks.clone());
    Ok(())
}

/// A part with the marks that the catalogue has for it.
fn as_catalogued(part: &Part, catalogued: &Catalogued) -> Part {
    Part { marks: catalogued.marks.get(&part.number).cloned().unwrap_or_default(), ..part.clone() }
}

/// Whether a row disappeared for good: so says the catalogue, and the log that is
/// replayed onto it neither renewed it nor wrote the point again.
fn is_over(catalogued: &Part, current: &Part, slot: u32, now_ms: u64) -> bool {
    catalogued.is_expired(slot, now_ms) && current.marks.live.get(slot) && current.is_expired(slot, now_ms)
}

/// The moment by which a row must have disappeared for a merge to leave it out: now,
/// or when the first operation was made that is replayed onto the catalogue.
fn gone_by(state: &State, catalogued: &Catalogued) -> u64 {
    let now = now_ms();
    state.clocks.oldest_after(catalogued.entry.seq).map_or(now, |oldest| oldest.min(now))
}

/// The segments with the number of rows a merge would keep: those that the
/// catalogue calls live, because the log is replayed onto it, without those that
/// disappeared. Judged by anything newer, a merge might be called for that
/// changes nothing, for ever.
fn mergeable(shard: &Shard) -> Vec<(Part, usize)> {
    let catalogued = shard.catalogued.lock();
    let state = shard.state.read();
    let now = gone_by(&state, &catalogued);
    let sealed = state.settled.iter().filter(|part| catalogued.marks.contains_key(&part.number));
    let kept = |part: &Part| {
        let known = as_catalogued(part, &catalogued);
        if !known.has_expiry() {
            return known.marks.live.count();
        }
        known.marks.live.iter_from(0).filter(|slot| !is_over(&known, part, *slot, now)).count()
    };
    sealed.map(|part| (part.clone(), kept(part))).collect()
}

fn picked_marks(picked: &Picked, marks: &mut BTreeMap<u64, Marks>) -> Vec<Marks> {
    picked.numbers().map(|number| marks.remove(&number).unwrap_or_default()).collect()
}

/// Puts a finished segment where the parts it was made from are now, with the
/// marks that those have by now.
fn replace(shard: &Shard, picked: &Picked, made: Option<Part>) {
    let numbers: Vec<u64> = picked.numbers().collect();
    shard.change(|state| {
        let current = |number: &u64| {
            let part = state.settled.iter().find(|part| part.number == *number);
            part.map(|part| part.marks.clone()).unwrap_or_default()
        };
        let marks: Vec<Marks> = numbers.iter().map(current).collect();
        let at = state.settled.iter().position(|part| numbers.contains(&part.number));
        state.settled.retain(|part| !numbers.contains(&part.number));
        if let Some(mut part) = made {
            part.marks = picked.carry(&marks.iter().collect::<Vec<_>>());
            let at = at.unwrap_or(0).min(state.settled.len());
            state.settled.insert(at, part);
        }
    });
}
