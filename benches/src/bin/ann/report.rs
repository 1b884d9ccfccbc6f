//! What came out, as tables and as JSON.

use serde_json::{Value, json};

use crate::curve::Rate;
use crate::measure::{Measured, Point, Way};
use crate::sets::Set;

/// Recalls that speed is told at.
const RECALLS: [f64; 3] = [0.90, 0.95, 0.99];

/// What it is called, and which ways of asking count.
type Column = (&'static str, fn(&Way) -> bool);

/// Whose speed: of one thread with whichever call is faster, and so on.
const COLUMNS: [Column; 3] = [
    ("1 thread", |way| way.threads == 1),
    ("1 thread, a call for each query", |way| way.threads == 1 && way.call == "one"),
    ("2 threads", |way| way.threads == 2),
];

/// The tables of one set.
pub(crate) fn print(set: &Set, systems: &[Measured]) {
    println!("\n{}\n", set.header());
    println!(
        "| system | QPS at 0.90 | 0.95 | 0.99 | one call each, 0.95 | 0.99 | 2 threads, 0.95 | 0.99 | between passes | build s | bytes | on disk |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut order: Vec<&Measured> = systems.iter().collect();
    // Ours above, then the fastest first.
    order.sort_by(|a, b| {
        let key = |system: &Measured| (system.system.ours, speed(system, 0, 0.95).map_or(0.0, Rate::value));
        key(b).partial_cmp(&key(a)).expect("a speed is a number")
    });
    for system in order {
        println!("{}", line(system));
    }
    ratios(systems);
    println!();
    println!(
        "QPS on one thread, with the library's call for one query or for many, whichever is faster; then"
    );
    println!("with one call for each query. `*`: the cheapest setting finds more; `-`: not reached, or not");
    println!(
        "offered. Between passes: how far apart the two are at 0.95. Bytes per vector, vectors included:"
    );
    println!("what the build added to the memory, and the saved index.");
    told(systems);
}

fn line(system: &Measured) -> String {
    let at = |column, recall| shown(speed(system, column, recall));
    let bytes = |bytes: Option<f64>| bytes.map_or("-".to_owned(), grouped);
    [
        format!("| {}", system.system.name),
        at(0, 0.90),
        at(0, 0.95),
        at(0, 0.99),
        at(1, 0.95),
        at(1, 0.99),
        at(2, 0.95),
        at(2, 0.99),
        apart(system).map_or("-".to_owned(), |apart| format!("{apart:.0} %")),
        format!("{:.1}", system.build_seconds),
        bytes(system.resident),
        format!("{} |", bytes(system.on_disk)),
    ]
    .join(" | ")
}

fn speed(system: &Measured, column: usize, recall: f64) -> Option<Rate> {
    system.curve(COLUMNS[column].1, Point::best).at(recall)
}

/// How far apart the passes are at 0.95, in percent of the faster.
fn apart(system: &Measured) -> Option<f64> {
    let pass = |pass: usize| {
        let rate = |point: &Point| point.rates.get(pass).copied().unwrap_or_default();
        Some(system.curve(COLUMNS[0].1, rate).at(0.95)?.value())
    };
    let (first, second) = (pass(0)?, pass(1)?);
    Some(100.0 * (first - second).abs() / first.max(second))
}

/// Ours to the best peer.
fn ratios(systems: &[Measured]) {
    println!("\n| ours to the best peer, at recall | 0.90 | 0.95 | 0.99 |");
    println!("|---|--:|--:|--:|");
    for (column, (name, _)) in COLUMNS.iter().enumerate() {
        let best = |ours: bool, recall: f64| {
            let of = systems.iter().filter(|system| system.system.ours == ours);
            let rated = of.filter_map(|system| Some((system.system.name, speed(system, column, recall)?)));
            rated.max_by(|a, b| a.1.value().total_cmp(&b.1.value()))
        };
        let cell = |recall: f64| match (best(true, recall), best(false, recall)) {
            (Some((_, ours)), Some((name, peer))) => format!("{:.2}, {name}", ours.value() / peer.value()),
            _ => "-".to_owned(),
        };
        println!("| {name} | {} |", RECALLS.map(cell).join(" | "));
    }
}

/// What does not fit into the table.
fn told(systems: &[Measured]) {
    for system in systems {
        let cores = |point: &&Point| point.way.threads == 1 && point.cores > 1.2;
        if let Some(point) = system.points.iter().find(cores) {
            println!("{}: asked on one thread it used {:.1} cores.", system.system.name, point.cores);
        }
    }
}

pub(crate) fn shown(rate: Option<Rate>) -> String {
    match rate {
        Some(Rate::At(rate)) => grouped(rate),
        Some(Rate::Cheapest(rate)) => format!("{}*", grouped(rate)),
        None => "-".to_owned(),
    }
}

/// 12345.6 as 12,346.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Everything that was measured of one set.
pub(crate) fn json(set: &Set, systems: &[Measured]) -> Value {
    let point = |point: &Point| {
        json!({ "effort": point.effort, "call": point.way.call, "threads": point.way.threads,
            "recall": point.recall, "qps": point.rates, "cores": point.cores })
    };
    let system = |one: &Measured| {
        let points: Vec<Value> = one.points.iter().map(point).collect();
        json!({ "system": one.system.name, "ours": one.system.ours, "version": one.version, "note": one.note,
            "build_seconds": one.build_seconds, "build_cpu_seconds": one.build_cpu_seconds,
            "bytes_resident": one.resident, "bytes_on_disk": one.on_disk,
            "ended": one.ended, "points": points })
    };
    let systems: Vec<Value> = systems.iter().map(system).collect();
    json!({ "set": set.name, "metric": format!("{:?}", set.metric), "rows": set.len, "dim": set.base.columns,
        "queries": set.queries.rows().len(), "systems": systems })
}
