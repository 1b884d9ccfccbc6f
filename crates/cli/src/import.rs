//! `cairn import`: points and texts from files of lines or tables, from another
//! server, a PostgreSQL database or a Chroma folder, into a collection.
//!
//! Whatever they come from, they are written by batches, and a batch before a bad
//! line or row is written before that is told.

mod chroma;
mod lines;
mod origin;
pub(crate) mod parquet;
mod postgres;
mod table;

use cairn_index::{Collection, CollectionConfig, ConfigChange, Metric, Point, WrittenId};
use cairn_rag::{Document, Engine, Format};
use serde_json::{Value, json};

use self::origin::Origin;
use crate::args::Import;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::counting;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::verbs::open;

/// Points are written together up to so many, or so many bytes of lines.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;

pub(crate) fn run(settings: &Settings, wanted: &Import, as_json: bool) -> Outcome {
    let mut origins = Vec::new();
    for from in &wanted.from {
        origins.extend(origin::of(from)?);
    }
    let engine = open(settings)?;
    let mut intake = Intake::new(&engine, wanted)?;
    for origin in &origins {
        match origin {
            Origin::StandardInput => intake.read_standard_input()?,
            Origin::Lines(path) => intake.read_file_of_lines(path)?,
            Origin::Parquet(path) => intake.read_parquet(path)?,
            Origin::Chroma(folder) => intake.read_chroma(folder)?,
            Origin::Postgres(url) => intake.read_postgres(url)?,
            Origin::Server(url) => intake.take_all(url)?,
        }
    }
    intake.sum_up(as_json);
    Ok(())
}

/// What a line or a row holds.
enum Item {
    Point(Point),
    Document(Document),
}

/// What is counted in a source, to name a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Line,
    Row,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Row => "row",
        }
    }
}

/// Points and documents on their way into a collection.
struct Intake<'e> {
    engine: &'e Engine,
    wanted: &'e Import,
    /// What is being read, and what is counted in it.
    from: String,
    unit: Unit,
    /// Each with the number of its line or row, where it has one.
    points: Vec<(Option<usize>, Point)>,
    documents: Vec<Document>,
    /// Rows of the tables before this one, so that ids that are counted go on.
    rows_before: usize,
    /// How the source compares its vectors, where it says so.
    space: Option<Metric>,
    /// Whether texts are ids as they are.
    strings: bool,
    /// Whether the collection is made to take them, if it does not.
    may_change: bool,
    done: Done,
}

#[derive(Default)]
struct Done {
    points: usize,
    documents: usize,
    unchanged: usize,
    skipped: Vec<Skipped>,
}

/// What was left out, and why.
struct Skipped {
    from: String,
    unit: Unit,
    number: Option<usize>,
    reason: String,
}

impl<'e> Intake<'e> {
    fn new(engine: &'e Engine, wanted: &'e Import) -> Outcome<Self> {
        let mut intake = Self {
            engine,
            wanted,
            from: String::new(),
            unit: Unit::Line,
            points: Vec::new(),
            documents: Vec::new(),
            rows_before: 0,
            space: None,
            strings: true,
            may_change: true,
            done: Done::default(),
        };
        // One that is there keeps its way, unless the other is asked for.
        if let Some(collection) = intake.there()? {
            intake.strings = wanted.string_ids.unwrap_or(collection.takes_string_ids());
            intake.may_change = wanted.string_ids == Some(true);
        } else {
            intake.strings = wanted.string_ids.unwrap_or(true);
        }
        Ok(intake)
    }

    /// What comes now is of this source.
    fn begin(&mut self, from: &str, unit: Unit) {
        from.clone_into(&mut self.from);
        self.unit = unit;
    }

    /// The points of a collection of another server, and its settings where it
    /// is new here.
    fn take_all(&mut self, url: &str) -> Outcome {
        self.begin(url, Unit::Row);
        let remote = Remote::new(url, self.wanted.api_key_env.as_deref())?;
        let (mut config, points) = remote.describe()?;
        config.string_ids = self.wanted.string_ids.unwrap_or(config.string_ids);
        if self.there()?.is_none() {
            self.engine.database().create_collection(&self.wanted.collection, config)?;
        }
        let bar = counting("importing", points);
        let mut from = None;
        loop {
            let page = remote.page(from.as_ref())?;
            for point in page.points {
                self.offer(None, Some(Item::Point(point)))?;
            }
            bar.set_position(self.done.points as u64);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        self.flush()?;
        bar.finish_and_clear();
        Ok(())
    }

    fn offer(&mut self, line: Option<usize>, item: Option<Item>) -> Outcome {
        match item {
            // A line that has a text as its id is refused by a collection that takes none,
            // unless that is what was asked for.
            Some(Item::Point(point)) if self.wanted.string_ids == Some(false) => {
                let written = point.label.as_deref().map_or(Value::Null, Value::from);
                self.points.push((line, table::without_label(point, written)));
            }
            Some(Item::Point(point)) => self.points.push((line, point)),
            Some(Item::Document(document)) => {
                // The later one counts, as with points.
                if self.documents.iter().any(|other| other.id == document.id) {
                    self.flush()?;
                }
                self.documents.push(document);
            }
            None => {}
        }
        if self.points.len() + self.documents.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Counts a bad line, or stops there.
    fn bad(&mut self, line: Option<usize>, reason: String) -> Outcome {
        if !self.wanted.skip_bad {
            self.flush()?;
            return Err(self.stop(line, reason).into());
        }
        self.leave_out(line, reason);
        Ok(())
    }

    fn leave_out(&mut self, line: Option<usize>, reason: String) {
        out::note(format!("skipped {}: {reason}", self.place(line)));
        let (from, unit) = (self.from.clone(), self.unit);
        self.done.skipped.push(Skipped { from, unit, number: line, reason });
    }

    fn stop(&self, line: Option<usize>, reason: String) -> Failure {
        let written = self.done.points + self.done.documents + self.done.unchanged;
        Failure::BadLine { place: self.place(line), from: self.from.clone(), reason, written }
    }

    fn place(&self, number: Option<usize>) -> String {
        number.map_or_else(|| "a point".to_owned(), |number| format!("{} {number}", self.unit.name()))
    }

    /// Writes what is waiting.
    fn flush(&mut self) -> Outcome {
        if !self.points.is_empty() {
            self.write_points()?;
        }
        let documents = std::mem::take(&mut self.documents);
        if !documents.is_empty() {
            let name = &self.wanted.collection;
            let added = self.engine.add(name, &documents, Format::Text, &mut |_| {})?;
            self.done.documents += added.documents;
            self.done.unchanged += added.unchanged;
        }
        Ok(())
    }

    /// Writes the points that fit; where bad ones are not passed over, those
    /// before the first bad one.
    fn write_points(&mut self) -> Outcome {
        let (lines, points): (Vec<_>, Vec<_>) = std::mem::take(&mut self.points).into_iter().unzip();
        let collection = self.collection_for(&points)?;
        let labelled = points.iter().any(|point| point.label.is_some());
        if labelled && self.may_change && !collection.takes_string_ids() {
            collection.configure(ConfigChange::StringIds)?;
        }
        let (mut fitting, mut stopped) = (Vec::with_capacity(points.len()), None);
        for (line, point) in lines.into_iter().zip(points) {
            match collection.check(&point) {
                Ok(()) => fitting.push(point),
                Err(error) if self.wanted.skip_bad => {
                    self.leave_out(line, format!("point {}: {error}", written(&point)));
                }
                Err(error) => {
                    let hint = match error {
                        cairn_index::Error::Label { .. } => " (--string-ids makes it one that does)",
                        _ => "",
                    };
                    stopped = Some((line, format!("point {}: {error}{hint}", written(&point))));
                    break;
                }
            }
        }
        let count = fitting.len();
        if count > 0 {
            collection.upsert(fitting)?;
        }
        self.done.points += count;
        match stopped {
            Some((line, reason)) => Err(self.stop(line, reason).into()),
            None => Ok(()),
        }
    }

    fn there(&self) -> Outcome<Option<Collection>> {
        match self.engine.database().collection(&self.wanted.collection) {
            Err(cairn_index::Error::UnknownCollection { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// The collection, made to fit these points when it is not there.
    fn collection_for(&self, points: &[Point]) -> Outcome<Collection> {
        if let Some(collection) = self.there()? {
            return Ok(collection);
        }
        let distance = self.wanted.distance.map(Metric::from).or(self.space).unwrap_or(Metric::Cosine);
        let mut config = CollectionConfig::fitting(points, distance);
        config.string_ids |= self.wanted.string_ids == Some(true);
        Ok(self.engine.database().create_collection(&self.wanted.collection, config)?)
    }

    fn sum_up(&self, as_json: bool) {
        let Done { points, documents, unchanged, skipped } = &self.done;
        if as_json {
            let one = |one: &Skipped| {
                let mut shown = json!({ "from": one.from, "reason": one.reason });
                shown[one.unit.name()] = json!(one.number);
                shown
            };
            let skipped: Vec<Value> = skipped.iter().map(one).collect();
            out::json(&json!({
                "points": points, "documents": documents, "unchanged": unchanged, "skipped": skipped
            }));
            return;
        }
        let texts = match documents + unchanged {
            0 => String::new(),
            _ => format!(", {documents} documents embedded, {unchanged} unchanged"),
        };
        let left_out = match skipped.len() {
            0 => String::new(),
            count => format!(", {count} bad ones skipped"),
        };
        out::line(format!("{points} points imported to `{}`{texts}{left_out}", self.wanted.collection));
    }
}

/// The id of a point as it was written.
fn written(point: &Point) -> WrittenId {
    WrittenId { id: point.id, label: point.label.clone() }
}
