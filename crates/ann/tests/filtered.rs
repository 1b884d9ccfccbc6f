//! Filtered searches against the exact scan: whatever is accepted.

mod common;

use std::cell::Cell;

use cairn_ann::{
    FlatRows, Graph, GraphBuilder, HnswRsBuilder, Metric, Rows, Scratch, Strategy, exact, filtered_strategy,
};
use common::clustered;
use rand::{Rng, SeedableRng, rngs::StdRng};

const METRIC: Metric = Metric::Cosine;
const DIM: usize = 24;
const LEN: usize = 12_000;
const EF: usize = 32;

struct World {
    values: Vec<f32>,
    queries: Vec<f32>,
    graph: Graph,
}

impl World {
    fn new() -> Self {
        let (values, queries) = (clustered(METRIC, DIM, LEN, 41), clustered(METRIC, DIM, 60, 42));
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let builder = HnswRsBuilder { m: 8, ef_construction: 80 };
        let graph = builder.build(METRIC, &rows, &|| false).expect("builds");
        Self { values, queries, graph }
    }

    /// Recall@10 where each query accepts the share that `order` puts first.
    fn recall(&self, share: f32, mut order: impl FnMut(&[f32], u32) -> f32) -> f64 {
        let rows = FlatRows::new(DIM, &self.values).expect("whole rows");
        let mut scratch = Scratch::new();
        let (mut hits, mut truths) = (0, 0);
        for query in self.queries.chunks(DIM) {
            let mut slots: Vec<(f32, u32)> = (0..LEN as u32).map(|slot| (order(query, slot), slot)).collect();
            slots.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut accepted = vec![false; LEN];
            for (_, slot) in &slots[..(share * LEN as f32) as usize] {
                accepted[*slot as usize] = true;
            }
            let accept = |slot: u32| accepted[slot as usize];
            let near = self.graph.search_filtered(METRIC, &rows, query, 10, EF, share, accept, &mut scratch);
            assert!(near.is_sorted_by(|a, b| a < b) && near.iter().all(|near| accept(near.slot)));
            let truth = exact(METRIC, &rows, query, 10, (0..LEN as u32).filter(|&slot| accept(slot)));
            assert_eq!(near.len(), truth.len(), "share {share}");
            hits += near.iter().filter(|near| truth.contains(near)).count();
            truths += truth.len();
        }
        hits as f64 / truths as f64
    }
}

#[test]
fn filters_at_random_near_far_and_elsewhere_keep_their_recall_at_every_share() {
    let world = World::new();
    let rows = FlatRows::new(DIM, &world.values).expect("whole rows");
    let mut random = StdRng::seed_from_u64(43);
    for share in [0.9, 0.5, 0.25, 0.2, 0.18, 0.05, 0.002] {
        let at_random = world.recall(share, |_, _| random.random());
        let near = world.recall(share, |query, slot| METRIC.distance_to(query, rows.row(slot)));
        let far = world.recall(share, |query, slot| -METRIC.distance_to(query, rows.row(slot)));
        let centre = rows.values(77);
        let elsewhere = world.recall(share, |_, slot| METRIC.distance_to(centre, rows.row(slot)));
        for (found, what) in
            [(at_random, "at random"), (near, "near"), (far, "far"), (elsewhere, "elsewhere")]
        {
            assert!(found >= 0.85, "{share} accepted {what}: recall@10 is {found}");
        }
    }
}

#[test]
fn a_wrong_share_costs_time_and_never_hits() {
    let world = World::new();
    let rows = FlatRows::new(DIM, &world.values).expect("whole rows");
    let mut scratch = Scratch::new();
    for every in [1, 3, 500, 6000, 20_000] {
        let accept = |slot: u32| slot % every == 1 % every;
        for share in [0.0, 0.2, 0.25, 0.3, 1.0, -5.0, 7.0, f32::NAN, f32::INFINITY] {
            let query = &world.queries[..DIM];
            let near = world.graph.search_filtered(METRIC, &rows, query, 10, EF, share, accept, &mut scratch);
            let accepted = (0..LEN as u32).filter(|&slot| accept(slot)).count();
            assert_eq!(near.len(), accepted.min(10), "one in {every}, taken for {share}");
        }
    }
    for k in [0, 1, LEN, usize::MAX] {
        let query = &world.queries[..DIM];
        let near = world.graph.search_filtered(METRIC, &rows, query, k, EF, 0.2, |_| true, &mut scratch);
        assert_eq!(near.len(), k.min(LEN));
    }
}

#[test]
fn rejected_slots_are_stepped_over_unmeasured() {
    let world = World::new();
    let rows = FlatRows::new(DIM, &world.values).expect("whole rows");
    assert_eq!(filtered_strategy(0.2, LEN, EF), Strategy::StepOver);
    let accept = |slot: u32| slot.is_multiple_of(5);
    let (measured, rejected) = (Cell::new(0), Cell::new(0));
    let query = &world.queries[..DIM];
    let measure = |slot| {
        measured.set(measured.get() + 1);
        rejected.set(rejected.get() + usize::from(!accept(slot)));
        METRIC.distance_to(query, rows.row(slot))
    };
    world.graph.search_filtered_by(measure, |_| (), 10, EF, 0.2, accept, &mut Scratch::new());
    // Those of the upper layers, on the way to where the walk begins.
    assert!(rejected.get() < 200, "{} of {} were in vain", rejected.get(), measured.get());
    assert!(measured.get() < 1500, "{} measured", measured.get());
}

#[test]
fn an_empty_graph_has_no_filtered_hits() {
    let rows = FlatRows::new(3, &[0f32; 0]).expect("whole rows");
    let graph = HnswRsBuilder::default().build(METRIC, &rows, &|| false).expect("builds");
    for share in [0.0, 0.2, 1.0] {
        let near =
            graph.search_filtered(METRIC, &rows, &[0.0; 3], 5, 10, share, |_| true, &mut Scratch::new());
        assert!(near.is_empty());
    }
}
