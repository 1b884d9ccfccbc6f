//! Searching while points are written: how much slower the slowest searches get.
//!
//! One thread searches, first alone, then while another writes new points at a
//! steady rate and the background seals, merges and builds graphs. Recall is
//! taken against exact searches before and after; while writing goes on there
//! is no truth that stands still. The goal is a p99 below three times the idle
//! one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cairn_benches::points;
use cairn_benches::timing::Times;
use cairn_index::{Collection, Point, Search};

use crate::{Args, Outcome, prepared};

const BATCH: usize = 50;
/// Queries that recall is taken of; each has to be compared with every point.
const JUDGED: usize = 100;

pub(crate) fn run(args: &Args) -> Outcome {
    let kept = prepared::directory(args, args.load_points, true)?;
    let work = tempfile::tempdir_in(&args.dir)?;
    let folder = work.path().join("copy-graph");
    prepared::copy(&kept, &folder)?;
    let (_db, collection) = prepared::open(&folder)?;
    prepared::check(&collection, args.load_points)?;
    settle(&collection);
    let searches: Vec<Search> = points::queries(1000).into_iter().map(Search::nearest).collect();
    for search in &searches {
        collection.search(search)?;
    }

    let idle_recall = recall(&collection, &searches)?;
    let idle = search_for(&collection, &searches, args.seconds, &AtomicBool::new(false))?;
    let before = collection.info();
    let batches = batches(args);
    let done = AtomicBool::new(false);
    let (loaded, written, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&collection, &done));
        let writer = scope.spawn(|| write(&collection, batches, args));
        let loaded = search_for(&collection, &searches, args.seconds, &done);
        done.store(true, Ordering::Release);
        let written = writer.join().expect("the writer does not panic");
        (loaded, written, watcher.join().expect("the watcher does not panic"))
    });
    let (loaded, written) = (loaded?, written?);
    let started = Instant::now();
    collection.index_now()?;
    let settled = started.elapsed().as_secs_f64();
    let after = collection.info();

    println!(
        "Searching while writing: {} points with a graph, then {} a second for {} s in batches of {BATCH}\n\n\
         | | searches | recall@10 | QPS, 1 thread | p50 us | p99 us | worst us |\n\
         |---|--:|--:|--:|--:|--:|--:|",
        before.points, args.rate, args.seconds
    );
    line("idle", &idle, idle_recall);
    line("while writing", &loaded, f64::NAN);
    let settled_times = search_for(&collection, &searches, 1, &AtomicBool::new(false))?;
    line("afterwards, indexed", &settled_times, recall(&collection, &searches)?);
    let ratio = |part| loaded.micros_at(part) / idle.micros_at(part);
    println!("\nwriting to idle: p50 {:.2}, p99 {:.2} (goal: below 3)", ratio(0.5), ratio(0.99));
    println!(
        "written: {} points, {:.0} a second; batches took p50 {:.0} us, p99 {:.0} us",
        written.points,
        written.points as f64 / written.seconds,
        written.times.micros_at(0.5),
        written.times.micros_at(0.99),
    );
    println!(
        "meanwhile: {} times another number of segments, background at work {:.0} % of the time",
        watched.changes,
        100.0 * watched.busy
    );
    println!(
        "afterwards: indexed within {settled:.1} s, {} points in {} segments",
        after.points, after.segments
    );
    prepared::check(&collection, args.load_points + written.points)
}

fn line(name: &str, times: &Times, recall: f64) {
    let recall = if recall.is_nan() { String::new() } else { format!("{recall:.4}") };
    println!(
        "| {name} | {} | {recall} | {:.0} | {:.0} | {:.0} | {:.0} |",
        times.len(),
        times.per_second(),
        times.micros_at(0.5),
        times.micros_at(0.99),
        times.micros_at(1.0),
    );
}

/// Waits until the background has nothing to do, as after opening.
fn settle(collection: &Collection) {
    loop {
        thread::sleep(Duration::from_millis(200));
        if !collection.info().indexing {
            return;
        }
    }
}

fn batches(args: &Args) -> Vec<Vec<Point>> {
    let count = args.rate * args.seconds as usize;
    points::batches(args.load_points..args.load_points + count, BATCH, 0).collect()
}

struct Written {
    points: usize,
    seconds: f64,
    times: Times,
}

/// Writes the batches, each no sooner than it is due; late ones are not caught
/// up on by leaving some out.
fn write(collection: &Collection, batches: Vec<Vec<Point>>, args: &Args) -> Outcome<Written> {
    let pause = Duration::from_secs_f64(BATCH as f64 / args.rate.max(1) as f64);
    let until = Duration::from_secs(args.seconds);
    let mut written = Written { points: 0, seconds: 0.0, times: Times::default() };
    let started = Instant::now();
    for (number, batch) in (0u32..).zip(batches) {
        if started.elapsed() >= until {
            break;
        }
        if let Some(early) = (pause * number).checked_sub(started.elapsed()) {
            thread::sleep(early);
        }
        written.points += batch.len();
        written.times.time(|| collection.upsert(batch))?;
    }
    written.seconds = started.elapsed().as_secs_f64();
    Ok(written)
}

struct Watched {
    /// How often the number of segments was another one.
    changes: usize,
    /// Share of looks at which the background was at work.
    busy: f64,
}

fn watch(collection: &Collection, done: &AtomicBool) -> Watched {
    let (mut changes, mut busy, mut looks) = (0, 0, 0);
    let mut segments = collection.info().segments;
    while !done.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(100));
        let info = collection.info();
        changes += usize::from(info.segments != segments);
        segments = info.segments;
        busy += usize::from(info.indexing);
        looks += 1;
    }
    Watched { changes, busy: busy as f64 / looks.max(1) as f64 }
}

/// Searches one after the other for some seconds.
fn search_for(
    collection: &Collection,
    searches: &[Search],
    seconds: u64,
    done: &AtomicBool,
) -> Outcome<Times> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut times = Times::default();
    for search in searches.iter().cycle() {
        if Instant::now() >= until || done.load(Ordering::Relaxed) {
            break;
        }
        times.time(|| collection.search(search))?;
    }
    Ok(times)
}

fn recall(collection: &Collection, searches: &[Search]) -> Outcome<f64> {
    let (mut found, mut wanted) = (0, 0);
    for search in searches.iter().take(JUDGED) {
        let truth = collection.search(&search.clone().exact())?.hits;
        let hits = collection.search(search)?.hits;
        found += hits.iter().filter(|hit| truth.iter().any(|true_hit| true_hit.id == hit.id)).count();
        wanted += truth.len();
    }
    Ok(found as f64 / wanted.max(1) as f64)
}
