//! What a frozen graph finds, against the exact scan and hnsw_rs itself.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_ann::{
    Error, FlatRows, Graph, GraphBuilder, HnswRsBuilder, HnswRsIndex, Metric, Rows, Scratch, exact,
};
use common::{ALL, clustered, recall, search};

const DIM: usize = 32;

fn build(metric: Metric, rows: &FlatRows) -> Graph {
    let builder = HnswRsBuilder::default();
    builder.build(metric, rows, &|| false).expect("builds")
}

#[test]
fn a_frozen_graph_finds_nearly_all_true_neighbours_by_every_metric() {
    for metric in ALL {
        let values = clustered(metric, DIM, 6000, 2);
        let asked = clustered(metric, DIM, 200, 3);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let graph = build(metric, &rows);
        let found = recall(metric, &rows, &queries, 10, |query| search(&graph, metric, &rows, query, 10, 64));
        assert!(found >= 0.95, "{metric:?}: recall@10 is {found}");
    }
}

#[test]
fn freezing_loses_nothing_against_the_search_of_hnsw_rs() {
    for metric in ALL {
        let values = clustered(metric, DIM, 4000, 4);
        let asked = clustered(metric, DIM, 300, 5);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let builder = HnswRsBuilder::default();
        // One thread, so that the graph and with it the figures are always the same.
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let index = alone.install(|| HnswRsIndex::build(builder, metric, &rows, &|| false)).expect("builds");
        let graph = index.freeze(&rows);
        // With a beam as narrow as k the two only differ by where they begin.
        for ef in [20, 40, 80] {
            let frozen =
                recall(metric, &rows, &queries, 10, |query| search(&graph, metric, &rows, query, 10, ef));
            let own = recall(metric, &rows, &queries, 10, |query| {
                // Its own distances are rounded otherwise; measure again.
                let mut near = index.search(query, 10, ef);
                for near in &mut near {
                    near.distance = metric.distance(query, rows.values(near.slot));
                }
                near
            });
            assert!(frozen >= own - 0.002, "{metric:?} ef {ef}: frozen {frozen}, hnsw_rs {own}");
        }
    }
}

#[test]
fn hnsw_rs_reports_the_distances_of_the_metric() {
    for metric in ALL {
        let values = clustered(metric, DIM, 500, 6);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let builder = HnswRsBuilder::default();
        let index = HnswRsIndex::build(builder, metric, &rows, &|| false).expect("builds");
        for near in index.search(rows.values(17), 10, 50) {
            let want = metric.distance(rows.values(17), rows.values(near.slot));
            assert!((near.distance - want).abs() < 1e-2, "{metric:?}");
        }
    }
}

#[test]
fn results_are_sorted_distinct_and_carry_the_metrics_distance() {
    let metric = Metric::Manhattan;
    let values = clustered(metric, DIM, 2000, 7);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let graph = build(metric, &rows);
    let near = search(&graph, metric, &rows, rows.values(5), 50, 100);
    assert_eq!(near.len(), 50);
    assert_eq!(near[0].slot, 5);
    assert!(near.is_sorted_by(|a, b| a < b));
    for near in near {
        let want = metric.distance(rows.values(5), rows.values(near.slot));
        assert_eq!(near.distance.to_bits(), want.to_bits());
    }
}

#[test]
fn only_accepted_slots_are_returned_and_half_rejected_costs_no_recall() {
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, 5000, 8);
    let asked = clustered(metric, DIM, 100, 9);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let queries = FlatRows::new(DIM, &asked).expect("whole rows");
    let graph = build(metric, &rows);
    let mut scratch = Scratch::new();
    for every in [2, 10, 100] {
        let accept = |slot: u32| slot.is_multiple_of(every);
        let (mut hits, mut truths) = (0, 0);
        for query in 0..queries.len() as u32 {
            let query = queries.values(query);
            let near = graph.search(metric, &rows, query, 10, 64, accept, &mut scratch);
            assert_eq!(near.len(), 10, "one in {every}");
            assert!(near.iter().all(|near| accept(near.slot)), "one in {every}");
            let truth = exact(metric, &rows, query, 10, (0..5000).filter(|&s| accept(s)));
            hits += near.iter().filter(|near| truth.contains(near)).count();
            truths += truth.len();
        }
        let found = hits as f64 / truths as f64;
        assert!(found >= 0.95, "one in {every}: recall@10 is {found}");
    }
    let none = graph.search(metric, &rows, rows.values(0), 10, 64, |_| false, &mut scratch);
    assert!(none.is_empty());
}

#[test]
fn a_search_by_a_measure_of_ones_own_finds_what_is_nearest_to_either_of_two_queries() {
    let metric = Metric::Euclid;
    let values = clustered(metric, DIM, 4000, 20);
    let asked = clustered(metric, DIM, 60, 21);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let queries = FlatRows::new(DIM, &asked).expect("whole rows");
    let graph = build(metric, &rows);
    let mut scratch = Scratch::new();
    let mut hits = 0;
    for pair in 0..30 {
        let (a, b) = (queries.values(2 * pair), queries.values(2 * pair + 1));
        let either = |slot| {
            let row = rows.row(slot);
            metric.distance_to(a, row).min(metric.distance_to(b, row))
        };
        let near = graph.search_by(either, |_| (), 10, 200, |_| true, &mut scratch);
        let mut truth: Vec<f32> = (0..4000).map(either).collect();
        truth.sort_by(f32::total_cmp);
        hits += near.iter().filter(|near| near.distance <= truth[9]).count();
    }
    assert!(hits >= 285, "{hits} of 300");
}

#[test]
fn asking_for_more_than_there_is_gives_all_there_is() {
    for len in 0..40 {
        let values = clustered(Metric::Euclid, 8, len, 10);
        let rows = FlatRows::new(8, &values).expect("whole rows");
        let graph = build(Metric::Euclid, &rows);
        assert_eq!(graph.len(), len);
        assert_eq!(graph.is_empty(), len == 0);
        for k in [0, 1, 2, 10, 1000, usize::MAX] {
            let near = search(&graph, Metric::Euclid, &rows, &[0.5; 8], k, 10);
            assert_eq!(near.len(), len.min(k), "{len} rows, k {k}");
            let truth = exact(Metric::Euclid, &rows, &[0.5; 8], k, 0..len as u32);
            assert_eq!(truth.len(), len.min(k));
            if k >= len {
                assert_eq!(near, truth, "{len} rows, k {k}");
            }
        }
    }
}

#[test]
fn a_thousand_equal_rows_are_all_found() {
    for metric in ALL {
        let mut row = vec![0.3, -0.2, 0.9];
        metric.prepare(&mut row);
        let values = row.repeat(1000);
        let rows = FlatRows::new(3, &values).expect("whole rows");
        let graph = build(metric, &rows);
        let mut slots: Vec<u32> =
            search(&graph, metric, &rows, &row, 1000, 1000).iter().map(|near| near.slot).collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..1000), "{metric:?}");
        assert_eq!(search(&graph, metric, &rows, &row, 10, 10).len(), 10);
    }
}

#[test]
fn a_crowd_of_equal_rows_does_not_hide_the_others() {
    let metric = Metric::Cosine;
    let mut values = clustered(metric, DIM, 3000, 11);
    let crowd = values[..DIM].to_vec();
    for row in values.chunks_mut(DIM).take(1500) {
        row.copy_from_slice(&crowd);
    }
    let asked = clustered(metric, DIM, 200, 12);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let queries = FlatRows::new(DIM, &asked).expect("whole rows");
    let graph = build(metric, &rows);
    let found = recall(metric, &rows, &queries, 10, |query| search(&graph, metric, &rows, query, 10, 64));
    assert!(found >= 0.95, "recall@10 is {found}");
    let own = (1500..3000).filter(|&slot| {
        let near = search(&graph, metric, &rows, rows.values(slot), 1, 64);
        near[0].slot == slot
    });
    let own = own.count();
    assert!(own >= 1490, "{own} of 1500 rows find themselves");
}

#[test]
fn zero_rows_and_zero_queries_are_searched_like_others() {
    for metric in ALL {
        let mut values = clustered(metric, 16, 600, 13);
        values[..16 * 100].fill(0.0);
        let rows = FlatRows::new(16, &values).expect("whole rows");
        let graph = build(metric, &rows);
        let near = search(&graph, metric, &rows, &[0.0; 16], 10, 64);
        assert_eq!(near.len(), 10, "{metric:?}");
        assert!(near.iter().all(|near| near.distance.abs() < 1e-6));
        let all = search(&graph, metric, &rows, rows.values(300), 600, 600);
        assert_eq!(all.len(), 600, "{metric:?}");
    }
}

#[test]
fn rows_beyond_the_range_of_f32_squares_do_not_stop_a_build() {
    for metric in ALL {
        let values: Vec<f32> = (0..300u16).flat_map(|i| [1e30 * f32::from(i), -1e30, 1e-40]).collect();
        let rows = FlatRows::new(3, &values).expect("whole rows");
        let graph = build(metric, &rows);
        assert_eq!(search(&graph, metric, &rows, &[1.0; 3], 300, 300).len(), 300);
    }
}

#[test]
fn a_build_stops_when_it_is_cancelled() {
    let values = clustered(Metric::Euclid, 8, 3000, 14);
    let rows = FlatRows::new(8, &values).expect("whole rows");
    for patience in [0, 1, 500, 1003] {
        let polls = AtomicUsize::new(0);
        let cancelled = || polls.fetch_add(1, Ordering::Relaxed) >= patience;
        let stopped = HnswRsBuilder::default().build(Metric::Euclid, &rows, &cancelled);
        assert!(matches!(stopped, Err(Error::Cancelled)), "after {patience}");
        assert_eq!(polls.into_inner(), patience + 1);
    }
}

#[test]
fn settings_that_hnsw_rs_would_exit_or_panic_on_are_refused() {
    let rows = FlatRows::new(1, &[1.0f32]).expect("whole rows");
    for (m, ef_construction) in [(0, 200), (1, 200), (129, 200), (16, 15), (16, 1 << 20)] {
        let builder = HnswRsBuilder { m, ef_construction };
        let refused = builder.build(Metric::Euclid, &rows, &|| false);
        assert!(matches!(refused, Err(Error::Setting { .. })), "{builder:?}");
    }
    let builder = HnswRsBuilder { m: 1, ef_construction: 9 };
    let refused = builder.build(Metric::Euclid, &rows, &|| false);
    let refused = refused.expect_err("m is too small").to_string();
    assert_eq!(refused, "m is 1, it must be between 2 and 128");
}

#[test]
fn the_smallest_and_the_largest_m_give_working_graphs() {
    let values = clustered(Metric::Euclid, 8, 1500, 15);
    let rows = FlatRows::new(8, &values).expect("whole rows");
    for m in [2, 128] {
        let builder = HnswRsBuilder { m, ef_construction: 128 };
        let graph = builder.build(Metric::Euclid, &rows, &|| false);
        let graph = graph.expect("builds");
        let near = search(&graph, Metric::Euclid, &rows, rows.values(0), 1500, 1500);
        assert_eq!(near.len(), 1500, "m {m}");
        assert!(graph.memory_bytes() >= 1500 * 2 * m * 4);
    }
}

#[test]
fn one_scratch_serves_graphs_of_different_sizes_in_any_order() {
    let values = clustered(Metric::Euclid, 8, 900, 16);
    let sizes = [1, 900, 30, 400, 900, 2];
    let mut scratch = Scratch::new();
    for len in sizes {
        let rows = FlatRows::new(8, &values[..len * 8]).expect("whole rows");
        let graph = build(Metric::Euclid, &rows);
        for slot in 0..len as u32 {
            let query = rows.values(slot);
            let near = graph.search(Metric::Euclid, &rows, query, 1, 20, |_| true, &mut scratch);
            let fresh = search(&graph, Metric::Euclid, &rows, query, 1, 20);
            assert_eq!(near, fresh, "slot {slot} of {len}");
        }
    }
}
