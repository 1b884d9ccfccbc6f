//! The recall that was asked for, beside the one that came of it.
//!
//! Graphs measure their effort on rows of their own; here queries from elsewhere
//! say whether that holds.

use cairn_ann::{Effort, FlatRows, Graph, GraphBuilder, NativeBuilder, Rows, Scratch};
use rayon::prelude::*;

use crate::Outcome;
use crate::ours::VARIANTS;
use crate::sets::Set;

const KS: [usize; 3] = [1, 10, 100];
const PROMISED: [f32; 7] = [0.90, 0.92, 0.94, 0.95, 0.96, 0.98, 0.99];
/// What another order of summing may change.
const TOLERANCE: f32 = 1e-6;

pub(crate) fn measure(set: &Set) -> Outcome {
    println!("{}\n", set.header());
    let rows = FlatRows::new(set.base.columns, &set.base.values)?;
    println!(
        "| codes | k | {} | least | most |",
        PROMISED.map(|promised| format!("{promised:.2}")).join(" | ")
    );
    println!("|---|--:|{}--:|--:|", "--:|".repeat(PROMISED.len()));
    for variant in VARIANTS {
        let Some((m, codes)) = variant.codes else { continue };
        let graph = NativeBuilder { m, ..NativeBuilder::default() }.build(set.metric, &rows, &|| false)?;
        let graph = graph.quantized_as(set.metric, &rows, codes).calibrated(set.metric, &rows);
        for k in KS.into_iter().filter(|&k| k <= set.truth.columns) {
            let reached = PROMISED.map(|promised| reached(set, &rows, &graph, k, promised));
            let off = || {
                reached.iter().zip(PROMISED).map(|(&(_, reached), promised)| reached - f64::from(promised))
            };
            println!(
                "| {} | {k} | {} | {:+.4} | {:+.4} |",
                variant.name,
                reached.map(told).join(" | "),
                off().fold(f64::INFINITY, f64::min),
                off().fold(f64::NEG_INFINITY, f64::max),
            );
        }
    }
    Ok(())
}

/// What a promise asks for, and the recall it reaches.
fn reached(set: &Set, rows: &FlatRows<'_>, graph: &Graph, k: usize, promised: f32) -> (Effort, f64) {
    let effort = graph.effort(k, promised).unwrap_or(Effort::Beam(k));
    let queries: Vec<_> = set.queries.rows().zip(set.truth.rows()).collect();
    let found = |scratch: &mut Scratch, (query, truth): &(&[f32], &[i32])| {
        let last = &set.base.values[truth[k - 1] as usize * set.base.columns..][..set.base.columns];
        let last = set.metric.distance(query, last);
        let near = match effort {
            Effort::Beam(ef) => graph.search(set.metric, rows, query, k, ef, |_| true, scratch),
            Effort::Scan => graph.scan(set.metric, rows, query, k, 0..rows.len() as u32, scratch),
        };
        near.iter().filter(|near| near.distance <= last + TOLERANCE * last.abs()).count()
    };
    let hits: usize = queries.par_iter().map_init(Scratch::new, found).sum();
    (effort, hits as f64 / (queries.len() * k).max(1) as f64)
}

/// The recall reached, and the beam in brackets.
fn told((effort, reached): (Effort, f64)) -> String {
    match effort {
        Effort::Beam(ef) => format!("{reached:.4} ({ef})"),
        Effort::Scan => format!("{reached:.4} (scan)"),
    }
}
