//! Rows of 16-bit floats and of bytes: measured right, built over, found.

mod common;

use cairn_ann::{
    FlatRows, Graph, GraphBuilder, HnswRsBuilder, HnswRsIndex, Metric, Query, Row, Rows, Scratch, exact, f16,
};
use common::{ALL, clustered};
use rand::{Rng, SeedableRng, rngs::StdRng};

const DIM: usize = 32;

/// The distance in `f64` over the stored values, and the sum of its terms'
/// sizes, by which rounding is to be judged.
fn naive(metric: Metric, query: &[f32], row: Row) -> (f64, f64) {
    let stored = row.to_f32();
    let pairs = || query.iter().zip(&stored).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    let size: f64 = pairs().map(|(x, y)| (x * y).abs()).sum();
    match metric {
        Metric::Cosine if matches!(row, Row::U8(_)) => {
            let squares = |f: fn((f64, f64)) -> f64| pairs().map(f).sum::<f64>();
            let lengths = (squares(|(x, _)| x * x) * squares(|(_, y)| y * y)).sqrt();
            if lengths == 0.0 { (0.0, 1.0) } else { (-dot / lengths, size / lengths) }
        }
        Metric::Cosine | Metric::Dot => (-dot, size),
        Metric::Euclid => both(pairs().map(|(x, y)| (x - y) * (x - y)).sum()),
        Metric::Manhattan => both(pairs().map(|(x, y)| (x - y).abs()).sum()),
    }
}

fn both(value: f64) -> (f64, f64) {
    (value, value)
}

fn check(metric: Metric, query: &[f32], row: Row, what: &str) {
    let (want, size) = naive(metric, query, row);
    for got in [metric.distance_to(query, row), Query::new(metric, query).distance(row)] {
        let off = (f64::from(got) - want).abs();
        assert!(off <= 1e-5 * size, "{metric:?}, {what}: {got}, naively {want}");
    }
}

#[test]
fn distances_to_every_format_are_those_of_the_stored_values_in_every_dimension() {
    let mut random = StdRng::seed_from_u64(31);
    for dim in (1..150).chain([384, 768, 1000, 1536, 4096, 4097, 65_536]) {
        let query: Vec<f32> = (0..dim).map(|_| random.random_range(-2.0f32..2.0)).collect();
        let whole: Vec<f32> = (0..dim).map(|_| f32::from(random.random::<u8>())).collect();
        let row: Vec<f32> = (0..dim).map(|_| random.random_range(-2.0f32..2.0)).collect();
        let halves: Vec<f16> = row.iter().map(|&x| f16::from_f32(x)).collect();
        let bytes: Vec<u8> = (0..dim).map(|_| random.random()).collect();
        for metric in ALL {
            let what = format!("{dim} dimensions");
            for row in [Row::F32(&row), Row::F16(&halves), Row::U8(&bytes)] {
                check(metric, &query, row, &what);
                check(metric, &whole, row, &what);
            }
        }
    }
}

#[test]
fn two_rows_of_one_format_are_as_far_apart_as_their_stored_values() {
    let mut random = StdRng::seed_from_u64(32);
    for dim in (1..100).chain([384, 1000]) {
        let bytes: Vec<u8> = (0..2 * dim).map(|_| random.random()).collect();
        let halves: Vec<f16> = (0..2 * dim).map(|_| f16::from_f32(random.random_range(-2.0..2.0))).collect();
        let rows = [
            (Row::U8(&bytes[..dim]), Row::U8(&bytes[dim..])),
            (Row::F16(&halves[..dim]), Row::F16(&halves[dim..])),
            (Row::F16(&halves[..dim]), Row::U8(&bytes[dim..])),
        ];
        for (a, b) in rows {
            for metric in ALL {
                let (want, size) = naive(metric, &a.to_f32(), b);
                let got = metric.between(a, b);
                assert!((f64::from(got) - want).abs() <= 1e-5 * size, "{metric:?}, {dim}: {got}, {want}");
            }
        }
    }
}

#[test]
fn every_16_bit_float_is_read_as_what_it_is() {
    for bits in 0..=u16::MAX {
        let half = f16::from_bits(bits);
        // In every place of a block, and in the rest behind it.
        let place = usize::from(bits) % 37;
        let (mut row, mut query) = ([f16::ZERO; 37], [0.0; 37]);
        (row[place], query[place]) = (half, 1.0);
        let got = 0.0 - Metric::Dot.distance_to(&query, Row::F16(&row));
        let want = half.to_f32();
        assert!(got == want || (got.is_nan() && !want.is_finite()), "{bits:04x}: {got}, {want}");
    }
}

#[test]
fn extreme_queries_of_bytes_neither_panic_nor_lose_the_order() {
    let near = [10u8; 40];
    for metric in ALL {
        for value in [0.0, -1.0, 255.0, 256.0, 0.5, 1e-30, f32::NAN, f32::INFINITY] {
            let _ = metric.distance_to(&[value; 40], Row::U8(&near));
        }
        check(metric, &[-3.0; 40], Row::U8(&near), "negative");
        check(metric, &[255.0; 40], Row::U8(&[255; 40]), "largest");
        check(metric, &[0.0; 40], Row::U8(&[0; 40]), "zero");
    }
    let cosine = Metric::Cosine.distance_to(&[2.0; 40], Row::U8(&near));
    assert!((cosine + 1.0).abs() < 1e-6, "bytes are compared by direction, whatever their lengths");
}

#[test]
fn rows_of_other_lengths_are_a_panic_and_not_a_wrong_distance() {
    for metric in ALL {
        let wrong = std::panic::catch_unwind(|| metric.distance_to(&[1.0; 8], Row::U8(&[1; 7])));
        assert!(wrong.is_err());
        let wrong = std::panic::catch_unwind(|| metric.distance_to(&[1.0; 7], Row::F16(&[f16::ONE; 8])));
        assert!(wrong.is_err());
    }
}

/// Recall@10 of a graph over `rows`.
fn recall<R: Rows>(metric: Metric, rows: &R, queries: &[f32], graph: &Graph) -> f64 {
    let mut scratch = Scratch::new();
    let mut hits = 0;
    for query in queries.chunks(DIM) {
        let truth = exact(metric, rows, query, 10, 0..rows.len() as u32);
        let near = graph.search(metric, rows, query, 10, 64, |_| true, &mut scratch);
        hits += near.iter().filter(|near| near.distance <= truth[9].distance).count();
    }
    hits as f64 / (queries.len() / DIM * 10) as f64
}

#[test]
fn graphs_over_16_bit_floats_and_bytes_find_nearly_all_true_neighbours_by_every_metric() {
    for metric in ALL {
        let builder = HnswRsBuilder { m: 12, ef_construction: 80 };
        let (values, queries) = (clustered(metric, DIM, 3000, 33), clustered(metric, DIM, 100, 34));
        let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let rows = FlatRows::new(DIM, &halves).expect("whole rows");
        let graph = builder.build(metric, &rows, &|| false).expect("builds");
        let found = recall(metric, &rows, &queries, &graph);
        assert!(found >= 0.95, "{metric:?} over f16: recall@10 is {found}");

        let to_byte = |&x: &f32| (128.0 + 25.0 * x).clamp(0.0, 255.0) as u8;
        let values: Vec<u8> = clustered(Metric::Dot, DIM, 3000, 33).iter().map(to_byte).collect();
        let queries: Vec<f32> =
            clustered(Metric::Dot, DIM, 100, 34).iter().map(|x| f32::from(to_byte(x))).collect();
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let graph = builder.build(metric, &rows, &|| false).expect("builds");
        let found = recall(metric, &rows, &queries, &graph);
        assert!(found >= 0.95, "{metric:?} over u8: recall@10 is {found}");
    }
}

#[test]
fn equal_rows_of_bytes_are_all_found() {
    let mut values = vec![7u8; 1000 * 3];
    values[..30].copy_from_slice(&std::array::from_fn::<u8, 30, _>(|at| at as u8));
    let rows = FlatRows::new(3, &values).expect("whole rows");
    for metric in ALL {
        let graph = HnswRsBuilder::default().build(metric, &rows, &|| false).expect("builds");
        let near = graph.search(metric, &rows, &[7.0; 3], 1000, 1000, |_| true, &mut Scratch::new());
        assert_eq!(near.len(), 1000, "{metric:?}");
    }
}

#[test]
fn hnsw_rs_itself_takes_rows_of_bytes() {
    let values: Vec<u8> = (0..600u16 * 3).map(|at| (at * 37 % 251) as u8).collect();
    let rows = FlatRows::new(3, &values).expect("whole rows");
    for metric in ALL {
        let index = HnswRsIndex::build(HnswRsBuilder::default(), metric, &rows, &|| false).expect("builds");
        assert_eq!(index.freeze(&rows).len(), 600);
        let mut query = rows.row(5).to_f32();
        metric.prepare(&mut query);
        assert_eq!(index.search(&query, 3, 50).len(), 3, "{metric:?}");
    }
}
