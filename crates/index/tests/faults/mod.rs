//! What the suites that break things share: a child process that writes, the
//! ledger in which it notes what it sent and what was acknowledged, and the
//! check of a database against that ledger.
//!
//! A line `S thread op id=vector.value id=- ..` is written before a change is
//! sent, `A thread op` after its acknowledgement, `P ..` for a panic, `L ..`
//! for what the database logged as an error or a warning. The ledger lies in
//! the page cache, which outlives the process.

// Each suite uses its own part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use cairn_index::{
    Collection, CollectionConfig, ConfigChange, Database, Error, Filter, Metric, Options, Parts, Point,
    PointId, Record, Scroll, Search, StoreKind, Vectors, When, WriteMode,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

pub(crate) const STORES: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Redb];
const DIM: usize = 8;
const IDS_PER_THREAD: u64 = 700;

/// What a point holds: the seeds of its vector and of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) vector: u64,
    pub(crate) value: u64,
}

pub(crate) type Points = BTreeMap<u64, State>;

/// So small that sealing, merging and building go on all the time.
pub(crate) fn options(store: StoreKind) -> Options {
    Options {
        store,
        seal_points: 200,
        max_segment_points: 2000,
        indexing_threshold: 300,
        full_scan_threshold: 50,
        min_free_bytes: 1 << 20,
        log_cache_bytes: 8 << 20,
        background_threads: 1,
        ..Options::default()
    }
}

pub(crate) fn config() -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::Euclid)
        .with_index("thread", serde_json::from_value(json!("integer")).unwrap())
        .unwrap()
}

/// A vector that says which it is: three values hold the seed, 20 bits each.
pub(crate) fn vector_of(id: u64, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(id));
    let part = |shift: u64| (seed >> shift & 0xF_FFFF) as f32 / BITS;
    let rest = (3..DIM).map(|_| rng.random_range(-1.0..1.0));
    [part(0), part(20), part(40)].into_iter().chain(rest).collect()
}

fn seed_of(vector: &[f32]) -> u64 {
    let part = |at: usize| (vector[at] * BITS) as u64 & 0xF_FFFF;
    part(0) | part(1) << 20 | part(2) << 40
}

const BITS: f32 = (1 << 20) as f32;

pub(crate) fn point(id: u64, state: State) -> Point {
    // Some room, so that the log has something to give back.
    let pad = "x".repeat((state.value.wrapping_mul(0x9E37_79B9) % 1500) as usize);
    let payload = json!({"value": state.value, "thread": id % 3, "pad": pad});
    Point::new(id, vector_of(id, state.vector)).with_payload(payload).unwrap()
}

#[allow(clippy::print_stdout)] // the seed of a failure
pub(crate) fn rng(seed: u64) -> StdRng {
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

pub(crate) fn filter(json: serde_json::Value) -> Filter {
    serde_json::from_value(json).unwrap()
}

/// A run of this very program that does only what `test` does when it finds
/// its settings in the environment.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

/// The child's side of the ledger.
pub(crate) struct Scribe {
    file: File,
}

impl Scribe {
    pub(crate) fn open(path: &Path) -> Self {
        Self { file: OpenOptions::new().append(true).create(true).open(path).unwrap() }
    }

    pub(crate) fn line(&mut self, text: &str) {
        // One call, so that lines of several threads do not mix.
        self.file.write_all(format!("{}\n", text.replace('\n', " ")).as_bytes()).unwrap();
    }

    /// Notes panics of any thread, and what the database complains of.
    pub(crate) fn listen(path: &Path) {
        let scribe = Mutex::new(Self::open(path));
        std::panic::set_hook(Box::new(move |panic| {
            let trace = std::backtrace::Backtrace::force_capture();
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            scribe.lock().unwrap().line(&format!("P {name}: {panic} {trace}"));
        }));
        let listener = Listener { scribe: Mutex::new(Self::open(path)) };
        tracing::subscriber::set_global_default(listener).unwrap();
    }
}

struct Listener {
    scribe: Mutex<Scribe>,
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.scribe.lock().unwrap().line(&format!("L{}", text.0));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

/// One writer, who knows what its own points hold.
pub(crate) struct Writer {
    pub(crate) collection: Collection,
    pub(crate) points: Points,
    pub(crate) rng: StdRng,
    pub(crate) acked: usize,
    scribe: Scribe,
    thread: u64,
    op: u64,
}

type Change = (u64, Option<State>);

impl Writer {
    pub(crate) fn new(collection: Collection, ledger: &Path, thread: u64, seed: u64) -> Self {
        let points = everything(&collection).unwrap();
        let points = points.into_iter().filter(|(id, _)| id % 3 == thread).collect();
        let rng = StdRng::seed_from_u64(seed + thread);
        // Values of different rounds and threads differ.
        let op = (seed % (1 << 30)) << 20 | thread << 18;
        Self { collection, points, rng, acked: 0, scribe: Scribe::open(ledger), thread, op }
    }

    /// Makes one change of any kind.
    pub(crate) fn act(&mut self) -> Result<(), Error> {
        self.op += 1;
        match self.rng.random_range(0..20) {
            0..=8 => self.upsert(),
            9..=10 => self.upsert_when(),
            11..=12 => self.delete(),
            13 => self.delete_where(),
            14..=15 => self.set_payload(),
            16 => self.update_vectors(),
            17..=18 => self.replace(),
            _ => self.configure(),
        }
    }

    fn fresh(&self) -> State {
        State { vector: self.op, value: self.op }
    }

    fn ids(&mut self, most: usize) -> BTreeSet<u64> {
        let count = self.rng.random_range(1..=most);
        (0..count).map(|_| self.rng.random_range(0..IDS_PER_THREAD) * 3 + self.thread).collect()
    }

    fn known(&mut self, most: usize) -> Vec<u64> {
        let ids = self.ids(most * 2);
        ids.into_iter().filter(|id| self.points.contains_key(id)).take(most).collect()
    }

    fn commit<T>(
        &mut self,
        changes: &[Change],
        write: impl FnOnce(&Collection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut line = format!("S {} {}", self.thread, self.op);
        for (id, state) in changes {
            match state {
                Some(state) => line += &format!(" {id}={}.{}", state.vector, state.value),
                None => line += &format!(" {id}=-"),
            }
        }
        self.scribe.line(&line);
        let done = write(&self.collection)?;
        self.scribe.line(&format!("A {} {}", self.thread, self.op));
        self.acked += 1;
        for (id, state) in changes {
            match state {
                Some(state) => drop(self.points.insert(*id, *state)),
                None => drop(self.points.remove(id)),
            }
        }
        Ok(done)
    }

    fn upsert(&mut self) -> Result<(), Error> {
        let state = self.fresh();
        let changes: Vec<Change> = self.ids(40).into_iter().map(|id| (id, Some(state))).collect();
        let points: Vec<Point> = changes.iter().map(|(id, _)| point(*id, state)).collect();
        let count = points.len();
        let applied = self.commit(&changes, |collection| collection.upsert(points))?;
        assert_eq!(applied.upserted, count);
        Ok(())
    }

    fn upsert_when(&mut self) -> Result<(), Error> {
        let state = self.fresh();
        let mode = [WriteMode::InsertOnly, WriteMode::UpdateOnly][self.rng.random_range(0..2)];
        let ids = self.ids(30);
        let wanted = |id: &u64| self.points.contains_key(id) == (mode == WriteMode::UpdateOnly);
        let changes: Vec<Change> = ids.iter().filter(|id| wanted(id)).map(|id| (*id, Some(state))).collect();
        let points: Vec<Point> = ids.iter().map(|id| point(*id, state)).collect();
        let when = When { mode, filter: None };
        let applied = self.commit(&changes, |collection| collection.upsert_when(points, when))?;
        assert_eq!(applied.upserted, changes.len());
        Ok(())
    }

    fn delete(&mut self) -> Result<(), Error> {
        let ids = self.ids(15);
        let there = ids.iter().filter(|id| self.points.contains_key(id)).count();
        let changes: Vec<Change> = ids.iter().map(|id| (*id, None)).collect();
        let ids: Vec<PointId> = ids.into_iter().map(PointId::from).collect();
        let applied = self.commit(&changes, |collection| collection.delete(ids))?;
        assert_eq!(applied.deleted, there);
        Ok(())
    }

    /// A value that some points have, and those points.
    fn alike(&mut self) -> Option<(u64, Vec<u64>)> {
        let one = *self.known(1).first()?;
        let value = self.points[&one].value;
        let ids = self.points.iter().filter(|(_, state)| state.value == value).map(|(id, _)| *id);
        Some((value, ids.collect()))
    }

    fn delete_where(&mut self) -> Result<(), Error> {
        let Some((value, ids)) = self.alike() else { return Ok(()) };
        let changes: Vec<Change> = ids.iter().map(|id| (*id, None)).collect();
        let old = filter(json!({"must": {"key": "value", "match": {"value": value}}}));
        let applied = self.commit(&changes, |collection| collection.delete(old))?;
        assert_eq!(applied.deleted, ids.len());
        Ok(())
    }

    fn set_payload(&mut self) -> Result<(), Error> {
        let ids = self.known(20);
        let value = self.op;
        let changes: Vec<Change> =
            ids.iter().map(|id| (*id, Some(State { value, ..self.points[id] }))).collect();
        let payload = point(0, State { vector: 0, value }).payload;
        let payload = payload.into_iter().filter(|(key, _)| key != "thread").collect();
        let ids: Vec<PointId> = ids.into_iter().map(PointId::from).collect();
        let count = ids.len();
        let applied = self.commit(&changes, |collection| collection.set_payload(ids, payload, None))?;
        assert_eq!(applied.upserted, count);
        Ok(())
    }

    fn update_vectors(&mut self) -> Result<(), Error> {
        let ids = self.known(20);
        let vector = self.op;
        let changes: Vec<Change> =
            ids.iter().map(|id| (*id, Some(State { vector, ..self.points[id] }))).collect();
        let updates = ids
            .iter()
            .map(|id| ((*id).into(), Vectors::from([(String::new(), vector_of(*id, vector).into())])));
        let updates = updates.collect();
        self.commit(&changes, |collection| collection.update_vectors(updates, None))?;
        Ok(())
    }

    fn replace(&mut self) -> Result<(), Error> {
        let Some((value, old)) = self.alike() else { return Ok(()) };
        let state = self.fresh();
        let mut changes: BTreeMap<u64, Option<State>> = old.into_iter().map(|id| (id, None)).collect();
        let new = self.ids(20);
        changes.extend(new.iter().map(|id| (*id, Some(state))));
        let changes: Vec<Change> = changes.into_iter().collect();
        let old = filter(json!({"must": {"key": "value", "match": {"value": value}}}));
        let points = new.iter().map(|id| point(*id, state)).collect();
        self.commit(&changes, |collection| collection.replace(old, points))?;
        Ok(())
    }

    fn configure(&mut self) -> Result<(), Error> {
        let path = ["value", "pad"][self.rng.random_range(0..2)];
        let kind = if path == "value" { "integer" } else { "keyword" };
        let change = if self.rng.random_bool(0.5) {
            let schema = serde_json::from_value(json!(kind)).unwrap();
            ConfigChange::CreateIndex(path.parse().unwrap(), schema)
        } else {
            ConfigChange::DropIndex(path.parse().unwrap())
        };
        self.commit(&[], |collection| collection.configure(change))?;
        Ok(())
    }

    /// Checks that the collection holds what this writer thinks it does.
    pub(crate) fn reads_back(&self) -> Result<(), String> {
        let found = everything(&self.collection)?;
        let own: Points = found.into_iter().filter(|(id, _)| id % 3 == self.thread).collect();
        if own != self.points {
            return Err(format!("{} points are there, {} were acknowledged", own.len(), self.points.len()));
        }
        search_all(&self.collection, &self.points, 5)
    }
}

/// What was sent and acknowledged, on top of what was there before.
pub(crate) struct Ledger {
    /// States each id may have: as acknowledged last, or as sent after that.
    allowed: BTreeMap<u64, Vec<Option<State>>>,
    pub(crate) acked: usize,
    pub(crate) panics: Vec<String>,
    pub(crate) logged: Vec<String>,
    pub(crate) other: Vec<String>,
}

impl Ledger {
    pub(crate) fn read(path: &Path, before: &Points) -> Self {
        let mut allowed: BTreeMap<u64, Vec<Option<State>>> =
            before.iter().map(|(id, state)| (*id, vec![Some(*state)])).collect();
        let mut ledger =
            Self { allowed: BTreeMap::new(), acked: 0, panics: vec![], logged: vec![], other: vec![] };
        let mut open: BTreeMap<(u64, u64), Vec<Change>> = BTreeMap::new();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A kill can cut the last line: what it tells of was not sent yet, or was
        // not known to be acknowledged.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let (kind, rest) = line.split_at(1);
            let mut words = rest.split_whitespace();
            match kind {
                "S" => {
                    let (thread, op) = (number(words.next()), number(words.next()));
                    let changes: Vec<Change> = words.map(read_change).collect();
                    for (id, state) in &changes {
                        allowed.entry(*id).or_insert_with(|| vec![None]).push(*state);
                    }
                    open.insert((thread, op), changes);
                }
                "A" => {
                    let changes = open.remove(&(number(words.next()), number(words.next()))).unwrap();
                    ledger.acked += changes.len();
                    for (id, state) in changes {
                        allowed.insert(id, vec![state]);
                    }
                }
                "P" => ledger.panics.push(line.to_owned()),
                "L" => ledger.logged.push(line.to_owned()),
                _ => ledger.other.push(line.to_owned()),
            }
        }
        ledger.allowed = allowed;
        ledger
    }

    /// Checks all points of a collection, and returns them.
    pub(crate) fn check(&self, db: &Database, collection: &Collection) -> Result<Points, String> {
        let damaged = db.health().damaged;
        if !damaged.is_empty() {
            return Err(format!("damaged: {damaged:?}"));
        }
        let found = everything(collection)?;
        for (id, allowed) in &self.allowed {
            let there = found.get(id).copied();
            if !allowed.contains(&there) {
                return Err(format!("point {id} is {there:?}, may be {allowed:?}"));
            }
        }
        if let Some(id) = found.keys().find(|id| !self.allowed.contains_key(id)) {
            return Err(format!("point {id} is there, nobody sent it"));
        }
        search_all(collection, &found, 20)?;
        Ok(found)
    }

    /// Whether any id may be anything but absent.
    pub(crate) fn expects_points(&self) -> bool {
        self.allowed.values().any(|allowed| !allowed.contains(&None))
    }
}

fn number(word: Option<&str>) -> u64 {
    word.unwrap().parse().unwrap()
}

fn read_change(word: &str) -> Change {
    let (id, state) = word.split_once('=').unwrap();
    let state = state
        .split_once('.')
        .map(|(vector, value)| State { vector: vector.parse().unwrap(), value: value.parse().unwrap() });
    (id.parse().unwrap(), state)
}

/// Reads every record and checks that it is one that was written.
pub(crate) fn everything(collection: &Collection) -> Result<Points, String> {
    let all = Scroll { limit: usize::MAX - 1, parts: Parts::all(), ..Scroll::default() };
    let records = collection.scroll(&all).map_err(|error| error.to_string())?.records;
    let count = collection.count(None).map_err(|error| error.to_string())?;
    if count != records.len() {
        return Err(format!("{count} points are counted and {} read", records.len()));
    }
    records.into_iter().map(|record| read_record(&record)).collect()
}

fn read_record(record: &Record) -> Result<(u64, State), String> {
    let PointId::Num(id) = record.id else { return Err("an id nobody sent".to_owned()) };
    let payload = record.payload.as_ref().ok_or("no payload")?;
    let value = payload.get("value").and_then(serde_json::Value::as_u64).ok_or("no value")?;
    let stored =
        record.vectors.as_ref().and_then(|vectors| vectors.get("")?.as_dense()).ok_or("no vector")?;
    let vector = seed_of(stored);
    if vector_of(id, vector) != stored {
        return Err(format!("point {id} has a vector nobody sent"));
    }
    let state = State { vector, value };
    if point(id, state).payload != *payload {
        return Err(format!("point {id} has another payload than was sent"));
    }
    Ok((id, state))
}

/// Checks that some of the points are found by their own vectors.
pub(crate) fn search_all(collection: &Collection, points: &Points, some: usize) -> Result<(), String> {
    let step = (points.len() / some).max(1);
    for (id, state) in points.iter().step_by(step) {
        for exact in [true, false] {
            let mut search = Search::nearest(vector_of(*id, state.vector)).limit(3);
            search.params.exact = exact;
            search.params.ef = Some(200);
            let hits = collection.search(&search).map_err(|error| error.to_string())?.hits;
            if hits.first().map(|hit| hit.id) != Some((*id).into()) {
                return Err(format!("point {id} is not found by its vector, exact: {exact}, {hits:?}"));
            }
        }
        let records = collection.get(&[(*id).into()], &Parts::all()).map_err(|error| error.to_string())?;
        if records.first().map(read_record) != Some(Ok((*id, *state))) {
            return Err(format!("point {id} is not the same by its id: {records:?}"));
        }
    }
    Ok(())
}

pub(crate) fn store_named(name: &str) -> StoreKind {
    if name == "Redb" { StoreKind::Redb } else { StoreKind::Sled }
}
