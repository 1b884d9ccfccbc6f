//! Filtered search: recall beside speed, here and in Qdrant Edge, in one run.
//!
//!     cargo run --release -p cairn-benches --bin filtered -- --data DIR
//!
//! The folder holds `base.f16.npy` or `base.f32.npy` and `queries.f32.npy`.
//! A filter lets a share of the points through: at random (an integer field),
//! or *near* or *far* (keyword fields). For these the queries come in groups:
//! a query and those most like it. The points near a group are those with the
//! largest inner product with its first query, the far ones those with the
//! smallest. A filter that is near helps a search along a graph, one that is
//! far leads it astray.
//!
//! Both systems get the same points, payloads, field indexes, queries and `ef`,
//! build one graph with the same parameters, and answer one query after the
//! other on one thread. A hit counts when it matches and is as near as the
//! tenth of an exact search, so that ties are no misses. Ours is also told to
//! scan: a plan that is slower than that was not the right one.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use cairn_ann::{FlatRows, Metric, exact};
use cairn_benches::npy::{Matrix, read_f32};
use cairn_benches::peers::{self, Answered};
use cairn_benches::timing::Times;
use cairn_benches::{machine, npy};
use cairn_index::{
    Collection, CollectionConfig, Condition, Database, FieldKind, Filter, Options, Plan, Point, PointId,
    Scalar, Search, SearchParams, Test,
};
use clap::Parser;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};

const K: usize = 10;
const METRIC: Metric = Metric::Cosine;

/// Measures filtered searches, with their recall, beside Qdrant Edge.
#[derive(Parser)]
struct Args {
    /// Folder with the vectors and queries.
    #[arg(long)]
    data: PathBuf,
    /// Shares of the points that filters let through, in per mille.
    #[arg(long, value_delimiter = ',', default_value = "500,100,10,1")]
    shares: Vec<usize>,
    /// The beam's width, in both systems.
    #[arg(long, default_value_t = 128)]
    ef: usize,
    /// Groups of queries.
    #[arg(long, default_value_t = 10)]
    groups: usize,
    /// Queries in a group.
    #[arg(long, default_value_t = 50)]
    group_queries: usize,
    /// Take only the first points.
    #[arg(long)]
    limit_points: Option<usize>,
    /// Measure only ours.
    #[arg(long)]
    no_peer: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // Large scans would use all cores; one thread answers here as in the peer.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let mut base = prepared(base(&args.data)?);
    let queries = prepared(read_f32(&args.data.join("queries.f32.npy"))?);
    if base.columns != queries.columns {
        return Err("the vectors and queries do not belong together".into());
    }
    base.values.truncate(args.limit_points.unwrap_or(usize::MAX).saturating_mul(base.columns));
    println!("{}", machine::header());
    println!("data   {} x {}, {METRIC:?}, ef {}", base.rows().len(), base.columns, args.ef);

    let set = Set::new(&args, &base, &queries)?;
    let work = tempfile::tempdir()?;
    let mut answers = ours(&args, &set, work.path())?;
    if !args.no_peer {
        set.write_for_peer(&args, work.path())?;
        let packages = ["qdrant-edge-py", "numpy"];
        match peers::run("filtered.py", &packages, work.path()) {
            Ok(found) => answers.extend(found),
            Err(reason) => println!("{reason}\n"),
        }
    }
    report(&set, &answers);
    Ok(())
}

/// What is searched, for what, and what should be found.
struct Set<'a> {
    base: &'a Matrix<f32>,
    queries: &'a Matrix<f32>,
    payloads: Vec<Map<String, Value>>,
    fields: Vec<(String, FieldKind)>,
    cases: Vec<Case>,
}

/// One share, one kind of filter.
struct Case {
    name: String,
    key: String,
    questions: Vec<Question>,
}

/// A query under a filter.
struct Question {
    query: usize,
    /// What the field must hold.
    value: Scalar,
    /// Inner product of the query and its `K`-th match, less a rounding error.
    bound: f32,
    /// How many hits there can be.
    wanted: usize,
}

impl<'a> Set<'a> {
    fn new(args: &Args, base: &'a Matrix<f32>, queries: &'a Matrix<f32>) -> Result<Self, Box<dyn Error>> {
        let rows = FlatRows::new(base.columns, &base.values)?;
        let mut set = Self {
            base,
            queries,
            payloads: vec![Map::new(); base.rows().len()],
            fields: Vec::new(),
            cases: Vec::new(),
        };
        let groups = groups(args, queries);
        // The points in order of their nearness to a group, the nearest first.
        let orders: Vec<Vec<u32>> = groups.iter().map(|group| order(base, row(queries, group[0]))).collect();
        let mut random = StdRng::seed_from_u64(1);
        for share in &args.shares {
            let count = (base.rows().len() * share / 1000).max(1);
            let percent = *share as f64 / 10.0;
            let chance = *share as f64 / 1000.0;
            let hits: Vec<u32> =
                (0..base.rows().len() as u32).filter(|_| random.random_bool(chance)).collect();
            set.add(&rows, format!("{percent} % random"), FieldKind::Integer, &groups, |_| hits.clone());
            let near = |group: usize| orders[group][..count].to_vec();
            set.add(&rows, format!("{percent} % near"), FieldKind::Keyword, &groups, near);
            let far = |group: usize| orders[group][orders[group].len() - count..].to_vec();
            set.add(&rows, format!("{percent} % far"), FieldKind::Keyword, &groups, far);
        }
        Ok(set)
    }

    /// Adds a case, with its field in the payloads.
    fn add(
        &mut self,
        rows: &FlatRows<'_>,
        name: String,
        kind: FieldKind,
        groups: &[Vec<usize>],
        matches: impl Fn(usize) -> Vec<u32>,
    ) {
        let key = format!("field_{}", self.cases.len());
        let mut questions = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let matches = matches(number);
            let value = match kind {
                FieldKind::Integer => Scalar::Integer(1),
                _ => Scalar::Keyword(format!("group-{number}")),
            };
            self.mark(&key, &value, number, &matches);
            for query in group {
                let nearest = exact(METRIC, rows, row(self.queries, *query), K, matches.iter().copied());
                let last = nearest.last().map(|last| row(self.base, last.slot as usize));
                let bound = last.map_or(f32::INFINITY, |last| dot(last, row(self.queries, *query)) - 1e-6);
                questions.push(Question {
                    query: *query,
                    value: value.clone(),
                    bound,
                    wanted: nearest.len(),
                });
            }
        }
        self.fields.push((key.clone(), kind));
        self.cases.push(Case { name, key, questions });
    }

    /// Writes into payloads that a group's filter lets them through.
    fn mark(&mut self, key: &str, value: &Scalar, group: usize, matches: &[u32]) {
        if matches!(value, Scalar::Integer(_)) {
            // All groups have the same matches.
            if group == 0 {
                self.payloads.iter_mut().for_each(|payload| drop(payload.insert(key.to_owned(), json!(0))));
                matches.iter().for_each(|at| self.payloads[*at as usize][key] = json!(1));
            }
            return;
        }
        for at in matches {
            let values = self.payloads[*at as usize].entry(key).or_insert_with(|| json!([]));
            values.as_array_mut().expect("it was made one").push(json!(value));
        }
    }

    fn write_for_peer(&self, args: &Args, work: &Path) -> io::Result<()> {
        npy::write_f32(&work.join("base.npy"), self.base)?;
        npy::write_f32(&work.join("queries.npy"), self.queries)?;
        let questions = |case: &Case| -> Vec<Value> {
            case.questions.iter().map(|one| json!({ "query": one.query, "value": one.value })).collect()
        };
        let cases: Vec<Value> = self
            .cases
            .iter()
            .map(|case| {
                json!({
                    "name": case.name, "key": case.key, "questions": questions(case),
                })
            })
            .collect();
        let fields: Vec<Value> =
            self.fields.iter().map(|(key, kind)| json!({ "key": key, "kind": kind.name() })).collect();
        let all = json!({ "k": K, "ef": args.ef, "m": 16, "ef_construct": 100, "threads": THREADS,
            "payloads": self.payloads, "fields": fields, "cases": cases });
        fs::write(work.join("task.json"), serde_json::to_vec(&all)?)
    }

    /// Share of what should be found that was found.
    fn recall(&self, case: &Case, ids: &[Vec<usize>]) -> f64 {
        let (mut found, mut wanted) = (0, 0);
        for (question, ids) in case.questions.iter().zip(ids) {
            let query = row(self.queries, question.query);
            let matches = |id: usize| match &self.payloads[id].get(&case.key) {
                Some(Value::Array(values)) => values.contains(&json!(question.value)),
                Some(value) => **value == json!(question.value),
                None => false,
            };
            let distinct: HashSet<usize> = ids.iter().take(K).copied().collect();
            let good = |id: &&usize| matches(**id) && dot(row(self.base, **id), query) >= question.bound;
            found += distinct.iter().filter(good).count().min(question.wanted);
            wanted += question.wanted;
        }
        found as f64 / wanted.max(1) as f64
    }
}

/// Threads that build.
const THREADS: usize = 2;

/// Queries most like one of them, for each group; the first is that one.
fn groups(args: &Args, queries: &Matrix<f32>) -> Vec<Vec<usize>> {
    let mut random = StdRng::seed_from_u64(2);
    let mut group = || {
        let first = random.random_range(0..queries.rows().len());
        let mut all = order(queries, row(queries, first));
        all.truncate(args.group_queries);
        all.into_iter().map(|at| at as usize).collect()
    };
    (0..args.groups).map(|_| group()).collect()
}

/// The rows in order of their inner product with a direction, largest first.
fn order(rows: &Matrix<f32>, direction: &[f32]) -> Vec<u32> {
    let products: Vec<f32> = rows.rows().map(|row| dot(row, direction)).collect();
    let mut order: Vec<u32> = (0..products.len() as u32).collect();
    order.sort_by(|a, b| products[*b as usize].total_cmp(&products[*a as usize]));
    order
}

fn ours(args: &Args, set: &Set<'_>, work: &Path) -> Result<Vec<Answered>, Box<dyn Error>> {
    // One segment with one graph, as the peer makes it.
    let options = Options {
        seal_points: usize::MAX,
        seal_bytes: usize::MAX,
        background_threads: THREADS,
        ..Options::default()
    };
    let db = Database::open_with(work.join("cairn"), options)?;
    let mut config = CollectionConfig::new(set.base.columns, METRIC);
    for (key, kind) in &set.fields {
        config = config.with_index(key, (*kind).into())?;
    }
    let collection = db.create_collection("passages", config)?;
    let (started, processor) = (Instant::now(), machine::processor_time_of_all());
    let mut points =
        set.base.rows().zip(&set.payloads).zip(0u64..).map(|((vector, payload), id)| Point {
            payload: payload.clone(),
            ..Point::new(id, vector.to_vec())
        });
    loop {
        let batch: Vec<Point> = points.by_ref().take(1000).collect();
        if batch.is_empty() {
            break;
        }
        collection.upsert(batch)?;
    }
    collection.index_now()?;
    let processor = machine::processor_time_of_all().saturating_sub(processor).as_secs_f64();
    println!("cairn  written and indexed in {:.1} s, {processor:.1} cpu s", started.elapsed().as_secs_f64());
    let mut answers = Vec::new();
    for case in &set.cases {
        answers.push(answer(args, set, &collection, case, false)?);
        answers.push(answer(args, set, &collection, case, true)?);
    }
    Ok(answers)
}

fn answer(
    args: &Args,
    set: &Set<'_>,
    collection: &Collection,
    case: &Case,
    exact: bool,
) -> Result<Answered, Box<dyn Error>> {
    let key = case.key.parse::<cairn_index::Path>()?;
    let search = |question: &Question| {
        let tests = vec![Test::Match(question.value.clone())];
        let filter = Filter::must(Condition::Field { key: key.clone(), tests });
        let search = Search::nearest(row(set.queries, question.query).to_vec()).limit(K).filter(filter);
        let params = SearchParams { ef: Some(args.ef), exact, ..SearchParams::default() };
        Search { params, ..search }
    };
    let searches: Vec<Search> = case.questions.iter().map(search).collect();
    for search in searches.iter().take(100) {
        collection.search(search)?;
    }
    let (mut times, mut ids, mut walks) = (Times::default(), Vec::new(), 0);
    for search in &searches {
        let found = times.time(|| collection.search(search))?;
        walks += usize::from(found.plan == Plan::Graph);
        ids.push(found.hits.iter().map(|hit| number(hit.id)).collect());
    }
    let system = match walks {
        _ if exact => "cairn, told to scan".to_owned(),
        0 => "cairn, scan".to_owned(),
        _ if walks == searches.len() => "cairn, graph".to_owned(),
        _ => format!("cairn, graph {} %", 100 * walks / searches.len()),
    };
    Ok(Answered { system, case: case.name.clone(), ids, times })
}

fn report(set: &Set<'_>, answers: &[Answered]) {
    println!("\n| filter | system | recall@{K} | QPS, 1 thread | p50 us | p99 us | QPS ratio |");
    println!("|---|---|--:|--:|--:|--:|--:|");
    for case in &set.cases {
        let mut of: Vec<&Answered> = answers.iter().filter(|answer| answer.case == case.name).collect();
        of.sort_by_key(|answer| Reverse(answer.system.starts_with("cairn")));
        let ours = of.first().map_or(f64::NAN, |answer| answer.times.per_second());
        for answer in of {
            let rate = answer.times.per_second();
            println!(
                "| {} | {} | {:.4} | {rate:.0} | {:.0} | {:.0} | {:.2} |",
                case.name,
                answer.system,
                set.recall(case, &answer.ids),
                answer.times.micros_at(0.5),
                answer.times.micros_at(0.99),
                ours / rate,
            );
        }
    }
    println!("\nThe ratio is our queries per second to those of the line.");
}

fn number(id: PointId) -> usize {
    match id {
        PointId::Num(number) => number as usize,
        PointId::Uuid(_) => usize::MAX,
    }
}

fn row(matrix: &Matrix<f32>, at: usize) -> &[f32] {
    &matrix.values[at * matrix.columns..][..matrix.columns]
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The vectors, at whichever precision they are kept.
fn base(folder: &Path) -> io::Result<Matrix<f32>> {
    let full = folder.join("base.f32.npy");
    if full.exists() { read_f32(&full) } else { read_f32(&folder.join("base.f16.npy")) }
}

fn prepared(mut matrix: Matrix<f32>) -> Matrix<f32> {
    let columns = matrix.columns;
    matrix.values.chunks_mut(columns).for_each(|row| METRIC.prepare(row));
    matrix
}
