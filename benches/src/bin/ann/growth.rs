//! What a query costs as the rows become more: ours and hnswlib on passages that
//! are made, at recall 0.95 on one thread.

use std::collections::BTreeMap;

use crate::curve::Rate;
use crate::made::Made;
use crate::measure::{self, Measured, Point};
use crate::sets::Set;
use crate::{Args, Outcome, systems};

const RECALL: f64 = 0.95;

pub(crate) fn measured(args: &Args) -> Outcome<Vec<(Set, Vec<Measured>)>> {
    let mut chosen = systems::chosen(args)?;
    chosen.retain(|system| system.ours || system.name == "hnswlib");
    let mut all = Vec::new();
    for &rows in &args.sizes {
        let set = Set::made(Made::Growth, rows, args.limit_queries)?;
        let systems = measure::all(args, &set, &chosen)?;
        all.push((set, systems));
    }
    print(&all);
    Ok(all)
}

fn print(all: &[(Set, Vec<Measured>)]) {
    println!("\n| rows | system | us per query at {RECALL} | to the smallest | build s | bytes |");
    println!("|--:|---|--:|--:|--:|--:|");
    let mut smallest = BTreeMap::new();
    for (set, systems) in all {
        for system in systems {
            let rate = system.curve(|way| way.threads == 1, Point::best).at(RECALL);
            let Some(Rate::At(rate) | Rate::Cheapest(rate)) = rate else { continue };
            let cost = 1e6 / rate;
            let first = *smallest.entry(system.system.name).or_insert(cost);
            println!(
                "| {} | {} | {cost:.1} | {:.2} | {:.1} | {:.0} |",
                set.len,
                system.system.name,
                cost / first,
                system.build_seconds,
                system.resident.unwrap_or(f64::NAN),
            );
        }
    }
}
