//! What HTTP costs: searching and writing through the service beside the same
//! calls in process, with the same points and queries.
//!
//! `prepare` makes a directory of points; `search` serves it, loads it with wrk
//! and then asks the same queries in this process; `upsert` writes the same
//! batches both ways. wrk must be installed.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_benches::clustered::clustered;
use cairn_benches::served::{Of, Served, spent};
use cairn_benches::wrk::write_script;
use cairn_index::{CollectionConfig, Database, Metric, Point, Query, QueryRequest};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const DIM: usize = 384;
const BATCH: usize = 256;
const LIMIT: usize = 10;
const QUERIES: usize = 500;
const COLLECTION: &str = "bench";

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// The binary that serves.
    #[arg(long, default_value = "target/release/cairn", global = true)]
    binary: PathBuf,
    #[arg(long, default_value_t = 7333, global = true)]
    port: u16,
}

#[derive(Subcommand)]
enum What {
    /// Makes a directory with so many points and a graph.
    Prepare {
        dir: PathBuf,
        #[arg(long, default_value_t = 100_000)]
        points: usize,
    },
    /// Searches what `prepare` made.
    Search {
        dir: PathBuf,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        #[arg(long, default_value_t = 8)]
        connections: usize,
        /// The narrowest beam that finds this share of the nearest ten is taken.
        #[arg(long, default_value_t = 0.97)]
        recall: f64,
    },
    /// Writes so many points both ways, a batch waiting for the one before.
    Upsert {
        #[arg(long, default_value_t = 20_480)]
        points: usize,
    },
}

fn main() -> Outcome {
    let args = Args::parse();
    match &args.what {
        What::Prepare { dir, points } => prepare(dir, *points),
        What::Search { dir, seconds, connections, recall } => {
            search(&args, dir, *seconds, *connections, *recall)
        }
        What::Upsert { points } => upsert(&args, *points),
    }
}

fn batches(points: usize) -> impl Iterator<Item = Vec<Point>> {
    let values = clustered(DIM, points, 7);
    (0..points).step_by(BATCH).map(move |start| {
        let rows = start..(start + BATCH).min(points);
        rows.map(|row| Point::new(row as u64, values[row * DIM..(row + 1) * DIM].to_vec())).collect()
    })
}

fn prepare(dir: &Path, points: usize) -> Outcome {
    let db = Database::open(dir)?;
    let collection = db.create_collection(COLLECTION, CollectionConfig::new(DIM, Metric::Cosine))?;
    for batch in batches(points) {
        collection.upsert(batch)?;
    }
    collection.compact()?;
    collection.index_now()?;
    let info = collection.info();
    println!("{points} points in {} segments, {} in graphs", info.segments, info.indexed_vectors);
    Ok(())
}

fn queries() -> Vec<Vec<f32>> {
    clustered(DIM, QUERIES, 99).chunks_exact(DIM).map(<[f32]>::to_vec).collect()
}

fn body(query: &[f32], ef: usize, exact: bool) -> Value {
    json!({ "query": query, "limit": LIMIT, "params": { "hnsw_ef": ef, "exact": exact } })
}

fn request(query: &[f32], ef: usize) -> QueryRequest {
    let mut request = QueryRequest::new(Query::nearest(query.to_vec())).limit(LIMIT);
    request.params.ef = Some(ef);
    request
}

fn search(args: &Args, dir: &Path, seconds: u64, connections: usize, wanted: f64) -> Outcome {
    let queries = queries();
    let (served, url) = Served::start(&args.binary, dir, args.port, &[])?;
    let path = format!("{url}/collections/{COLLECTION}/points/query");
    let (ef, found) = beam(&path, &queries, wanted)?;
    println!("recall@{LIMIT} {found:.4} with ef {ef}");

    let script = dir.join("queries.lua");
    write_script(&script, queries.iter().map(|query| body(query, ef, false).to_string()))?;
    let mut spent_serving = Vec::new();
    for connections in [1, connections] {
        let before = (served.spent()?, spent(std::process::id(), Of::Children)?);
        let wrk = Command::new("wrk")
            .args(["--latency", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
            .args([&script])
            .arg(&path)
            .output()
            .map_err(|error| format!("wrk: {error}"))?;
        let after = (served.spent()?, spent(std::process::id(), Of::Children)?);
        let said = String::from_utf8_lossy(&wrk.stdout);
        println!("http, {connections} connections\n{said}");
        let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "));
        let requests: f64 = requests.ok_or("wrk counted no requests")?.0.parse()?;
        let (server, client) = (1e6 * (after.0 - before.0) / requests, 1e6 * (after.1 - before.1) / requests);
        println!("processor time of a request: server {server:.0} us, wrk {client:.0} us\n");
        spent_serving.push(server);
    }
    drop(served);
    let db = Database::open(dir)?;
    let collection = db.collection(COLLECTION)?;
    for (threads, server) in [1, 2].into_iter().zip(spent_serving) {
        let (done, end) = (AtomicUsize::new(0), Instant::now() + Duration::from_secs(seconds));
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (queries, done, collection) = (&queries, &done, &collection);
                scope.spawn(move || {
                    for query in queries.iter().cycle().skip(thread * 17) {
                        if Instant::now() > end {
                            break;
                        }
                        collection.query(&request(query, ef)).expect("the collection has this vector");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let rate = done.into_inner() as f64 / seconds as f64;
        let engine = 1e6 * threads as f64 / rate;
        println!(
            "in process, {threads} threads: {rate:.0} queries/s, {engine:.0} us each: {:.0} % of the server's time \
             is outside the engine",
            100.0 * (1.0 - engine / server)
        );
    }
    Ok(())
}

fn ids(path: &str, body: &Value) -> Outcome<Vec<u64>> {
    let answer: Value = ureq::post(path).send_json(body)?.body_mut().read_json()?;
    let points = answer["result"]["points"].as_array().ok_or("the answer has no points")?;
    Ok(points.iter().filter_map(|point| point["id"].as_u64()).collect())
}

fn recall(path: &str, queries: &[Vec<f32>], ef: usize) -> Outcome<f64> {
    let mut found = 0;
    for query in &queries[..200] {
        let want = ids(path, &body(query, ef, true))?;
        found += ids(path, &body(query, ef, false))?.iter().filter(|id| want.contains(id)).count();
    }
    Ok(found as f64 / (200 * LIMIT) as f64)
}

/// The narrowest beam of those tried that finds enough, and what it finds.
fn beam(path: &str, queries: &[Vec<f32>], wanted: f64) -> Outcome<(usize, f64)> {
    for ef in [32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 768] {
        let found = recall(path, queries, ef)?;
        if found >= wanted {
            return Ok((ef, found));
        }
    }
    Err(format!("no beam finds {wanted} of the nearest").into())
}

fn upsert(args: &Args, points: usize) -> Outcome {
    let config = || CollectionConfig::new(DIM, Metric::Cosine);
    let rate = |started: Instant| points as f64 / started.elapsed().as_secs_f64();
    let inside = {
        let dir = tempfile::tempdir()?;
        let collection = Database::open(dir.path())?.create_collection(COLLECTION, config())?;
        let batches: Vec<_> = batches(points).collect();
        let started = Instant::now();
        for batch in batches {
            collection.upsert(batch)?;
        }
        rate(started)
    };
    let bodies: Vec<String> = batches(points)
        .map(|batch| {
            let points: Vec<Value> = { batch.iter() }
                .map(|point| json!({ "id": point.id, "vector": point.vectors[""].as_dense() }))
                .collect();
            json!({ "points": points }).to_string()
        })
        .collect();
    let dir = tempfile::tempdir()?;
    let (served, url) = Served::start(&args.binary, dir.path(), args.port, &[])?;
    let path = format!("{url}/collections/{COLLECTION}");
    ureq::put(&path).send_json(json!({ "vectors": { "size": DIM, "distance": "Cosine" } }))?;
    let before = (served.spent()?, spent(std::process::id(), Of::Process)?);
    let started = Instant::now();
    for body in &bodies {
        let sent = ureq::put(format!("{path}/points?wait=true"));
        // A connection is used again when its answer was read.
        sent.header("content-type", "application/json").send(body)?.body_mut().read_to_vec()?;
    }
    let outside = rate(started);
    let after = (served.spent()?, spent(std::process::id(), Of::Process)?);
    println!(
        "in process {inside:.0} points/s, over HTTP {outside:.0} points/s: {:.0} %",
        100.0 * outside / inside
    );
    println!(
        "processor time of a batch: server {:.2} ms, client {:.2} ms",
        (after.0 - before.0) * 1e3 / bodies.len() as f64,
        (after.1 - before.1) * 1e3 / bodies.len() as f64
    );
    Ok(())
}
