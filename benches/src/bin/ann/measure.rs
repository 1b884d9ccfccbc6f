//! Builds all systems, asks them in turns, and judges what they found.

use std::path::Path;

use cairn_benches::npy::read_i32;
use serde_json::{Value, json};

use crate::curve::Curve;
use crate::judge::Judge;
use crate::process::Process;
use crate::sets::Set;
use crate::systems::System;
use crate::{Args, Outcome};

/// Below this recall one way of asking is enough.
const OF_INTEREST: f64 = 0.8;
/// Above this a wider search is not worth measuring.
const ENOUGH: f64 = 0.997;
/// A gain of recall below this ends a ladder.
const LITTLE: f64 = 0.0004;

/// One system, built, and what became of it.
pub(crate) struct Measured {
    pub(crate) system: System,
    pub(crate) version: String,
    pub(crate) note: String,
    pub(crate) build_seconds: f64,
    /// Of all threads together, which other programs disturb less.
    pub(crate) build_cpu_seconds: f64,
    /// Bytes per vector that the build added to its memory, vectors included.
    pub(crate) resident: Option<f64>,
    /// Bytes per vector of the saved index, vectors included.
    pub(crate) on_disk: Option<f64>,
    pub(crate) points: Vec<Point>,
    ladders: Vec<Vec<Value>>,
    ways: Vec<Way>,
    process: Process,
    /// Why it stopped answering.
    pub(crate) ended: Option<String>,
}

/// How queries are handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// `one` call for each query, or all in a `batch`.
    pub(crate) call: String,
    pub(crate) threads: u64,
}

/// One setting asked in one way.
pub(crate) struct Point {
    pub(crate) effort: Value,
    pub(crate) way: Way,
    pub(crate) recall: f64,
    /// Queries per second in each pass.
    pub(crate) rates: Vec<f64>,
    /// Processor seconds to seconds, in the last pass.
    pub(crate) cores: f64,
}

impl Point {
    pub(crate) fn best(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

impl Measured {
    fn build_line(&self) -> String {
        let (name, seconds, cpu) = (self.system.name, self.build_seconds, self.build_cpu_seconds);
        format!("built  {name:16} {seconds:7.1} s {cpu:7.1} cpu s  {}, {}", self.version, self.note)
    }

    /// The curve of some ways, by the speed that `rate` picks.
    pub(crate) fn curve(&self, ways: impl Fn(&Way) -> bool, rate: impl Fn(&Point) -> f64) -> Curve {
        let points = self.points.iter().filter(|point| ways(&point.way));
        Curve::new(points.map(|point| (point.recall, rate(point))).collect())
    }
}

/// All systems that can be built, measured.
pub(crate) fn all(args: &Args, set: &Set, systems: &[System]) -> Outcome<Vec<Measured>> {
    println!("\n{}", set.header());
    let (nearest, last) = set.nearness();
    println!("score  {nearest:.3} of the nearest, {last:.3} of the last asked for, in the mean\n");
    let work = tempfile::tempdir()?;
    set.write(work.path(), args.threads)?;
    let mut built = Vec::new();
    for &system in systems {
        match build(system, work.path()) {
            Ok(built_one) => {
                println!("{}", built_one.build_line());
                built.push(built_one);
            }
            Err(reason) => println!("{} is left out: {reason}", system.name),
        }
    }
    let judge = Judge::new(set);
    let queries = set.queries.rows().len() as f64;
    built.iter_mut().for_each(|system| system.first_pass(work.path(), &judge, queries));
    built.iter_mut().rev().for_each(|system| system.second_pass(queries));
    for system in built.iter().filter(|system| system.ended.is_some()) {
        println!("{} ended: {}", system.system.name, system.ended.as_deref().unwrap_or_default());
    }
    Ok(built)
}

fn build(system: System, work: &Path) -> Result<Measured, String> {
    let mut process = system.start(work)?;
    let built = process.ask(&json!({ "do": "build" }))?;
    let text = |field: &str| built[field].as_str().unwrap_or_default().to_owned();
    let way = |way: &Value| Way {
        call: way[0].as_str().unwrap_or_default().to_owned(),
        threads: way[1].as_u64().unwrap_or(1),
    };
    Ok(Measured {
        system,
        version: text("version"),
        note: text("note"),
        build_seconds: built["seconds"].as_f64().unwrap_or(f64::NAN),
        build_cpu_seconds: built["cpu_seconds"].as_f64().unwrap_or(f64::NAN),
        resident: built["resident"].as_f64(),
        on_disk: built["on_disk"].as_f64(),
        points: Vec::new(),
        ladders: list(&built["ladders"]).iter().map(list).collect(),
        ways: list(&built["ways"]).iter().map(way).collect(),
        process,
        ended: None,
    })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

impl Measured {
    /// Climbs the ladders.
    fn first_pass(&mut self, work: &Path, judge: &Judge<'_>, queries: f64) {
        for ladder in self.ladders.clone() {
            let mut before = f64::MIN;
            for effort in ladder {
                let Some(recall) = self.all_ways(&effort, work, judge, queries) else { return };
                if recall >= ENOUGH || recall > 0.5 && recall - before < LITTLE {
                    break;
                }
                before = recall;
            }
        }
    }

    /// Asks with one effort in every way; the recall, unless it ended.
    fn all_ways(&mut self, effort: &Value, work: &Path, judge: &Judge<'_>, queries: f64) -> Option<f64> {
        let mut first = None;
        for way in self.ways.clone() {
            let mut point = Point { effort: effort.clone(), way, recall: 0.0, rates: Vec::new(), cores: 0.0 };
            let asked = self.ask(&mut point, queries);
            let ids = asked.and_then(|()| {
                let path = work.join(format!("{}.ids.npy", self.system.name));
                read_i32(&path).map_err(|error| error.to_string())
            });
            match ids {
                Ok(ids) => point.recall = judge.recall(&ids),
                Err(reason) => {
                    self.ended = Some(reason);
                    return None;
                }
            }
            let recall = *first.get_or_insert(point.recall);
            self.points.push(point);
            if recall < OF_INTEREST {
                break;
            }
        }
        first
    }

    fn second_pass(&mut self, queries: f64) {
        let mut points = std::mem::take(&mut self.points);
        for point in &mut points {
            if self.ended.is_some() {
                break;
            }
            self.ended = self.ask(point, queries).err();
        }
        self.points = points;
    }

    fn ask(&mut self, point: &mut Point, queries: f64) -> Result<(), String> {
        let Way { call, threads } = &point.way;
        let question = json!({ "do": "search", "effort": point.effort, "way": call, "threads": threads });
        let answer = self.process.ask(&question)?;
        let seconds = |field: &str| answer[field].as_f64().ok_or_else(|| format!("it answered {answer}"));
        point.rates.push(queries / seconds("seconds")?);
        point.cores = seconds("cpu_seconds")? / seconds("seconds")?;
        Ok(())
    }
}
