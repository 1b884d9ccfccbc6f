//! Searches among a share of the slots, taken at random: the graph told of it,
//! the graph unknowing, and the scan.

use std::time::Instant;

use cairn_ann::{FlatRows, GraphBuilder, HnswRsBuilder, Neighbor, Rows, Scratch, exact, filtered_strategy};
use cairn_benches::npy::Matrix;
use cairn_benches::timing::Times;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::sets::Set;
use crate::{K, Outcome};

const BEAMS: [usize; 4] = [16, 64, 128, 256];

pub(crate) fn measure(set: &Set, shares: &[f32]) -> Outcome {
    println!("{}\n", set.header());
    let rows = FlatRows::new(set.base.columns, &set.base.values)?;
    let started = Instant::now();
    let graph = HnswRsBuilder { m: 16, ef_construction: 200 }.build(set.metric, &rows, &|| false)?;
    println!("built  in {:.1} s\n", started.elapsed().as_secs_f64());
    println!("| accepted | search | ef | recall@{K} | QPS, 1 thread | p50 us | p99 us |");
    println!("|--:|---|--:|--:|--:|--:|--:|");
    let mut scratch = Scratch::new();
    for &share in shares {
        let mut random = StdRng::seed_from_u64(1);
        let accepted: Vec<bool> = (0..rows.len()).map(|_| random.random::<f32>() < share).collect();
        let accept = |slot: u32| accepted[slot as usize];
        let slots: Vec<u32> = (0..rows.len() as u32).filter(|&slot| accept(slot)).collect();
        if slots.len() < K {
            continue;
        }
        let scan = |query: &[f32]| exact(set.metric, &rows, query, K, slots.iter().copied());
        let near = set.queries.rows().flat_map(|query| scan(query).into_iter().map(|near| near.slot as i32));
        let truth = Matrix { columns: K, values: near.collect() };
        for ef in BEAMS {
            let strategy = format!("{:?}", filtered_strategy(share, rows.len(), ef));
            line(set, &truth, (share, &strategy, ef), |query| {
                graph.search_filtered(set.metric, &rows, query, K, ef, share, accept, &mut scratch)
            });
            line(set, &truth, (share, "unknowing", ef), |query| {
                graph.search(set.metric, &rows, query, K, ef, accept, &mut scratch)
            });
        }
        line(set, &truth, (share, "exact", 0), scan);
    }
    Ok(())
}

/// Runs all queries and prints a line of the table.
fn line(
    set: &Set,
    truth: &Matrix<i32>,
    (share, name, ef): (f32, &str, usize),
    mut search: impl FnMut(&[f32]) -> Vec<Neighbor>,
) {
    for query in set.queries.rows().take(100) {
        search(query);
    }
    let (mut times, mut hits) = (Times::default(), 0);
    for (query, truth) in set.queries.rows().zip(truth.rows()) {
        let near = times.time(|| search(query));
        hits += near.iter().filter(|near| truth.contains(&(near.slot as i32))).count();
    }
    println!(
        "| {share} | {name} | {ef} | {:.4} | {:.0} | {:.0} | {:.0} |",
        hits as f64 / (times.len() * K) as f64,
        times.per_second(),
        times.micros_at(0.5),
        times.micros_at(0.99),
    );
}
