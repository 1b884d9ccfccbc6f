//! Keyword search: ranking quality beside speed, here, in bm25s and in tantivy.
//!
//!     cargo run --release -p cairn-benches --bin bm25 -- --data DIR
//!
//! The folder holds judged sets, each a folder in the BEIR layout. All systems
//! get the same documents (title, space, text) and queries, use English stop
//! words and stemmer, k1 1.2 and b 0.75, and are timed from the text of a query
//! to the numbers of its hits, one query after the other on one thread. A
//! second round lets only a tenth of the documents through, by a keyword; the
//! judgements of the others do not count then.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_benches::judged::JudgedSet;
use cairn_benches::machine;
use cairn_benches::peers::{self, Answered};
use cairn_benches::timing::Times;
use cairn_index::{
    Bm25, Bm25Options, Collection, CollectionConfig, Condition, Database, FieldKind, Filter, Modifier, Point,
    PointId, Search,
};
use clap::Parser;
use serde_json::json;

const VECTOR: &str = "words";
const FIELD: &str = "part";
const LIMITS: [usize; 2] = [10, 100];

/// Measures keyword search, with its quality, beside bm25s and tantivy.
#[derive(Parser)]
struct Args {
    /// Folder with the judged sets.
    #[arg(long)]
    data: PathBuf,
    /// The sets to measure.
    #[arg(long, value_delimiter = ',', default_value = "cranfield,xquad-en")]
    sets: Vec<String>,
    /// How often each query is timed.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Measure only ours.
    #[arg(long)]
    no_peer: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // One thread answers here as in the peers.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    println!("{}\n", machine::header());
    let mut tables = String::new();
    for name in &args.sets {
        let set = JudgedSet::read(&args.data.join(name))?;
        let work = tempfile::tempdir()?;
        let mut answers = ours(&args, &set, work.path())?;
        if !args.no_peer {
            write_for_peers(&args, &set, work.path())?;
            let packages = ["bm25s", "PyStemmer", "numba", "tantivy", "numpy"];
            match peers::run("bm25.py", &packages, work.path()) {
                Ok(found) => answers.extend(found),
                Err(reason) => println!("{reason}\n"),
            }
        }
        tables += &table(name, &set, &answers);
    }
    println!("{tables}The ratio is our queries per second to those of the line.");
    Ok(())
}

/// What a document's field holds: every tenth document is in the part that
/// filters let through.
fn part(document: usize) -> &'static str {
    if document.is_multiple_of(10) { "tenth" } else { "rest" }
}

/// The rounds: unfiltered and filtered, each with its limits.
fn cases() -> impl Iterator<Item = (bool, usize)> {
    [false, true].into_iter().flat_map(|filtered| LIMITS.map(|limit| (filtered, limit)))
}

fn name(filtered: bool, limit: usize) -> String {
    format!("{}, k {limit}", if filtered { "a tenth" } else { "all" })
}

fn ours(args: &Args, set: &JudgedSet, work: &Path) -> Result<Vec<Answered>, Box<dyn Error>> {
    let counting = Bm25::new(&Bm25Options::default())?;
    let tokens: usize = set.documents.iter().map(|document| counting.count(document)).sum();
    let avg_len = tokens as f32 / set.documents.len().max(1) as f32;
    let bm25 = Bm25::new(&Bm25Options { avg_len: Some(avg_len), ..Bm25Options::default() })?;

    let db = Database::open(work.join("cairn"))?;
    let config = CollectionConfig::default().with_sparse(VECTOR, Modifier::Idf);
    let config = config.with_index(FIELD, FieldKind::Keyword.into())?;
    let collection = db.create_collection("documents", config)?;
    let point = |(number, document): (usize, &String)| {
        let point = Point::empty(number as u64).with_vector(VECTOR, bm25.document(document));
        point.with_payload(json!({ FIELD: part(number) }))
    };
    let points: Result<Vec<Point>, _> = set.documents.iter().enumerate().map(point).collect();
    collection.upsert(points?)?;
    collection.index_now()?;
    cases().map(|(filtered, limit)| answer(args, set, &bm25, &collection, filtered, limit)).collect()
}

fn answer(
    args: &Args,
    set: &JudgedSet,
    bm25: &Bm25,
    collection: &Collection,
    filtered: bool,
    limit: usize,
) -> Result<Answered, Box<dyn Error>> {
    let filter = Filter::must(Condition::matches_keyword(FIELD, "tenth")?);
    let search = |query: &str| -> Result<Vec<usize>, cairn_index::Error> {
        let search = Search::nearest(bm25.query(query)).using(VECTOR).limit(limit);
        let search = if filtered { search.filter(filter.clone()) } else { search };
        let numbers = collection.search(&search)?.hits.into_iter().map(|hit| match hit.id {
            PointId::Num(number) => number as usize,
            PointId::Uuid(_) => usize::MAX,
        });
        Ok(numbers.collect())
    };
    let ids: Vec<Vec<usize>> = set.queries.iter().map(|query| search(query)).collect::<Result<_, _>>()?;
    let mut times = Times::default();
    for query in (0..args.rounds).flat_map(|_| &set.queries) {
        times.time(|| search(query))?;
    }
    Ok(Answered { system: "cairn".to_owned(), case: name(filtered, limit), ids, times })
}

fn write_for_peers(args: &Args, set: &JudgedSet, work: &Path) -> std::io::Result<()> {
    let cases: Vec<_> = cases()
        .map(|(filtered, limit)| json!({ "name": name(filtered, limit), "filtered": filtered, "k": limit }))
        .collect();
    let parts: Vec<&str> = (0..set.documents.len()).map(part).collect();
    let task = json!({ "documents": set.documents, "parts": parts, "part": "tenth",
        "queries": set.queries, "rounds": args.rounds, "cases": cases });
    fs::write(work.join("task.json"), serde_json::to_vec(&task)?)
}

fn table(set_name: &str, set: &JudgedSet, answers: &[Answered]) -> String {
    let (documents, queries) = (set.documents.len(), set.queries.len());
    let mut table = format!(
        "{set_name}: {documents} documents, {queries} queries\n\n\
         | searched | system | nDCG@10 | recall@100 | QPS, 1 thread | p50 us | p99 us | QPS ratio |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n"
    );
    for (filtered, limit) in cases() {
        let case = name(filtered, limit);
        let of = || answers.iter().filter(|answer| answer.case == case);
        let ours = of().next().map_or(f64::NAN, |answer| answer.times.per_second());
        for answer in of() {
            let quality = set.measure(&answer.ids, |document| !filtered || part(document) == "tenth");
            let recall = if limit >= 100 { format!("{:.4}", quality.recall_100) } else { String::new() };
            let rate = answer.times.per_second();
            table += &format!(
                "| {case} | {} | {:.4} | {recall} | {rate:.0} | {:.0} | {:.0} | {:.2} |\n",
                answer.system,
                quality.ndcg_10,
                answer.times.micros_at(0.5),
                answer.times.micros_at(0.99),
                ours / rate,
            );
        }
    }
    table + "\n"
}
