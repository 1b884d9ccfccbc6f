//! Searches by codes alone, with no row at hand.

mod common;

use cairn_ann::{Codes, Compression, FlatRows, Graph, GraphBuilder, Metric, NativeBuilder, Scratch};
use common::{ALL, clustered, recall};

const DIM: usize = 64;
const LEN: usize = 4000;
const ALL_CODES: [Codes; 8] = [
    Codes::Int8,
    Codes::Fast,
    Codes::Compact,
    Codes::Product(Compression::X4),
    Codes::Product(Compression::X8),
    Codes::Product(Compression::X16),
    Codes::Product(Compression::X32),
    Codes::Product(Compression::X64),
];

fn coded(metric: Metric, rows: &FlatRows<'_>) -> impl Iterator<Item = (Codes, Graph)> {
    let built = NativeBuilder::default().build(metric, rows, &|| false).expect("builds");
    ALL_CODES.into_iter().map(move |codes| (codes, built.clone().quantized_as(metric, rows, codes)))
}

#[test]
fn codes_alone_find_a_part_of_the_nearest_that_their_bytes_say() {
    for metric in ALL {
        let values = clustered(metric, DIM, LEN, 2);
        let asked = clustered(metric, DIM, 100, 3);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        // The distance of what codes say is near is that of its row here.
        let real = |query: &[f32], found: Vec<cairn_ann::Neighbor>| {
            let distance = |slot| metric.distance(query, rows.values(slot));
            found
                .into_iter()
                .map(|near| cairn_ann::Neighbor { distance: distance(near.slot), ..near })
                .collect()
        };
        for (codes, graph) in coded(metric, &rows) {
            let alone = graph.by_codes().expect("it has codes");
            assert_eq!((alone.metric(), alone.dim()), (metric, DIM));
            let mut scratch = Scratch::new();
            let walked = recall(metric, &rows, &queries, 10, |query| {
                real(query, alone.search(query, 10, 100, |_| true, &mut scratch))
            });
            let scanned = recall(metric, &rows, &queries, 10, |query| {
                real(query, alone.scan(query, 10, 0..LEN as u32, &mut scratch))
            });
            let least = match codes {
                Codes::Int8 | Codes::Fast => 0.95,
                Codes::Product(Compression::X4) => 0.97,
                Codes::Compact | Codes::Product(Compression::X8) => 0.82,
                Codes::Product(Compression::X16) => 0.57,
                Codes::Product(Compression::X32) => 0.36,
                Codes::Product(Compression::X64) => 0.25,
            };
            assert!(walked >= least, "{metric:?} {codes:?}: {walked}");
            assert!(scanned >= least, "{metric:?} {codes:?}: {scanned} of a scan");
        }
    }
}

#[test]
fn estimates_are_near_the_distances_to_decoded_rows() {
    for metric in ALL {
        let values = clustered(metric, 70, 1000, 4);
        let rows = FlatRows::new(70, &values).expect("whole rows");
        for (codes, graph) in coded(metric, &rows) {
            let alone = graph.by_codes().expect("it has codes");
            for query in [3, 500, 999].map(|slot| rows.values(slot)) {
                let near = alone.scan(query, 1000, 0..1000, &mut Scratch::new());
                assert_eq!(near.len(), 1000);
                assert!(near.is_sorted());
                // Codes of bits know of a row what its decoded values do not have: its
                // length by Euclid.
                let is_product = matches!(codes, Codes::Product(_));
                let (mut worst, mut size) = (0f32, 0f32);
                for near in near {
                    let decoded = alone.decoded(near.slot).expect("there is such a slot");
                    let row = if is_product { &decoded } else { rows.values(near.slot) };
                    let want = metric.distance(query, row);
                    worst = worst.max((near.distance - want).abs());
                    size = size.max(want.abs());
                }
                let most = match codes {
                    Codes::Product(_) => 1e-6,
                    Codes::Compact => 0.1,
                    _ => 0.015,
                };
                assert!(worst <= most * size, "{metric:?} {codes:?}: {worst} of {size}");
            }
        }
    }
}

#[test]
fn decoded_rows_are_the_rows_but_for_what_codes_lose() {
    for metric in ALL {
        for dim in [32, 100] {
            let values = clustered(metric, dim, 2000, 5);
            let rows = FlatRows::new(dim, &values).expect("whole rows");
            for (codes, graph) in coded(metric, &rows) {
                let alone = graph.by_codes().expect("it has codes");
                let (mut error, mut length) = (0.0, 0.0);
                for slot in 0..2000 {
                    let decoded = alone.decoded(slot).expect("there is such a slot");
                    error += Metric::Euclid.distance(&decoded, rows.values(slot));
                    length += Metric::Euclid.distance(&vec![0.0; dim], rows.values(slot));
                }
                let most = match codes {
                    Codes::Int8 | Codes::Fast => 0.0003,
                    Codes::Compact if metric == Metric::Manhattan => 0.0003,
                    Codes::Product(Compression::X4) => 0.0001,
                    Codes::Compact => 0.04,
                    Codes::Product(Compression::X8) => 0.01,
                    Codes::Product(Compression::X16) => 0.1,
                    Codes::Product(Compression::X32) => 0.25,
                    Codes::Product(Compression::X64) => 0.35,
                };
                assert!(error <= most * length, "{metric:?} {codes:?} {dim}: {error} of {length}");
                assert_eq!(alone.decoded(2000), None);
            }
        }
    }
}

#[test]
fn filters_hold_and_as_many_are_returned_as_there_are() {
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, LEN, 6);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    for (codes, graph) in coded(metric, &rows) {
        let alone = graph.by_codes().expect("it has codes");
        let mut scratch = Scratch::new();
        for every in [1, 2, 5, 40, 1000, 5000] {
            let accept = |slot: u32| slot % every == 1 % every;
            let accepted = (0..LEN as u32).filter(|&slot| accept(slot)).count();
            let share = accepted as f32 / LEN as f32;
            for query in asked_of(&rows) {
                let filtered = alone.search_filtered(query, 10, 64, share, accept, &mut scratch);
                let unknowing = alone.search(query, 10, 64, accept, &mut scratch);
                let scanned = alone.scan(query, 10, (0..LEN as u32).filter(|&s| accept(s)), &mut scratch);
                for near in [filtered, unknowing, scanned] {
                    assert_eq!(near.len(), accepted.min(10), "{codes:?} one of {every}");
                    assert!(near.is_sorted() && near.iter().all(|near| accept(near.slot)));
                }
            }
        }
    }
}

fn asked_of<'r>(rows: &'r FlatRows<'_>) -> impl Iterator<Item = &'r [f32]> {
    (0..10).map(|at| rows.values(at * 390))
}

#[test]
fn a_file_is_searched_as_the_graph_it_was_written_from_and_strange_slots_are_passed_by() {
    let metric = Metric::Dot;
    let values = clustered(metric, DIM, LEN, 7);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    for (codes, graph) in coded(metric, &rows) {
        let mut file = Vec::new();
        graph.write_to(&mut file).expect("writes");
        let opened = Graph::from_bytes(file).expect("opens");
        let (alone, again) = (graph.by_codes().expect("codes"), opened.by_codes().expect("codes"));
        let mut scratch = Scratch::new();
        for query in asked_of(&rows) {
            let near = alone.search(query, 10, 64, |_| true, &mut scratch);
            assert_eq!(near, again.search(query, 10, 64, |_| true, &mut scratch), "{codes:?}");
        }
        let few = [3, 70_000, 9, u32::MAX];
        let near = alone.scan(rows.values(3), 10, few.into_iter(), &mut scratch);
        let mut slots: Vec<u32> = near.iter().map(|near| near.slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, [3, 9]);
        assert!(alone.search(rows.values(3), 0, 64, |_| true, &mut scratch).is_empty());
    }
}

#[test]
fn a_graph_without_codes_says_so() {
    let values = clustered(Metric::Euclid, 8, 200, 8);
    let rows = FlatRows::new(8, &values).expect("whole rows");
    let graph = NativeBuilder::default().build(Metric::Euclid, &rows, &|| false).expect("builds");
    // Rows of so few values are never coded.
    let graph = graph.quantized_as(Metric::Euclid, &rows, Codes::Product(Compression::X4));
    assert!(graph.by_codes().is_none());
}
