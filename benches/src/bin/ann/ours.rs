//! What this project offers, and hnsw_rs as it comes, each in a process of its own.
//!
//! A new variant is one entry of [`VARIANTS`].

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use std::{fs, thread};

use cairn_ann::{
    Codes, Compression, FlatRows, Graph, GraphBuilder, HnswRsBuilder, HnswRsIndex, Metric, NativeBuilder,
    Neighbor, Rows, Scratch,
};
use cairn_benches::machine;
use cairn_benches::npy::{Matrix, read_f32, write_i32};
use rayon::ThreadPool;
use serde_json::{Value, json};

use crate::{K, Outcome};

/// One way to build and search.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    note: &'static str,
    /// Links of a row on upper layers, and codes, where the native builder makes it.
    pub(crate) codes: Option<(usize, Codes)>,
    build: fn(&FlatRows<'_>, Metric, &ThreadPool) -> cairn_ann::Result<Graph>,
}

/// Every variant that is measured.
pub(crate) const VARIANTS: &[Variant] = &[
    Variant {
        name: "cairn-fast",
        note: "native graph, m 16, beam 200, one bit a value of all neighbours at each slot, rescored; f32",
        codes: Some((16, Codes::Fast)),
        build: |rows, metric, pool| native(rows, metric, pool, (16, 200), Codes::Fast),
    },
    Variant {
        name: "cairn",
        note: "native graph, m 16, beam 160, one bit a value, then codes of one byte a value, rescored; f32",
        codes: Some((16, Codes::Int8)),
        build: |rows, metric, pool| native(rows, metric, pool, (16, 160), Codes::Int8),
    },
    Variant {
        name: "cairn-wide",
        note: "native graph, m 48, beam 300, codes as those of cairn; f32",
        codes: Some((48, Codes::Int8)),
        build: |rows, metric, pool| native(rows, metric, pool, (48, 300), Codes::Int8),
    },
    Variant {
        name: "cairn-compact",
        note: "native graph, m 12, beam 100, codes of half a byte a value, rescored; f32",
        codes: Some((12, Codes::Compact)),
        build: |rows, metric, pool| native(rows, metric, pool, (12, 100), Codes::Compact),
    },
    Variant {
        name: "cairn-x16",
        note: "native graph, m 12, beam 100, product codes of a byte for four values, rescored; f32",
        codes: Some((12, Codes::Product(Compression::X16))),
        build: |rows, metric, pool| native(rows, metric, pool, (12, 100), Codes::Product(Compression::X16)),
    },
    Variant {
        name: "cairn-hnsw_rs",
        note: "graph of hnsw_rs, m 16, frozen; f32",
        codes: None,
        build: |rows, metric, pool| pool.install(|| BUILDER.build(metric, rows, &|| false)),
    },
];

fn native(
    rows: &FlatRows<'_>,
    metric: Metric,
    pool: &ThreadPool,
    (m, ef_construction): (usize, usize),
    codes: Codes,
) -> cairn_ann::Result<Graph> {
    pool.install(|| {
        let graph =
            NativeBuilder { m, ef_construction, ..NativeBuilder::default() }
                .build(metric, rows, &|| false)?;
        Ok(graph.quantized_as(metric, rows, codes))
    })
}

/// As the peers that have these two settings.
const BUILDER: HnswRsBuilder = HnswRsBuilder { m: 16, ef_construction: 200 };

const BEAMS: [usize; 16] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 900, 1280, 1800];

/// Queries that warm the caches.
const WARM_UP: usize = 200;

/// Builds and searches as it is told on standard input, until that ends.
pub(crate) fn serve(name: &str, work: &Path) -> Outcome {
    let base = read_f32(&work.join("base.npy"))?;
    let queries = read_f32(&work.join("queries.npy"))?;
    let task: Value = serde_json::from_slice(&fs::read(work.join("task.json"))?)?;
    let metric = match task["metric"].as_str() {
        Some("euclid") => Metric::Euclid,
        Some("dot") => Metric::Dot,
        _ => Metric::Cosine,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(task["threads"].as_u64().unwrap_or(2) as usize)
        .build()?;
    let values = in_large_pages(&base.values)?;
    let rows = FlatRows::new(base.columns, bytemuck::cast_slice(&values))?;
    drop(base.values);
    let ids = work.join(format!("{name}.ids.npy"));
    // The first line asks for the build, and there is nothing else to be asked.
    io::stdin().lock().read_line(&mut String::new())?;
    let clock = Clock::start();
    let before = resident();
    if let Some(variant) = VARIANTS.iter().find(|variant| variant.name == name) {
        let graph = (variant.build)(&rows, metric, &pool)?;
        let mut built = clock.read();
        let (grown, vectors) = (grown(before, rows.len()), 4.0 * rows.dim() as f64);
        let mut links = Vec::new();
        graph.write_to(&mut links)?;
        let links = links.len() as f64 / rows.len() as f64;
        built["version"] = json!(concat!("cairn-ann ", env!("CARGO_PKG_VERSION")));
        built["note"] = json!(variant.note);
        // It searches the rows where they lie: they are its copy.
        built["resident"] = json!(grown + vectors);
        built["on_disk"] = json!(links + vectors);
        built["ways"] = json!([["one", 1], ["one", 2], ["batch", 1], ["batch", 2]]);
        return answer(built, &queries, &ids, |some, call, ef, scratches| {
            if call == "batch" {
                return graph.search_batch(metric, &rows, some, K, ef, |_| true, scratches);
            }
            scratches.resize_with(1, Scratch::new);
            let scratch = &mut scratches[0];
            some.iter().map(|query| graph.search(metric, &rows, query, K, ef, |_| true, scratch)).collect()
        });
    }
    let index = pool.install(|| HnswRsIndex::build(BUILDER, metric, &rows, &|| false))?;
    let mut built = clock.read();
    built["version"] = json!("hnsw_rs 0.3");
    built["note"] = json!("m 16, with its copies of the vectors");
    built["resident"] = json!(grown(before, rows.len()));
    built["ways"] = json!([["one", 1], ["one", 2]]);
    answer(built, &queries, &ids, |some, _, ef, _| {
        some.iter().map(|query| index.search(query, K, ef)).collect()
    })
}

/// A copy of the values in large pages where the system gives them, as NumPy has the
/// arrays of the peers.
fn in_large_pages(values: &[f32]) -> io::Result<memmap2::MmapMut> {
    let mut copy = memmap2::MmapMut::map_anon(size_of_val(values).max(1))?;
    #[cfg(target_os = "linux")]
    let _ = copy.advise(memmap2::Advice::HugePage);
    copy[..size_of_val(values)].copy_from_slice(bytemuck::cast_slice(values));
    Ok(copy)
}

/// Tells of the build and answers searches.
fn answer(
    mut built: Value,
    queries: &Matrix<f32>,
    ids: &Path,
    search: impl Fn(&[&[f32]], &str, usize, &mut Vec<Scratch>) -> Vec<Vec<Neighbor>> + Sync,
) -> Outcome {
    built["ladders"] = json!([BEAMS]);
    tell(&built)?;
    for line in io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let ef = asked["effort"].as_u64().unwrap_or_default() as usize;
        let threads = asked["threads"].as_u64().unwrap_or(1) as usize;
        let call = asked["way"].as_str().unwrap_or("one");
        let search = |some: &[&[f32]], scratches: &mut Vec<Scratch>| search(some, call, ef, scratches);
        let (found, clock) = searched(queries, threads, search);
        write_i32(ids, &found)?;
        tell(&clock)?;
    }
    Ok(())
}

fn tell(answer: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}

/// Asks all queries, shared between threads that begin together.
fn searched(
    queries: &Matrix<f32>,
    threads: usize,
    search: impl Fn(&[&[f32]], &mut Vec<Scratch>) -> Vec<Vec<Neighbor>> + Sync,
) -> (Matrix<i32>, Value) {
    let all: Vec<&[f32]> = queries.rows().collect();
    let share = all.len().div_ceil(threads).max(1);
    let begin = Barrier::new(threads.min(all.len()) + 1);
    let (begin, search) = (&begin, &search);
    let one = |some: &[&[f32]]| {
        let mut scratches = Vec::new();
        drop(search(&some[..some.len().min(WARM_UP)], &mut scratches));
        begin.wait();
        let started = (Instant::now(), machine::processor_time("/proc/thread-self"));
        let found = search(some, &mut scratches);
        let spent = machine::processor_time("/proc/thread-self").zip(started.1);
        (
            found,
            started.0.elapsed(),
            spent.map_or(Duration::ZERO, |(after, before)| after.saturating_sub(before)),
        )
    };
    let shares: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = all.chunks(share).map(|some| scope.spawn(move || one(some))).collect();
        begin.wait();
        running.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
    });
    // All began together, so the slowest tells when the last answer was there.
    let seconds = shares.iter().map(|share| share.1).max().unwrap_or_default().as_secs_f64();
    let spent: Duration = shares.iter().map(|share| share.2).sum();
    let ids = |found: &Vec<Neighbor>| {
        let mut ids = [-1; K];
        ids.iter_mut().zip(found).for_each(|(id, near)| *id = near.slot as i32);
        ids
    };
    let values = shares.iter().flat_map(|share| &share.0).flat_map(ids).collect();
    let clock = json!({ "seconds": seconds, "cpu_seconds": spent.as_secs_f64() });
    (Matrix { columns: K, values }, clock)
}

/// Wall and processor time since a moment.
struct Clock {
    wall: Instant,
    processor: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: machine::processor_time_of_all() }
    }

    fn read(&self) -> Value {
        let processor = machine::processor_time_of_all().saturating_sub(self.processor);
        json!({ "seconds": self.wall.elapsed().as_secs_f64(), "cpu_seconds": processor.as_secs_f64() })
    }
}

/// Bytes per row by which this process has grown.
fn grown(before: u64, rows: usize) -> f64 {
    resident().saturating_sub(before) as f64 / rows as f64
}

/// Memory of this process, without what was freed.
fn resident() -> u64 {
    give_back();
    machine::resident().map_or(0, |resident| resident.anonymous + resident.file)
}

/// Hands freed memory back to the system, as the peers do before they measure.
#[allow(unsafe_code)] // The allocator has no safe face for it.
fn give_back() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: mimalloc, which is the allocator here, has it with this signature, and it
    // may be called at any time.
    unsafe { mi_collect(true) };
}
