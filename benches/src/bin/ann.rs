//! Speed beside recall on real vectors: hnsw_rs and the frozen copy of its graph.
//!
//!     cargo run --release -p cairn-benches --bin ann -- --data DIR
//!
//! The folder holds `base.f16.npy` or `base.f32.npy`, `queries.f32.npy` and
//! `gt100.i32.npy`, the exact nearest by cosine. Queries run one after the
//! other on one thread; each is timed alone. Some queries warm the caches first.
//! Beside wall time stands processor time, which other programs on the machine
//! disturb less.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_ann::{
    FlatRows, Graph, GraphBuilder, HnswRsBuilder, HnswRsIndex, Metric, Neighbor, Rows, Scratch, exact,
    filtered_strategy,
};
use cairn_benches::machine::{self, processor_time, processor_time_of_all};
use cairn_benches::npy::{Matrix, read_f32, read_i32};
use clap::Parser;
use rand::{Rng, SeedableRng, rngs::StdRng};

const K: usize = 10;
const METRIC: Metric = Metric::Cosine;

/// Measures searches of hnsw_rs and of the frozen graph, with their recall.
#[derive(Parser)]
struct Args {
    /// Folder with the vectors, queries and true neighbours.
    #[arg(long)]
    data: PathBuf,
    /// Take only the first queries.
    #[arg(long)]
    limit_queries: Option<usize>,
    /// Links per point on the upper layers.
    #[arg(long, default_value_t = 16)]
    m: usize,
    /// The beam's width while building.
    #[arg(long, default_value_t = 200)]
    ef_construction: usize,
    /// Threads that build.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The beam's widths to search with.
    #[arg(long, value_delimiter = ',', default_value = "10,16,32,64,128,256,512")]
    ef: Vec<usize>,
    /// Shares of slots to accept at random, 0 to 1, for filtered searches.
    #[arg(long, value_delimiter = ',')]
    shares: Vec<f32>,
    /// Build a second time without copies of the vectors, as the database does.
    #[arg(long)]
    by_slot: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let base = prepared(base(&args.data)?);
    let mut queries = prepared(read_f32(&args.data.join("queries.f32.npy"))?);
    let truth = read_i32(&args.data.join("gt100.i32.npy"))?;
    if base.columns != queries.columns || truth.rows().len() != queries.rows().len() || truth.columns < K {
        return Err("the vectors, queries and true neighbours do not belong together".into());
    }
    if let Some(limit) = args.limit_queries {
        queries.values.truncate(limit * queries.columns);
    }
    let rows = FlatRows::new(base.columns, &base.values)?;
    let set = Set { rows: &rows, queries: &queries, truth: &truth };
    header(&args, &set);

    let builder = HnswRsBuilder { m: args.m, ef_construction: args.ef_construction };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let before = resident_bytes();
    let clock = Clock::start();
    let index = pool.install(|| HnswRsIndex::build(builder, METRIC, &rows, &|| false))?;
    println!("build, hnsw_rs with copies   {clock}");
    let grown = before.zip(resident_bytes()).map(|(before, after)| after.saturating_sub(before));

    let clock = Clock::start();
    let graph = index.freeze(&rows);
    println!("freeze and audit             {clock}");
    if args.by_slot {
        let clock = Clock::start();
        pool.install(|| builder.build(METRIC, &rows, &|| false))?;
        println!("build and freeze, by slot    {clock}");
    }
    if let Some(grown) = grown {
        println!("hnsw_rs, with its vectors    {:8} bytes per vector", grown / rows.len());
    }
    let links = graph.memory_bytes() / rows.len();
    println!("frozen, links alone          {links:8} bytes per vector");
    println!("the vectors alone            {:8} bytes per vector", 4 * rows.dim());

    println!("\n| search | ef | recall@{K} | QPS, 1 thread | p50 us | p99 us | cpu us |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let mut scratch = Scratch::new();
    for &ef in &args.ef {
        set.measure("hnsw_rs", ef, |query| index.search(query, K, ef));
        set.measure("frozen", ef, |query| graph.search(METRIC, &rows, query, K, ef, |_| true, &mut scratch));
    }
    let all = 0..rows.len() as u32;
    set.measure("exact", 0, |query| exact(METRIC, &rows, query, K, all.clone()));
    args.shares.iter().for_each(|&share| filtered(&args, &set, &graph, share));
    Ok(())
}

/// Searches among a share of the slots, one filter for all queries.
fn filtered(args: &Args, set: &Set, graph: &Graph, share: f32) {
    let mut random = StdRng::seed_from_u64(1);
    let accepted: Vec<bool> = (0..set.rows.len()).map(|_| random.random::<f32>() < share).collect();
    let accept = |slot: u32| accepted[slot as usize];
    let slots: Vec<u32> = (0..set.rows.len() as u32).filter(|&slot| accept(slot)).collect();
    let scan = |query: &[f32]| exact(METRIC, set.rows, query, K, slots.iter().copied());
    let near = set.queries.rows().flat_map(|query| scan(query).into_iter().map(|near| near.slot as i32));
    let truth = Matrix { columns: K, values: near.collect() };
    if truth.values.len() != K * set.queries.rows().len() {
        return; // Too few slots to ask for `K`.
    }
    let set = Set { truth: &truth, ..*set };
    let mut scratch = Scratch::new();
    for &ef in &args.ef {
        let strategy = filtered_strategy(share, set.rows.len(), ef);
        set.measure(&format!("accepting {share}: {strategy:?}"), ef, |query| {
            graph.search_filtered(METRIC, set.rows, query, K, ef, share, accept, &mut scratch)
        });
        set.measure(&format!("accepting {share}: unknowing"), ef, |query| {
            graph.search(METRIC, set.rows, query, K, ef, accept, &mut scratch)
        });
    }
    set.measure(&format!("accepting {share}: exact"), 0, scan);
}

/// What is searched, for what, and what should be found.
struct Set<'a> {
    rows: &'a FlatRows<'a>,
    queries: &'a Matrix<f32>,
    truth: &'a Matrix<i32>,
}

impl Set<'_> {
    /// Runs all queries and prints a line of the table.
    fn measure(&self, name: &str, ef: usize, mut search: impl FnMut(&[f32]) -> Vec<Neighbor>) {
        for query in self.queries.rows().take(100) {
            search(query);
        }
        let mut times = Vec::with_capacity(self.queries.rows().len());
        let mut hits = 0;
        let before = processor_time("/proc/thread-self");
        for (query, truth) in self.queries.rows().zip(self.truth.rows()) {
            let start = Instant::now();
            let near = search(query);
            times.push(start.elapsed());
            hits += near.iter().filter(|near| truth[..K].contains(&(near.slot as i32))).count();
        }
        let spent = before
            .zip(processor_time("/proc/thread-self"))
            .map(|(before, after)| after.saturating_sub(before));
        let spent = spent.map_or(f64::NAN, |spent| micros(spent) / times.len() as f64);
        let recall = hits as f64 / (times.len() * K) as f64;
        let rate = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
        times.sort_unstable();
        let at = |part: f64| micros(times[((times.len() - 1) as f64 * part) as usize]);
        println!(
            "| {name} | {ef} | {recall:.4} | {rate:.0} | {:.0} | {:.0} | {spent:.0} |",
            at(0.5),
            at(0.99)
        );
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The vectors, at whichever precision they are kept.
fn base(folder: &Path) -> std::io::Result<Matrix<f32>> {
    let full = folder.join("base.f32.npy");
    if full.exists() {
        return read_f32(&full);
    }
    read_f32(&folder.join("base.f16.npy"))
}

fn prepared(mut matrix: Matrix<f32>) -> Matrix<f32> {
    let columns = matrix.columns;
    matrix.values.chunks_mut(columns).for_each(|row| METRIC.prepare(row));
    matrix
}

fn header(args: &Args, set: &Set) {
    println!("{}", machine::header());
    let (len, dim) = (set.rows.len(), set.rows.dim());
    println!("data   {len} x {dim}, {METRIC:?}, {} queries", set.queries.rows().len());
    println!("build  m {}, ef_construction {}, {} threads\n", args.m, args.ef_construction, args.threads);
}

/// Wall and processor time since a moment. Shows both when printed.
struct Clock {
    wall: Instant,
    processor: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_time_of_all() }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = processor_time_of_all().saturating_sub(self.processor);
        let (wall, processor) = (self.wall.elapsed().as_secs_f64(), processor.as_secs_f64());
        write!(f, "{wall:8.1} s, {processor:.1} cpu s")
    }
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<usize> {
    let resident = machine::resident()?;
    Some((resident.anonymous + resident.file) as usize)
}
