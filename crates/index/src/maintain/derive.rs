//! Making what is derived from the rows of a segment: field indexes, inverted
//! indexes and graphs.

use std::path::Path as FilePath;
use std::sync::Arc;

use cairn_ann::{Graph, GraphBuilder, HnswRsBuilder, Merged, Metric, Rows};
use serde_json::{Value, json};

use crate::bytes::Bytes;
use crate::catalogue::{Kind, read_derived, write_derived};
use crate::config::{Builder, CollectionConfig, HnswConfig, Options, VectorConfig};
use crate::elements::Elements;
use crate::error::{Error, Result};
use crate::fields::FieldIndex;
use crate::fields::encode::FieldEncoder;
use crate::part::{Derived, Part, PartRows, VectorUids};
use crate::path::Path;
use crate::picked::Picked;
use crate::schema::FieldSchema;
use crate::segment::{Column, Segment, Writer};
use crate::shard::Shard;
use crate::sparse::Inverted;
use crate::view::View;

/// Rows from which a graph is worth a sample of what its beams find.
const SAMPLED: usize = 1000;

/// Something a segment lacks.
pub(crate) struct Missing {
    number: u64,
    what: What,
}

enum What {
    Field(Path, FieldSchema),
    Sparse(String, u64),
    Graph(String, u64, VectorConfig, HnswConfig),
}

/// Adds all indexes a new segment should have, but graphs.
pub(crate) fn indexes(
    dir: &FilePath,
    part: &mut Part,
    config: &CollectionConfig,
    uids: &VectorUids,
) -> Result<()> {
    let (fields, others): (Vec<What>, Vec<What>) =
        wanted_indexes(config, uids).partition(|what| matches!(what, What::Field(..)));
    for (what, content) in fields.iter().zip(encode_fields(part, &fields)?) {
        let bytes = file(dir, part, what, &mut |writer| writer.write(&content))?;
        attach(part, what, &bytes).map_err(|reason| just_made(part, reason))?;
    }
    others.iter().try_for_each(|what| make(dir, part, what, &|| false))
}

/// Adds the graphs a segment that was merged from others should have, made from
/// theirs.
pub(crate) fn merged(
    shard: &Shard,
    part: &mut Part,
    picked: &Picked,
    options: &Options,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let view = shard.view()?;
    let old = picked.parts();
    for what in wanted_graphs(&view.config, &view.uids) {
        if is_large(part, &what, options) {
            let made = match merge(part, &what, &old, cancelled) {
                Some(graph) => graph.and_then(|graph| attach_graph(&shard.dir, part, &what, &graph)),
                None => make(&shard.dir, part, &what, cancelled),
            };
            made.map_err(|error| of_collection(error, shard))?;
        }
    }
    Ok(())
}

/// A graph from those of the old parts, which come with the new rows of their
/// slots; none where there are none, or the builder cannot do that.
fn merge(
    part: &Part,
    what: &What,
    old: &[(&Part, Vec<Option<u32>>)],
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Option<Result<Graph>> {
    let What::Graph(name, uid, vector, hnsw) = what else { return None };
    let rows = column(part, name, *uid)?.dense().filter(|_| hnsw.builder == Builder::Native)?;
    let graphs: Vec<Merged<'_>> = old
        .iter()
        .filter_map(|(old, slots)| Some(Merged { graph: old.derived.graph(name, *uid)?, slots }))
        .collect();
    let builder = super::linking::builder(*hnsw);
    (!graphs.is_empty()).then(|| {
        let graph = builder.merge(vector.distance, &rows, &graphs, cancelled).map_err(graph_failed)?;
        Ok(coded(graph, *hnsw, vector.distance, &rows))
    })
}

fn attach_graph(dir: &FilePath, part: &mut Part, what: &What, graph: &Graph) -> Result<()> {
    let bytes = write_graph(dir, part, what, graph)?;
    attach(part, what, &bytes).map_err(|reason| just_made(part, reason))
}

/// Gives a segment the graphs that followed the part it was written from.
pub(crate) fn adopt(
    shard: &Shard,
    part: &mut Part,
    picked: &Picked,
    options: &Options,
    pool: &rayon::ThreadPool,
) -> Result<()> {
    let mut draft = shard.draft.lock();
    let (Some(draft), [(grown, new_rows)]) = (&mut *draft, &picked.parts()[..]) else { return Ok(()) };
    let view = shard.view()?;
    for what in wanted_graphs(&view.config, &view.uids) {
        let What::Graph(name, uid, vector, hnsw) = &what else { continue };
        let Some(rows) = column(part, name, *uid).and_then(Column::dense) else { continue };
        let Some(recent) = grown.dense(name, &view.uids) else { continue };
        if is_large(part, &what, options)
            && let Some(graph) = draft.finished(grown, name, *uid, recent, pool)
        {
            let kept = graph.kept(vector.distance, &rows, new_rows);
            attach_graph(&shard.dir, part, &what, &coded(kept, *hnsw, vector.distance, &rows))?;
        }
    }
    Ok(())
}

/// Maps the derived files that are there and fit.
pub(crate) fn load(dir: &FilePath, part: &mut Part, config: &CollectionConfig, uids: &VectorUids) {
    for what in wanted_indexes(config, uids).chain(wanted_graphs(config, uids)) {
        let (kind, of) = what.name();
        if let Some(bytes) = read_derived(kind, dir, part.number, &of, &what.made_from()) {
            // Whatever does not open is made again.
            if let Err(reason) = attach(part, &what, &bytes) {
                tracing::warn!(segment = part.number, of, reason, "an index file is not usable");
            }
        }
    }
}

fn wanted_indexes<'c>(config: &'c CollectionConfig, uids: &'c VectorUids) -> impl Iterator<Item = What> + 'c {
    let fields = config
        .payload_indexes
        .iter()
        .filter_map(|(path, schema)| Some(What::Field(path.parse().ok()?, schema.clone())));
    let sparse = config.sparse_vectors.keys();
    fields.chain(sparse.filter_map(|name| Some(What::Sparse(name.clone(), *uids.get(name)?))))
}

fn wanted_graphs<'c>(config: &'c CollectionConfig, uids: &'c VectorUids) -> impl Iterator<Item = What> + 'c {
    let single = config.vectors.iter().filter(|(_, vector)| !vector.multivector);
    single
        .filter_map(|(name, vector)| Some(What::Graph(name.clone(), *uids.get(name)?, *vector, config.hnsw)))
}

/// An index that a segment lacks.
pub(crate) fn missing_index(view: &View) -> Option<Missing> {
    view.parts.iter().filter(|part| part.is_sealed()).find_map(|part| {
        let what = wanted_indexes(&view.config, &view.uids).find(|what| !has(part, what))?;
        Some(Missing { number: part.number, what })
    })
}

/// A graph that a segment lacks and that is worth building; that of the largest
/// segment first.
pub(crate) fn missing_graph(view: &View, options: &Options) -> Option<Missing> {
    let mut parts: Vec<&Part> = view.parts.iter().filter(|part| part.is_sealed()).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.into_iter().find_map(|part| {
        let mut wanted = wanted_graphs(&view.config, &view.uids);
        let what = wanted.find(|what| !has(part, what) && is_large(part, what, options))?;
        Some(Missing { number: part.number, what })
    })
}

/// A graph that does not know yet which beam reaches which recall.
pub(crate) fn missing_curve(view: &View) -> Option<Missing> {
    view.parts.iter().filter(|part| part.is_sealed()).find_map(|part| {
        let unknowing = |what: &What| {
            let What::Graph(name, uid, ..) = what else { return false };
            let graph = part.derived.graph(name, *uid);
            graph.is_some_and(|graph| graph.len() >= SAMPLED && graph.effort(1, 1.0).is_none())
        };
        let what = wanted_graphs(&view.config, &view.uids).find(unknowing)?;
        Some(Missing { number: part.number, what })
    })
}

fn has(part: &Part, what: &What) -> bool {
    match what {
        What::Field(path, schema) => part.derived.field(path.as_str(), schema).is_some(),
        What::Sparse(name, uid) => {
            part.derived.sparse(name, *uid).is_some() || column(part, name, *uid).is_none()
        }
        What::Graph(name, uid, ..) => part.derived.graph(name, *uid).is_some(),
    }
}

fn is_large(part: &Part, what: &What, options: &Options) -> bool {
    let What::Graph(name, uid, ..) = what else { return false };
    column(part, name, *uid).is_some_and(|column| column.present.count() >= options.indexing_threshold.max(1))
}

fn segment(part: &Part) -> Option<&Segment> {
    match &part.rows {
        PartRows::Sealed(segment) => Some(segment),
        PartRows::Growing(_) => None,
    }
}

fn column<'p>(part: &'p Part, name: &str, uid: u64) -> Option<&'p Column> {
    segment(part)?.column(name, uid)
}

/// Makes an index for a segment in service.
pub(crate) fn add(shard: &Shard, missing: &Missing) -> Result<()> {
    add_graph(shard, missing, &|| false)
}

/// Makes something for a segment in service; long, so it can be cancelled.
pub(crate) fn add_graph(
    shard: &Shard,
    missing: &Missing,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let found = shard.state.read().settled.iter().find(|part| part.number == missing.number).cloned();
    let Some(mut part) = found else { return Ok(()) };
    let bytes =
        write(&shard.dir, &part, &missing.what, cancelled).map_err(|error| of_collection(error, shard))?;
    let Some(bytes) = bytes else { return Ok(()) };
    let made = open(&part, &missing.what, &bytes).map_err(|reason| just_made(&part, reason))?;
    shard.change(|state| {
        let there = state.settled.iter_mut().find(|part| part.number == missing.number);
        made.put(&mut there.unwrap_or(&mut part).derived, &missing.what);
    });
    Ok(())
}

fn of_collection(error: Error, shard: &Shard) -> Error {
    match error {
        Error::Graph { source, .. } => Error::Graph { collection: shard.name.clone(), source },
        other => other,
    }
}

fn make(dir: &FilePath, part: &mut Part, what: &What, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    let Some(bytes) = write(dir, part, what, cancelled)? else { return Ok(()) };
    attach(part, what, &bytes).map_err(|reason| just_made(part, reason))
}

fn just_made(part: &Part, reason: String) -> Error {
    Error::Corrupt { what: format!("an index just made for segment {}", part.number), reason }
}

fn write(
    dir: &FilePath,
    part: &Part,
    what: &What,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Bytes>> {
    let file = |write: &mut dyn FnMut(&mut Writer) -> Result<()>| file(dir, part, what, write).map(Some);
    match what {
        What::Field(..) => {
            let contents = encode_fields(part, std::slice::from_ref(what))?;
            file(&mut |writer| contents.iter().try_for_each(|content| writer.write(content)))
        }
        What::Sparse(name, uid) => {
            let Some(column) = column(part, name, *uid) else { return Ok(None) };
            let content =
                Inverted::encode(column.present.iter_from(0).map(|slot| (slot, column.entries(slot))));
            file(&mut |writer| writer.write(&content))
        }
        What::Graph(name, uid, vector, hnsw) => {
            let rows = column(part, name, *uid).and_then(Column::dense);
            let Some(rows) = rows else { return Ok(None) };
            if let Some(graph) = part.derived.graph(name, *uid) {
                let known = graph.clone().calibrated(vector.distance, &rows);
                return write_graph(dir, part, what, &known).map(Some);
            }
            let built = build(*hnsw, vector.distance, &rows, cancelled);
            let graph = coded(built.map_err(graph_failed)?, *hnsw, vector.distance, &rows);
            write_graph(dir, part, what, &graph).map(Some)
        }
    }
}

/// The graph with the codes that are wanted.
fn coded<R: Rows>(graph: Graph, hnsw: HnswConfig, metric: Metric, rows: &R) -> Graph {
    graph.quantized_as(metric, rows, hnsw.codes.into())
}

fn write_graph(dir: &FilePath, part: &Part, what: &What, graph: &Graph) -> Result<Bytes> {
    file(dir, part, what, &mut |writer| {
        let mut out = Out { writer, failure: None };
        let written = graph.write_to(&mut out);
        match out.failure.take() {
            Some(failure) => Err(failure),
            None => written.map_err(graph_failed),
        }
    })
}

fn graph_failed(source: cairn_ann::Error) -> Error {
    Error::Graph { collection: String::new(), source }
}

fn build<R: Rows>(
    hnsw: HnswConfig,
    metric: Metric,
    rows: &R,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> cairn_ann::Result<Graph> {
    match hnsw.builder {
        Builder::Native => super::linking::builder(hnsw).build(metric, rows, cancelled),
        Builder::HnswRs => {
            let ef_construction = hnsw.ef_construct.max(hnsw.m);
            HnswRsBuilder { m: hnsw.m, ef_construction }.build(metric, rows, cancelled)
        }
    }
}

fn file(
    dir: &FilePath,
    part: &Part,
    what: &What,
    write: &mut dyn FnMut(&mut Writer) -> Result<()>,
) -> Result<Bytes> {
    let (kind, of) = what.name();
    write_derived(kind, dir, part.number, &of, what.made_from(), |writer| write(writer))
}

/// The indexes of these fields, from one pass over the payloads.
fn encode_fields(part: &Part, fields: &[What]) -> Result<Vec<Vec<u8>>> {
    let mut encoders = Vec::new();
    for what in fields {
        if let What::Field(path, schema) = what {
            let elements = Elements::of(schema, path);
            encoders.push((path, elements, FieldEncoder::new(schema, part.len())?));
        }
    }
    if !encoders.is_empty() {
        for slot in 0..part.len() {
            let payload = part.payload(slot)?;
            for (path, elements, encoder) in &mut encoders {
                encoder.add_payload(slot, path, elements.as_ref(), &payload);
            }
        }
    }
    Ok(encoders.into_iter().map(|(.., encoder)| encoder.finish()).collect())
}

/// What was mapped, before it is part of a segment in service.
enum Made {
    Field(Arc<FieldIndex>),
    Sparse(Arc<Inverted>),
    Graph(Arc<Graph>),
}

impl Made {
    fn put(self, derived: &mut Derived, what: &What) {
        match (self, what) {
            (Self::Field(index), What::Field(path, schema)) => {
                derived.set_field(path.as_str(), schema, index);
            }
            (Self::Sparse(index), What::Sparse(name, uid)) => derived.set_sparse(name, *uid, index),
            (Self::Graph(graph), What::Graph(name, uid, ..)) => {
                derived.set_graph(name, *uid, graph);
            }
            _ => {}
        }
    }
}

fn attach(part: &mut Part, what: &What, bytes: &Bytes) -> Result<(), String> {
    open(part, what, bytes)?.put(&mut part.derived, what);
    Ok(())
}

fn open(part: &Part, what: &What, bytes: &Bytes) -> Result<Made, String> {
    Ok(match what {
        What::Field(_, schema) => Made::Field(Arc::new(FieldIndex::open(schema, bytes)?)),
        What::Sparse(..) => Made::Sparse(Arc::new(Inverted::open(bytes)?)),
        What::Graph(..) => {
            let graph = Graph::from_bytes(bytes.clone()).map_err(|error| error.to_string())?;
            if graph.len() != part.len() as usize {
                return Err("it covers other rows".to_owned());
            }
            Made::Graph(Arc::new(graph))
        }
    })
}

impl What {
    fn name(&self) -> (Kind, String) {
        match self {
            Self::Field(path, _) => (Kind::Field, path.as_str().to_owned()),
            Self::Sparse(name, _) => (Kind::Sparse, name.clone()),
            Self::Graph(name, ..) => (Kind::Graph, name.clone()),
        }
    }

    /// What a derived file must have been made from to be used.
    fn made_from(&self) -> Value {
        match self {
            // An index of before had an entry a row.
            Self::Field(path, schema) if schema.common.nested.is_some() => {
                json!({"path": path, "schema": schema, "entries": "elements"})
            }
            Self::Field(path, schema) => json!({"path": path, "schema": schema}),
            Self::Sparse(name, uid) => json!({"vector": name, "uid": uid}),
            Self::Graph(name, uid, vector, hnsw) => {
                json!({"vector": name, "uid": uid, "config": vector, "hnsw": hnsw})
            }
        }
    }
}

/// A section of a file, as the writer of a graph sees it.
struct Out<'w> {
    writer: &'w mut Writer,
    failure: Option<Error>,
}

impl std::io::Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.writer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(std::io::Error::other(text))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
