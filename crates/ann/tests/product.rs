//! Product codes against the exact scan: by every metric and compression, on rows
//! in clusters and rows at random.

mod common;

use cairn_ann::{
    Codes, Compression, Error, FlatRows, Graph, GraphBuilder, Metric, NativeBuilder, Rows, Scratch, exact,
    f16,
};
use common::{ALL, clustered, recall, search};
use rand::{Rng, SeedableRng, rngs::StdRng};

const DIM: usize = 64;
const LEN: usize = 5000;

fn native<R: Rows>(metric: Metric, rows: &R) -> Graph {
    NativeBuilder::default().build(metric, rows, &|| false).expect("builds")
}

fn bytes(graph: &Graph) -> Vec<u8> {
    let mut bytes = Vec::new();
    graph.write_to(&mut bytes).expect("writes");
    bytes
}

fn uniform(metric: Metric, len: usize, seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut values: Vec<f32> = (0..len * DIM).map(|_| random.random_range(-1.0..1.0)).collect();
    values.chunks_mut(DIM).for_each(|row| metric.prepare(row));
    values
}

#[test]
fn the_nearest_are_found_by_every_metric_and_compression() {
    // Of rows at random all are about equally far, and few bytes say next to nothing.
    let sets = [
        (clustered as fn(Metric, usize, usize, u64) -> Vec<f32>, [0.98; 5]),
        (|metric, _, len, seed| uniform(metric, len, seed), [0.97, 0.97, 0.97, 0.9, 0.65]),
    ];
    for (number, (made, least)) in sets.into_iter().enumerate() {
        for metric in ALL {
            let values = made(metric, DIM, LEN, 2);
            let asked = made(metric, DIM, 100, 3);
            let rows = FlatRows::new(DIM, &values).expect("whole rows");
            let queries = FlatRows::new(DIM, &asked).expect("whole rows");
            let built = native(metric, &rows);
            for (compression, least) in Compression::ALL.into_iter().zip(least) {
                let graph = built.clone().quantized_as(metric, &rows, Codes::Product(compression));
                let mut scratch = Scratch::new();
                let walked = recall(metric, &rows, &queries, 10, |query| {
                    search(&graph, metric, &rows, query, 10, 200)
                });
                let scanned = recall(metric, &rows, &queries, 10, |query| {
                    graph.scan(metric, &rows, query, 10, 0..LEN as u32, &mut scratch)
                });
                assert!(walked >= least, "set {number} {metric:?} {compression:?}: {walked}");
                assert!(scanned >= 0.98, "set {number} {metric:?} {compression:?}: {scanned} of a scan");
            }
        }
    }
}

#[test]
fn codes_are_the_same_with_any_number_of_threads() {
    for metric in ALL {
        let values = clustered(metric, DIM, 3000, 5);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let built = native(metric, &rows);
        let with = |threads, compression| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let codes = Codes::Product(compression);
            bytes(&pool.install(|| built.clone().quantized_as(metric, &rows, codes)))
        };
        for compression in Compression::ALL {
            assert!(with(1, compression) == with(2, compression), "{metric:?} {compression:?}");
        }
    }
}

#[test]
fn every_row_is_found_however_few_there_are() {
    for metric in ALL {
        // Also fewer rows than centroids, and a last sub-vector that is shorter.
        for (dim, len) in [(16, 1), (17, 2), (30, 65), (16, 255), (33, 700)] {
            let values = clustered(metric, dim, len, 6);
            let rows = FlatRows::new(dim, &values).expect("whole rows");
            for compression in Compression::ALL {
                let graph = native(metric, &rows).quantized_as(metric, &rows, Codes::Product(compression));
                let near = search(&graph, metric, &rows, rows.values(0), len, len);
                let mut slots: Vec<u32> = near.iter().map(|near| near.slot).collect();
                slots.sort_unstable();
                assert_eq!(slots, (0..len as u32).collect::<Vec<_>>(), "{metric:?} {compression:?}");
            }
        }
    }
}

#[test]
fn a_graph_without_rows_has_codes_too() {
    let rows = FlatRows::<f32>::new(DIM, &[]).expect("whole rows");
    let graph =
        native(Metric::Cosine, &rows).quantized_as(Metric::Cosine, &rows, Codes::Product(Compression::X32));
    assert!(search(&graph, Metric::Cosine, &rows, &[0.1; DIM], 5, 50).is_empty());
    let again = Graph::from_bytes(bytes(&graph)).expect("opens");
    assert!(again == graph);
}

#[test]
fn rows_of_halves_and_bytes_have_product_codes() {
    for metric in ALL {
        let values = clustered(Metric::Dot, DIM, 3000, 33);
        let to_byte = |&x: &f32| (128.0 + 25.0 * x).clamp(0.0, 255.0) as u8;
        let mut prepared = values.clone();
        prepared.chunks_mut(DIM).for_each(|row| metric.prepare(row));
        let halves: Vec<f16> = prepared.into_iter().map(f16::from_f32).collect();
        check(metric, &FlatRows::new(DIM, &halves).expect("whole rows"), &clustered(metric, DIM, 50, 34));
        let whole: Vec<u8> = values.iter().map(to_byte).collect();
        let queries = clustered(Metric::Dot, DIM, 50, 34);
        let queries: Vec<f32> = queries.iter().map(|x| f32::from(to_byte(x))).collect();
        check(metric, &FlatRows::new(DIM, &whole).expect("whole rows"), &queries);
    }
}

fn check<R: Rows>(metric: Metric, rows: &R, queries: &[f32]) {
    let graph = native(metric, rows);
    let mut scratch = Scratch::new();
    let mut hits = |graph: &Graph| {
        let mut hits = 0;
        for query in queries.chunks(DIM) {
            let truth = exact(metric, rows, query, 10, 0..rows.len() as u32);
            let near = graph.search(metric, rows, query, 10, 100, |_| true, &mut scratch);
            hits += near.iter().filter(|near| near.distance <= truth[9].distance).count();
        }
        hits
    };
    // What the graph leads to by bytes, it leads to by these.
    let usual = hits(&graph.clone().quantized(metric, rows));
    let found = hits(&graph.quantized_as(metric, rows, Codes::Product(Compression::X16)));
    assert!(found >= usual - 10, "{metric:?} over {:?}: {found} of 500, {usual} by bytes", rows.row(0));
}

#[test]
fn what_is_kept_is_found_by_the_codes_it_had() {
    for metric in ALL {
        let values = clustered(metric, DIM, LEN, 7);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let graph = native(metric, &rows).quantized_as(metric, &rows, Codes::Product(Compression::X16));
        // Every seventh row goes away.
        let mut next = 0;
        let new_slots: Vec<Option<u32>> = (0..LEN)
            .map(|slot| {
                let kept = (slot % 7 != 0).then_some(next);
                next += u32::from(kept.is_some());
                kept
            })
            .collect();
        let left: Vec<f32> = values
            .chunks(DIM)
            .zip(&new_slots)
            .filter(|(_, slot)| slot.is_some())
            .flat_map(|(row, _)| row.to_vec())
            .collect();
        let left = FlatRows::new(DIM, &left).expect("whole rows");
        let kept = graph.kept(metric, &left, &new_slots);
        assert_eq!(kept.len(), next as usize);
        let (before, after) =
            (graph.by_codes().expect("it has codes"), kept.by_codes().expect("it has codes"));
        for (old, new) in (0..).zip(&new_slots).filter_map(|(old, new)| Some((old, (*new)?))) {
            assert_eq!(before.decoded(old), after.decoded(new), "{metric:?} {old}");
        }
        let asked = clustered(metric, DIM, 50, 8);
        let queries = FlatRows::new(DIM, &asked).expect("whole rows");
        let found = recall(metric, &left, &queries, 10, |query| search(&kept, metric, &left, query, 10, 200));
        assert!(found >= 0.97, "{metric:?}: {found}");
    }
}

#[test]
fn other_codes_can_take_their_place_and_come_back() {
    let metric = Metric::Euclid;
    let values = clustered(metric, DIM, 2000, 9);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let product = |compression| Codes::Product(compression);
    let first = native(metric, &rows).quantized_as(metric, &rows, product(Compression::X16));
    let mut graph = first.clone();
    for codes in [Codes::Fast, product(Compression::X64), Codes::Compact, product(Compression::X16)] {
        graph = graph.quantized_as(metric, &rows, codes);
    }
    assert!(graph == first);
    assert!(graph.clone().quantized(metric, &rows) == first);
}

#[test]
fn bytes_are_as_many_as_the_compression_says() {
    let values = clustered(Metric::Cosine, DIM, LEN, 10);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let graph = native(Metric::Cosine, &rows);
    for compression in Compression::ALL {
        let coded = graph.clone().quantized_as(Metric::Cosine, &rows, Codes::Product(compression));
        let other = graph.clone().quantized_as(Metric::Cosine, &rows, Codes::Product(Compression::X64));
        let more = (DIM / compression.values_per_byte() - DIM / 16) * LEN;
        assert_eq!(coded.memory_bytes() - other.memory_bytes(), more, "{compression:?}");
    }
}

/// Sets a number of the header and makes the checksum right again.
fn forge(file: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut file = file.to_vec();
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let end = file.len() - 4;
    let sum = crc32fast::hash(&file[..end]);
    file[end..].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn a_file_with_product_codes_comes_back_and_damage_is_refused() {
    const CODES: usize = 156;
    const DIMENSION: usize = 160;
    const BLOCKS: usize = 168;
    const BITS: usize = 176;
    const VALUES: usize = 180;
    for (metric, compression) in ALL.into_iter().flat_map(|metric| Compression::ALL.map(|c| (metric, c))) {
        let values = clustered(metric, 37, 400, 14);
        let rows = FlatRows::new(37, &values).expect("whole rows");
        let graph = native(metric, &rows).quantized_as(metric, &rows, Codes::Product(compression));
        let file = bytes(&graph);
        let opened = Graph::from_bytes(file.clone()).expect("opens");
        assert!(opened == graph && Graph::read_from(&mut file.as_slice()).expect("reads") == graph);
        assert_eq!(bytes(&opened), file);
        for query in values.chunks(37).take(20) {
            let near = |graph| search(graph, metric, &rows, query, 10, 60);
            assert_eq!(near(&graph), near(&opened), "{metric:?}");
        }
        for at in (0..file.len()).step_by(file.len() / 200) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Graph::from_bytes(damaged).is_err(), "{metric:?}: byte {at}");
            assert!(Graph::from_bytes(file[..at].to_vec()).is_err(), "{metric:?}: cut at {at}");
        }
        // Behind a right checksum.
        let forged =
            [(CODES, 5), (DIMENSION, 0), (DIMENSION, 65_537), (BLOCKS, 1), (BITS, 8), (BITS, 4), (VALUES, 0)];
        for (at, value) in forged.into_iter().chain([3, 5, 17, 32, u32::MAX].map(|value| (VALUES, value))) {
            let refused = Graph::from_bytes(forge(&file, at, value));
            assert!(matches!(refused, Err(Error::Malformed(_))), "{value} at {at}: {refused:?}");
        }
        // Codes of another length do not fit the file.
        for (at, value) in [(DIMENSION, 36), (DIMENSION, 380), (CODES, 0)] {
            let refused = Graph::from_bytes(forge(&file, at, value));
            assert!(refused.is_err(), "{value} at {at}");
        }
    }
}
