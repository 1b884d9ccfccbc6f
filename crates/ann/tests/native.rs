//! The native builder and graphs over codes, against the exact scan and the
//! graph of hnsw_rs.

mod common;

use cairn_ann::{
    Codes, Compression, Effort, Error, FlatRows, Graph, GraphBuilder, GraphGrower, HnswRsBuilder, Merged,
    Metric, NativeBuilder, Neighbor, Rows, Scratch, exact, f16,
};
use common::{ALL, clustered, normal, recall, search};
use rand::{Rng, SeedableRng, rngs::StdRng};

const DIM: usize = 32;
const ALL_CODES: [Codes; 5] = [
    Codes::Int8,
    Codes::Fast,
    Codes::Compact,
    Codes::Product(Compression::X4),
    Codes::Product(Compression::X8),
];

fn native<R: Rows>(metric: Metric, rows: &R) -> Graph {
    NativeBuilder::default().build(metric, rows, &|| false).expect("builds")
}

fn bytes(graph: &Graph) -> Vec<u8> {
    let mut bytes = Vec::new();
    graph.write_to(&mut bytes).expect("writes");
    bytes
}

#[test]
fn its_graph_finds_as_much_as_that_of_hnsw_rs_by_every_metric() {
    for metric in ALL {
        let values = clustered(metric, DIM, 6000, 2);
        let asked = clustered(metric, DIM, 300, 3);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let found = |graph: &Graph, ef| {
            recall(metric, &rows, &queries, 10, |query| search(graph, metric, &rows, query, 10, ef))
        };
        let oracle = HnswRsBuilder { m: 16, ef_construction: 100 };
        // One thread, so that its figures are always the same.
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let oracle = alone.install(|| oracle.build(metric, &rows, &|| false)).expect("builds");
        let graph = native(metric, &rows);
        for (ef, less) in [(24, 0.03), (40, 0.02), (80, 0.01)] {
            let (ours, theirs) = (found(&graph, ef), found(&oracle, ef));
            // It has fewer links, and walks over them faster.
            assert!(ours >= theirs - less, "{metric:?} ef {ef}: {ours}, hnsw_rs {theirs}");
        }
    }
}

#[test]
fn rows_of_varied_length_are_found_by_their_product() {
    // Few true dimensions, lengths from about a half to twice.
    let mut random = StdRng::seed_from_u64(11);
    let mut normal = || normal(&mut random);
    let ways: Vec<f32> = (0..64 * 24).map(|_| normal()).collect();
    let mut values = |len: usize| {
        let mut values = Vec::with_capacity(len * 64);
        for _ in 0..len {
            let inner: Vec<f32> = (0..24).map(|at| normal() / (1.0 + at as f32).sqrt()).collect();
            let mut row: Vec<f32> =
                ways.chunks(24).map(|way| way.iter().zip(&inner).map(|(a, b)| a * b).sum()).collect();
            Metric::Cosine.prepare(&mut row);
            let length = (0.25 * normal()).exp();
            values.extend(row.iter().map(|x| length * x));
        }
        values
    };
    let (values, asked) = (values(20_000), values(200));
    let rows = FlatRows::new(64, &values).expect("whole rows");
    let queries = FlatRows::new(64, &asked).expect("whole rows");
    let found = |graph: &Graph| {
        recall(Metric::Dot, &rows, &queries, 10, |query| search(graph, Metric::Dot, &rows, query, 10, 64))
    };
    let oracle = HnswRsBuilder { m: 16, ef_construction: 100 };
    let oracle = oracle.build(Metric::Dot, &rows, &|| false).expect("builds");
    let graph = native(Metric::Dot, &rows);
    let recalls = [found(&oracle), found(&graph), found(&graph.quantized(Metric::Dot, &rows))];
    assert!(recalls.iter().all(|&recall| recall > 0.94), "hnsw_rs, native, by codes: {recalls:?}");
}

#[test]
fn codes_cost_next_to_no_recall_by_any_metric() {
    for metric in ALL {
        let values = clustered(metric, DIM, 6000, 2);
        let asked = clustered(metric, DIM, 300, 3);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let found = |graph: &Graph, ef| {
            recall(metric, &rows, &queries, 10, |query| search(graph, metric, &rows, query, 10, ef))
        };
        let graph = native(metric, &rows);
        let plain = found(&graph, 40);
        assert!(plain >= 0.97, "{metric:?}: {plain}");
        // Few bits a value say little of 32 values.
        for (codes, ef, less) in
            [(Codes::Int8, 40, 0.01), (Codes::Fast, 80, 0.01), (Codes::Compact, 80, 0.03)]
        {
            let coded = found(&graph.clone().quantized_as(metric, &rows, codes), ef);
            assert!(coded >= plain - less, "{metric:?}: {coded} with {codes:?}, {plain} without");
        }
    }
}

#[test]
fn results_over_codes_carry_the_distances_of_the_rows() {
    for metric in ALL {
        let values = clustered(metric, DIM, 2000, 7);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        for codes in ALL_CODES {
            let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
            let near = search(&graph, metric, &rows, rows.values(5), 50, 100);
            assert_eq!(near.len(), 50);
            assert!(near.is_sorted_by(|a, b| a < b));
            for near in near {
                let want = metric.distance(rows.values(5), rows.values(near.slot));
                assert_eq!(near.distance.to_bits(), want.to_bits(), "{metric:?} {codes:?}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_graph_with_any_number_of_threads() {
    let values = clustered(Metric::Euclid, DIM, 5000, 11);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let with = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let builder = NativeBuilder { seed, ..NativeBuilder::default() };
        bytes(&pool.install(|| builder.build(Metric::Euclid, &rows, &|| false)).expect("builds"))
    };
    assert!(with(1, 5) == with(4, 5));
    assert!(with(1, 5) != with(1, 6));
}

#[test]
fn every_slot_is_found_from_its_own_row() {
    for len in [1, 2, 3, 63, 64, 65, 1000, 3000] {
        let values = clustered(Metric::Euclid, 16, len, 12);
        let rows = FlatRows::new(16, &values).expect("whole rows");
        for codes in ALL_CODES {
            let graph = native(Metric::Euclid, &rows).quantized_as(Metric::Euclid, &rows, codes);
            let near = search(&graph, Metric::Euclid, &rows, rows.values(0), len, len);
            let mut slots: Vec<u32> = near.iter().map(|near| near.slot).collect();
            slots.sort_unstable();
            assert_eq!(slots, (0..len as u32).collect::<Vec<_>>(), "{codes:?}");
        }
    }
}

#[test]
fn equal_rows_and_rows_with_equal_codes_are_all_found() {
    let mut values = vec![1.0f32; 2000 * 16];
    for (at, row) in values.chunks_exact_mut(16).enumerate().skip(1000) {
        // Too little for a code to tell apart, beside the row below.
        row[at % 16] += 1e-6 * at as f32;
    }
    values[0] = 1000.0;
    let rows = FlatRows::new(16, &values).expect("whole rows");
    for metric in [Metric::Euclid, Metric::Dot, Metric::Manhattan] {
        for codes in ALL_CODES {
            let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
            let near = search(&graph, metric, &rows, &[1.0; 16], 2000, 2000);
            assert_eq!(near.len(), 2000, "{metric:?} {codes:?}");
        }
    }
}

fn check<R: Rows>(metric: Metric, rows: &R, queries: &[f32]) {
    let mut scratch = Scratch::new();
    for codes in ALL_CODES {
        let graph = native(metric, rows).quantized_as(metric, rows, codes);
        let mut hits = 0;
        for query in queries.chunks(DIM) {
            let truth = exact(metric, rows, query, 10, 0..rows.len() as u32);
            let near = graph.search(metric, rows, query, 10, 64, |_| true, &mut scratch);
            hits += near.iter().filter(|near| near.distance <= truth[9].distance).count();
        }
        assert!(hits >= 950, "{metric:?} with {codes:?} over {:?}: {hits} of 1000", rows.row(0));
    }
}

#[test]
fn rows_of_halves_and_bytes_are_searched_by_code() {
    for metric in ALL {
        let values = clustered(Metric::Dot, DIM, 3000, 33);
        let to_byte = |&x: &f32| (128.0 + 25.0 * x).clamp(0.0, 255.0) as u8;
        let halves: Vec<f16> = values
            .chunks(DIM)
            .flat_map(|row| {
                let mut row = row.to_vec();
                metric.prepare(&mut row);
                row.into_iter().map(f16::from_f32)
            })
            .collect();
        check(metric, &FlatRows::new(DIM, &halves).expect("whole rows"), &clustered(metric, DIM, 100, 34));
        let whole: Vec<u8> = values.iter().map(to_byte).collect();
        let queries = clustered(Metric::Dot, DIM, 100, 34);
        let queries: Vec<f32> = queries.iter().map(|x| f32::from(to_byte(x))).collect();
        check(metric, &FlatRows::new(DIM, &whole).expect("whole rows"), &queries);
    }
}

#[test]
fn filters_at_every_share_keep_their_recall_over_codes() {
    for codes in ALL_CODES {
        check_filters(codes);
    }
}

fn check_filters(codes: Codes) {
    // Few bits a value say little of 32 values.
    let ef = if codes == Codes::Int8 { 40 } else { 80 };
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, 12_000, 8);
    let asked = clustered(metric, DIM, 60, 9);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
    let mut random = StdRng::seed_from_u64(4);
    let order: Vec<f32> = (0..rows.len()).map(|_| random.random()).collect();
    let mut scratch = Scratch::new();
    for share in [0.0, 0.001, 0.05, 0.2, 0.5, 0.8, 0.97] {
        let accept = |slot: u32| order[slot as usize] < share;
        let (mut hits, mut truths) = (0, 0);
        for query in asked.chunks(DIM) {
            let truth = exact(metric, &rows, query, 10, (0..12_000).filter(|&slot| accept(slot)));
            let filtered = graph.search_filtered(metric, &rows, query, 10, ef, share, accept, &mut scratch);
            let unknowing = graph.search(metric, &rows, query, 10, ef, accept, &mut scratch);
            for near in [filtered, unknowing] {
                assert_eq!(near.len(), truth.len(), "share {share}");
                assert!(near.iter().all(|near: &Neighbor| accept(near.slot)));
                hits += near.iter().filter(|near| truth.contains(near)).count();
                truths += truth.len();
            }
        }
        let found = hits as f64 / f64::from(truths.max(1) as u32);
        assert!(truths == 0 || found >= 0.95, "share {share}: {found}");
    }
}

#[test]
fn the_narrowest_beam_ends_where_the_nearest_is_rejected() {
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, 4000, 2);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    for codes in ALL_CODES {
        let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
        let mut scratch = Scratch::new();
        for (slot, ef) in (0..200).flat_map(|slot| [1, 2, 3, 4, 5].map(|ef| (slot, ef))) {
            let accept = |other| other != slot;
            let query = rows.values(slot);
            let near = graph.search(metric, &rows, query, 1, ef, accept, &mut scratch);
            assert!(near.len() == 1 && near[0].slot != slot, "{codes:?}, ef {ef}: {near:?}");
            let near = graph.search_filtered(metric, &rows, query, 1, ef, 0.9, accept, &mut scratch);
            assert!(near.len() == 1 && near[0].slot != slot, "{codes:?}, ef {ef}: {near:?}");
        }
    }
}

#[test]
fn a_measure_of_ones_own_gets_slots_and_not_positions() {
    let values: Vec<f32> = (0..2000 * 16).map(|at| (at / 16) as f32).collect();
    let rows = FlatRows::new(16, &values).expect("whole rows");
    let graph = native(Metric::Euclid, &rows).quantized(Metric::Euclid, &rows);
    let to = |slot: u32| (slot as f32 - 777.2).abs();
    let mut scratch = Scratch::new();
    let near = graph.search_by(to, |_| (), 3, 50, |slot| slot != 778, &mut scratch);
    assert_eq!(near.iter().map(|near| near.slot).collect::<Vec<_>>(), [777, 776, 779]);
    let near = graph.search_filtered_by(to, |_| (), 3, 50, 0.5, |slot| slot % 2 == 0, &mut scratch);
    assert_eq!(near.iter().map(|near| near.slot).collect::<Vec<_>>(), [778, 776, 780]);
}

#[test]
fn a_quantized_graph_comes_back_as_it_was_written_and_answers_the_same() {
    for (metric, codes) in ALL.into_iter().flat_map(|metric| ALL_CODES.map(|codes| (metric, codes))) {
        let values = clustered(metric, 70, 1500, 14);
        let rows = FlatRows::new(70, &values).expect("whole rows");
        let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
        let file = bytes(&graph);
        let opened = Graph::from_bytes(file.clone()).expect("opens");
        assert!(opened == graph && Graph::read_from(&mut file.as_slice()).expect("reads") == graph);
        for query in values.chunks(70).take(20) {
            let near = |graph| search(graph, metric, &rows, query, 10, 30);
            assert_eq!(near(&graph), near(&opened), "{metric:?}");
        }
        for at in (0..file.len()).step_by(file.len() / 500) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Graph::from_bytes(damaged).is_err(), "{metric:?}: byte {at}");
            assert!(Graph::from_bytes(file[..at].to_vec()).is_err(), "{metric:?}: cut at {at}");
        }
    }
}

#[test]
fn a_promised_recall_is_reached_by_queries_from_elsewhere() {
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, 8000, 2);
    let asked = clustered(metric, DIM, 400, 3);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let queries = FlatRows::new(DIM, &asked).expect("whole rows");
    for codes in ALL_CODES {
        let graph = native(metric, &rows).quantized_as(metric, &rows, codes);
        assert_eq!(graph.effort(10, 0.9), None);
        let graph = graph.calibrated(metric, &rows);
        let again = Graph::from_bytes(bytes(&graph)).expect("opens");
        assert!(again == graph);
        for (k, promised) in [(1, 0.95), (10, 0.9), (10, 0.98), (30, 0.95)] {
            let Some(Effort::Beam(ef)) = again.effort(k, promised as f32) else { panic!("there is a curve") };
            let reached =
                recall(metric, &rows, &queries, k, |query| search(&graph, metric, &rows, query, k, ef));
            assert!(reached >= promised - 0.03, "{codes:?} k {k}: {reached} of {promised} with ef {ef}");
        }
    }
}

#[test]
fn settings_out_of_range_and_cancelling_are_errors() {
    let values = clustered(Metric::Euclid, DIM, 3000, 15);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let builder = NativeBuilder { m: 1, ..NativeBuilder::default() };
    let refused = builder.build(Metric::Euclid, &rows, &|| false);
    assert!(matches!(refused, Err(Error::Setting { name: "m", got: 1, .. })));
    let builder = NativeBuilder { alpha: 0.5, ..NativeBuilder::default() };
    assert!(matches!(builder.build(Metric::Euclid, &rows, &|| false), Err(Error::Alpha { .. })));
    let cancelled = NativeBuilder::default().build(Metric::Euclid, &rows, &|| true);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let none = FlatRows::new(DIM, &[0f32; 0]).expect("whole rows");
    let graph = native(Metric::Euclid, &none).quantized(Metric::Euclid, &none);
    assert!(graph.is_empty() && search(&graph, Metric::Euclid, &none, &[0.0; DIM], 10, 10).is_empty());
}

#[test]
fn a_graph_that_grows_finds_as_much_as_one_that_was_built() {
    for metric in ALL {
        let values = clustered(metric, DIM, 6000, 2);
        let asked = clustered(metric, DIM, 200, 3);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let found = |graph: &Graph| {
            recall(metric, &rows, &queries, 10, |query| search(graph, metric, &rows, query, 10, 32))
        };
        let mut grower = GraphGrower::new(NativeBuilder::default(), metric).expect("the settings are usual");
        let mut pictures = Vec::new();
        for len in [1, 2, 500, 501, 1700, 4000, 6000] {
            let rows = FlatRows::new(DIM, &values[..len * DIM]).expect("whole rows");
            grower.extend(&rows).expect("there is room");
            pictures.push((len, grower.graph()));
        }
        for (len, picture) in &pictures {
            assert_eq!(picture.len(), *len);
            let all = search(picture, metric, &rows, rows.values(0), *len, *len);
            assert!(all.len() * 1000 >= len * 999, "{metric:?}: {} of {len}", all.len());
        }
        let (built, grown) = (found(&native(metric, &rows)), found(&pictures[6].1));
        assert!(grown >= built - 0.01, "{metric:?}: {grown}, built at once {built}");
    }
}

#[test]
fn a_graph_without_some_of_its_slots_finds_the_others() {
    for metric in ALL {
        let values = clustered(metric, DIM, 5000, 2);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let mut grower = GraphGrower::new(NativeBuilder::default(), metric).expect("the settings are usual");
        grower.extend(&rows).expect("there is room");
        let stays = |slot: u32| !slot.is_multiple_of(7);
        let mut next = 0..;
        let new_slots: Vec<Option<u32>> =
            (0..5000).map(|slot| stays(slot).then(|| next.next()).flatten()).collect();
        let left: Vec<f32> =
            (0..5000).filter(|&slot| stays(slot)).flat_map(|slot| rows.values(slot).to_vec()).collect();
        let left = FlatRows::new(DIM, &left).expect("whole rows");
        let asked = clustered(metric, DIM, 200, 3);
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        for graph in [
            grower.graph(),
            native(metric, &rows).quantized(metric, &rows),
            native(metric, &rows).quantized_as(metric, &rows, Codes::Fast),
            native(metric, &rows).quantized_as(metric, &rows, Codes::Compact),
            native(metric, &rows),
        ] {
            let graph = graph.kept(metric, &left, &new_slots);
            assert_eq!(graph.len(), left.len());
            assert_eq!(search(&graph, metric, &left, left.values(0), 5000, 5000).len(), left.len());
            let found =
                recall(metric, &left, &queries, 10, |query| search(&graph, metric, &left, query, 10, 40));
            assert!(found >= 0.95, "{metric:?}: {found}");
        }
    }
}

#[test]
fn a_graph_merged_from_others_finds_as_much_as_one_that_was_built() {
    for metric in ALL {
        let values = clustered(metric, DIM, 6000, 2);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let asked = clustered(metric, DIM, 200, 3);
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let found = |graph: &Graph| {
            recall(metric, &rows, &queries, 10, |query| search(graph, metric, &rows, query, 10, 32))
        };
        // Three graphs, of which one has rows that are no longer there and one is
        // grown; the last rows are in none.
        let own = |slots: &[u32]| slots.iter().flat_map(|&slot| rows.values(slot).to_vec()).collect();
        let first: Vec<u32> = (0..5400).filter(|slot| slot % 2 == 0).collect();
        let second: Vec<u32> = (0..5400).filter(|slot| slot % 4 == 1).collect();
        let third: Vec<u32> = (0..5400).filter(|slot| slot % 4 == 3).collect();
        let mut values_of: [Vec<f32>; 3] = [own(&first), own(&second), own(&third)];
        values_of[1].extend(clustered(metric, DIM, 300, 9));
        let of = |at: usize| FlatRows::new(DIM, &values_of[at]).expect("whole rows");
        let mut grower = GraphGrower::new(NativeBuilder::default(), metric).expect("the settings are usual");
        grower.extend(&of(2)).expect("there is room");
        let graphs =
            [native(metric, &of(0)), native(metric, &of(1)).quantized(metric, &of(1)), grower.graph()];
        let named = |slots: &[u32], lost: usize| -> Vec<Option<u32>> {
            slots.iter().copied().map(Some).chain(std::iter::repeat_n(None, lost)).collect()
        };
        let slots = [named(&first, 0), named(&second, 300), named(&third, 0)];
        let parts: Vec<Merged<'_>> =
            graphs.iter().zip(&slots).map(|(graph, slots)| Merged { graph, slots }).collect();
        let merged =
            NativeBuilder::default().merge(metric, &rows, &parts, &|| false).expect("it is not cancelled");
        assert_eq!(search(&merged, metric, &rows, rows.values(0), 6000, 6000).len(), 6000);
        let (built, merged) = (found(&native(metric, &rows)), found(&merged));
        assert!(merged >= built - 0.01, "{metric:?}: {merged}, built at once {built}");
    }
}

#[test]
fn equal_rows_and_rows_that_two_graphs_claim_are_all_found_after_merging() {
    let mut values = clustered(Metric::Cosine, DIM, 1000, 2);
    // Every fourth row is the same one.
    let same = values[..DIM].to_vec();
    values.chunks_mut(DIM).step_by(4).for_each(|row| row.copy_from_slice(&same));
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let (few, many) = (&values[..600 * DIM], &values[200 * DIM..]);
    let (few, many) = (FlatRows::new(DIM, few).expect("whole"), FlatRows::new(DIM, many).expect("whole"));
    let graphs = [native(Metric::Cosine, &few), native(Metric::Cosine, &many)];
    let slots: [Vec<Option<u32>>; 2] = [(0..600).map(Some).collect(), (200..1000).map(Some).collect()];
    let parts: Vec<Merged<'_>> =
        graphs.iter().zip(&slots).map(|(graph, slots)| Merged { graph, slots }).collect();
    let merged = NativeBuilder::default()
        .merge(Metric::Cosine, &rows, &parts, &|| false)
        .expect("it is not cancelled");
    let all = search(&merged, Metric::Cosine, &rows, rows.values(7), 1000, 1000);
    assert_eq!(all.len(), 1000);
    let cancelled = NativeBuilder::default().merge(Metric::Cosine, &rows, &parts, &|| true);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}
