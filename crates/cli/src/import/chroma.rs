//! A folder of Chroma: its SQLite database, and the graph files beside it.
//!
//! Records and metadata lie in tables, vectors in the graph of their collection.
//! What was written last is in a queue, and its numbers tell what of it the tables
//! and the graph have; the rest is applied here as Chroma would. Nothing is written
//! to the folder.

mod graph;
mod queue;

use std::collections::HashSet;
use std::path::Path;

use cairn_index::{Metric, Vector, Vectors};
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde_json::{Map, Value};

use self::graph::Graph;
use self::queue::{Change, Operation, Queue};
use super::table::Row;
use super::{Intake, Unit};
use crate::failure::{Failure, Outcome};
use crate::progress::counting;

/// The key of the text in a payload, and in Chroma's metadata.
const DOCUMENT: &str = "document";
const CHROMA_DOCUMENT: &str = "chroma:document";

/// A collection of Chroma.
struct Source {
    id: String,
    name: String,
    space: Option<Metric>,
    /// The segments that have its metadata and its vectors.
    records: Option<String>,
    vectors: Option<String>,
}

impl Intake<'_> {
    pub(super) fn read_chroma(&mut self, folder: &Path) -> Outcome {
        let from = folder.display().to_string();
        self.begin(&from, Unit::Row);
        let refused = |reason: String| Failure::Source { from: from.clone(), reason };
        let told = |error: rusqlite::Error| refused(format!("its chroma.sqlite3 cannot be read: {error}"));
        let columns = &self.wanted.columns;
        if !columns.vector_field.is_empty() || columns.id_field.is_some() {
            let reason = "a Chroma folder has its own ids and vectors: of the columns, only --text-field, \
                          --title-field and --leave-out are taken";
            return Err(refused(reason.to_owned()).into());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(folder.join("chroma.sqlite3"), flags).map_err(told)?;
        let all = sources(&db).map_err(told)?;
        let source = chosen(all, self.wanted.source_collection.as_deref()).map_err(refused)?;
        let graph = match &source.vectors {
            Some(segment) => Graph::open(&folder.join(segment)).map_err(refused)?,
            None => Graph::default(),
        };
        let applied = |segment: Option<&String>| segment.map_or(Ok(None), |segment| max_seq(&db, segment));
        let records_seq = applied(source.records.as_ref()).map_err(told)?.unwrap_or(-1);
        let graph_seq = applied(source.vectors.as_ref()).map_err(told)?.or(graph.max_seq()).unwrap_or(-1);
        let queue = queue(&db, &source.id, records_seq, graph_seq, &graph).map_err(told)?;
        let mut reading = Reading { db: &db, source: &source, graph, queue };
        self.take_records(&mut reading, &refused)
    }

    fn take_records(&mut self, reading: &mut Reading<'_>, refused: &dyn Fn(String) -> Failure) -> Outcome {
        let told = |error: rusqlite::Error| refused(format!("its chroma.sqlite3 cannot be read: {error}"));
        self.space = reading.source.space;
        let records = reading.records().map_err(told)?;
        let bar = counting("importing", records.len());
        for (number, (id, key)) in records.iter().enumerate() {
            let payload = reading.metadata(*key, id).map_err(told)?;
            let item =
                self.chroma_row(reading, id, payload).and_then(|row| row.into_item(number, self.strings));
            match item {
                Ok(item) => self.offer(Some(number + 1), Some(item))?,
                Err(reason) => self.bad(Some(number + 1), format!("record `{id}`: {reason}"))?,
            }
            bar.inc(1);
        }
        self.flush()?;
        bar.finish_and_clear();
        Ok(())
    }

    fn chroma_row(
        &self,
        reading: &mut Reading<'_>,
        id: &str,
        mut payload: Map<String, Value>,
    ) -> Result<Row, String> {
        let columns = &self.wanted.columns;
        for key in &columns.leave_out {
            payload.shift_remove(key);
        }
        let mut row = Row { id: Some(Value::from(id)), ..Row::default() };
        if let Some(key) = &columns.text_field {
            row.text = Some(payload.shift_remove(key).unwrap_or(Value::Null));
            let title = columns.title_field.as_deref().unwrap_or("title");
            row.title = payload.shift_remove(title);
        } else {
            let vector = reading.vector(id)?.ok_or(
                "its vector is neither in the graph nor in the queue; embed the texts instead with \
                 --text-field document",
            )?;
            row.vectors = Vectors::from([(String::new(), Vector::Dense(vector))]);
        }
        row.payload = payload;
        Ok(row)
    }
}

/// What is read while records are taken.
struct Reading<'d> {
    db: &'d Connection,
    source: &'d Source,
    graph: Graph,
    queue: Queue,
}

impl Reading<'_> {
    /// The ids of the records that are there, in the order they came, each with its
    /// number in the tables if it has one.
    fn records(&self) -> rusqlite::Result<Vec<(String, Option<i64>)>> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        if let Some(segment) = &self.source.records {
            let all = "SELECT embedding_id, id FROM embeddings WHERE segment_id = ?1 ORDER BY id";
            let mut all = self.db.prepare(all)?;
            for record in all.query_map([segment], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
                let (id, key) = record?;
                seen.insert(id.clone());
                match self.queue.changes.get(&id) {
                    Some(change) if change.gone => {}
                    Some(change) if change.anew => found.push((id, None)),
                    _ => found.push((id, Some(key))),
                }
            }
        }
        let new = self.queue.order.iter().filter(|id| !seen.contains(*id));
        let there = new.filter(|id| self.queue.changes.get(*id).is_some_and(|change| !change.gone));
        found.extend(there.map(|id| (id.clone(), None)));
        Ok(found)
    }

    /// The metadata of a record, with its text.
    fn metadata(&self, key: Option<i64>, id: &str) -> rusqlite::Result<Map<String, Value>> {
        let mut metadata = Map::new();
        if let Some(key) = key {
            let all = "SELECT key, string_value, int_value, float_value, bool_value \
                       FROM embedding_metadata WHERE id = ?1 ORDER BY rowid";
            let mut all = self.db.prepare_cached(all)?;
            let mut rows = all.query([key])?;
            while let Some(row) = rows.next()? {
                metadata.insert(row.get(0)?, value(row)?);
            }
            lists(self.db, key, &mut metadata)?;
        }
        if let Some(change) = self.queue.changes.get(id) {
            change.apply(&mut metadata);
        }
        if let Some(text) = metadata.shift_remove(CHROMA_DOCUMENT) {
            let key = if metadata.contains_key(DOCUMENT) { CHROMA_DOCUMENT } else { DOCUMENT };
            metadata.insert(key.to_owned(), text);
        }
        Ok(metadata)
    }

    fn vector(&mut self, id: &str) -> Result<Option<Vec<f32>>, String> {
        match self.queue.vectors.get(id) {
            Some(vector) => Ok(Some(vector.clone())),
            None => self.graph.vector(id),
        }
    }
}

/// A value, which is in the column of its kind.
fn value(row: &rusqlite::Row<'_>) -> rusqlite::Result<Value> {
    let text: Option<String> = row.get(1)?;
    let (int, real): (Option<i64>, Option<f64>) = (row.get(2)?, row.get(3)?);
    let truth: Option<bool> = row.get(4)?;
    let value = text.map(Value::from).or(truth.map(Value::from)).or(int.map(Value::from));
    Ok(value.or(real.map(Value::from)).unwrap_or(Value::Null))
}

/// Lists of values, which newer versions keep in a table of their own.
fn lists(db: &Connection, key: i64, metadata: &mut Map<String, Value>) -> rusqlite::Result<()> {
    if !db.table_exists(None, "embedding_metadata_array")? {
        return Ok(());
    }
    let all = "SELECT key, string_value, int_value, float_value, bool_value \
               FROM embedding_metadata_array WHERE id = ?1 ORDER BY rowid";
    let mut all = db.prepare_cached(all)?;
    let mut rows = all.query([key])?;
    while let Some(row) = rows.next()? {
        let list = metadata.entry(row.get::<_, String>(0)?).or_insert_with(|| Value::Array(Vec::new()));
        if !list.is_array() {
            *list = Value::Array(Vec::new());
        }
        if let Value::Array(list) = list {
            list.push(value(row)?);
        }
    }
    Ok(())
}

/// The collections of a folder.
fn sources(db: &Connection) -> rusqlite::Result<Vec<Source>> {
    let mut all = db.prepare("SELECT id, name FROM collections ORDER BY name")?;
    let named = all.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut found = Vec::new();
    for named in named {
        let (id, name) = named?;
        let segment = |scope: &str| {
            let one = "SELECT id FROM segments WHERE collection = ?1 AND scope = ?2";
            db.query_row(one, params![id, scope], |row| row.get::<_, String>(0)).optional()
        };
        let (records, vectors) = (segment("METADATA")?, segment("VECTOR")?);
        found.push(Source { space: space(db, &id)?, id, name, records, vectors });
    }
    Ok(found)
}

/// How the vectors of a collection are compared: its metadata says it, or its
/// configuration.
fn space(db: &Connection, id: &str) -> rusqlite::Result<Option<Metric>> {
    let by_metadata =
        "SELECT str_value FROM collection_metadata WHERE collection_id = ?1 AND key = 'hnsw:space'";
    let mut told: Option<String> = db.query_row(by_metadata, [id], |row| row.get(0)).optional()?.flatten();
    for column in ["config_json_str", "schema_str"] {
        let has =
            db.prepare("SELECT 1 FROM pragma_table_info('collections') WHERE name = ?1")?.exists([column])?;
        if told.is_some() || !has {
            continue;
        }
        let one = format!("SELECT {column} FROM collections WHERE id = ?1");
        let json: Option<String> = db.query_row(&one, [id], |row| row.get(0))?;
        let json = json.and_then(|json| serde_json::from_str::<Value>(&json).ok());
        let json = json.map(|mut json| match json["keys"]["#embedding"].take() {
            Value::Null => json,
            embedding => embedding,
        });
        told = json.as_ref().and_then(first_space);
    }
    Ok(match told.as_deref() {
        Some("cosine") => Some(Metric::Cosine),
        Some("ip") => Some(Metric::Dot),
        Some("l2") => Some(Metric::Euclid),
        _ => None,
    })
}

fn first_space(json: &Value) -> Option<String> {
    let object = json.as_object()?;
    let space = object.get("space").and_then(Value::as_str).map(str::to_owned);
    space.or_else(|| object.values().find_map(first_space))
}

fn chosen(mut all: Vec<Source>, wanted: Option<&str>) -> Result<Source, String> {
    let names: Vec<String> = all.iter().map(|source| format!("`{}`", source.name)).collect();
    let names = names.join(", ");
    let at = match wanted {
        Some(name) => all.iter().position(|source| source.name == name),
        None if all.len() == 1 => Some(0),
        None if all.is_empty() => return Err("there is no collection in it".to_owned()),
        None => return Err(format!("name one of its collections with --source-collection: {names}")),
    };
    let at = at.ok_or_else(|| {
        format!("there is no collection `{}` in it, there are {names}", wanted.unwrap_or(""))
    })?;
    Ok(all.swap_remove(at))
}

/// Up to where in the queue a segment has what was written.
fn max_seq(db: &Connection, segment: &str) -> rusqlite::Result<Option<i64>> {
    let one = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?1";
    let cell: Option<Cell> = db.query_row(one, [segment], |row| row.get(0)).optional()?;
    Ok(match cell {
        Some(Cell::Integer(seq)) => Some(seq),
        // Earlier versions keep the bytes of the number.
        Some(Cell::Blob(bytes)) => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    })
}

/// What the queue has that the tables, or the graph, do not.
fn queue(db: &Connection, id: &str, records: i64, vectors: i64, graph: &Graph) -> rusqlite::Result<Queue> {
    let all = "SELECT seq_id, operation, id, vector, encoding, metadata FROM embeddings_queue \
               WHERE topic LIKE '%/' || ?1 ORDER BY seq_id";
    let known = "SELECT count(*) FROM embeddings e JOIN segments s ON s.id = e.segment_id \
                 WHERE s.collection = ?1 AND e.embedding_id = ?2";
    let (mut all, mut known) = (db.prepare(all)?, db.prepare(known)?);
    let mut queue = Queue::default();
    let mut rows = all.query([id])?;
    while let Some(row) = rows.next()? {
        let (seq, operation, record): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let operation = Operation::of(operation);
        let vector: Option<Vec<u8>> = row.get(3)?;
        let encoding: Option<String> = row.get(4)?;
        let metadata: Option<String> = row.get(5)?;
        if seq > records {
            let there = known.query_row(params![id, record], |row| row.get::<_, i64>(0))? > 0;
            let metadata = metadata.and_then(|json| serde_json::from_str(&json).ok());
            queue.change(&record, operation, metadata, there);
        }
        if seq > vectors {
            let vector = vector.and_then(|bytes| queue::numbers(&bytes, encoding.as_deref()));
            queue.take_vector(&record, operation, vector, graph.has(&record));
        }
    }
    Ok(queue)
}

impl Change {
    /// Changes the metadata that the tables have.
    fn apply(&self, metadata: &mut Map<String, Value>) {
        for (key, value) in &self.metadata {
            match value {
                Value::Null => drop(metadata.shift_remove(key)),
                value => drop(metadata.insert(key.clone(), value.clone())),
            }
        }
    }
}
