//! The scan by codes against the exact one: whatever is stored, and however
//! much is scanned.

mod common;

use cairn_ann::{
    Codes, FlatRows, Graph, GraphBuilder, GraphGrower, Metric, NativeBuilder, Neighbor, Rows, Scratch,
    Strategy, exact, f16,
};
use common::{ALL, clustered};
use rand::{Rng, SeedableRng, rngs::StdRng};

const LEN: usize = 5000;

fn quantized<R: Rows>(metric: Metric, rows: &R) -> Graph {
    let graph = NativeBuilder::default().build(metric, rows, &|| false).expect("builds");
    graph.quantized(metric, rows)
}

/// Recall@10 over lists of several lengths, and that hits are what they should
/// be besides.
fn recall<R: Rows>(metric: Metric, graph: &Graph, rows: &R, queries: &[f32]) -> f64 {
    let mut random = StdRng::seed_from_u64(5);
    let mut scratch = Scratch::new();
    let (mut found, mut wanted) = (0, 0);
    for (number, query) in queries.chunks(rows.dim()).enumerate() {
        let share = [0.0, 0.001, 0.03, 0.2, 0.6, 1.0][number % 6];
        let slots: Vec<u32> = (0..rows.len() as u32).filter(|_| random.random_bool(share)).collect();
        let near = graph.scan(metric, rows, query, 10, slots.iter().copied(), &mut scratch);
        let truth = exact(metric, rows, query, 10, slots.iter().copied());
        assert_eq!(near.len(), truth.len(), "{metric:?}");
        assert!(near.is_sorted() && near.windows(2).all(|pair| pair[0].slot != pair[1].slot));
        for near in &near {
            assert!(slots.binary_search(&near.slot).is_ok());
            // Distances are those of the rows.
            assert_eq!(exact(metric, rows, query, 1, std::iter::once(near.slot)), [*near]);
        }
        let worst = truth.last().map_or(0.0, |last| last.distance);
        found += near.iter().filter(|near| near.distance <= worst).count();
        wanted += truth.len();
    }
    found as f64 / wanted as f64
}

#[test]
fn a_scan_by_codes_finds_what_an_exact_one_does_by_every_metric() {
    // With signs, with a part of a line unused, and of too few values for signs.
    for dim in [256, 200, 32] {
        for metric in ALL {
            let values = clustered(metric, dim, LEN, 51);
            let rows = FlatRows::new(dim, &values).expect("whole rows");
            let found = recall(metric, &quantized(metric, &rows), &rows, &clustered(metric, dim, 90, 52));
            assert!(found >= 0.99, "{metric:?} with {dim} values: {found}");
        }
    }
}

#[test]
fn rows_of_halves_and_bytes_are_scanned_by_code() {
    const DIM: usize = 192;
    for metric in ALL {
        let values = clustered(Metric::Dot, DIM, LEN, 53);
        let to_byte = |&x: &f32| (128.0 + 25.0 * x).clamp(0.0, 255.0) as u8;
        let mut prepared = values.clone();
        prepared.chunks_mut(DIM).for_each(|row| metric.prepare(row));
        let halves: Vec<f16> = prepared.into_iter().map(f16::from_f32).collect();
        let rows = FlatRows::new(DIM, &halves).expect("whole rows");
        let found = recall(metric, &quantized(metric, &rows), &rows, &clustered(metric, DIM, 90, 54));
        assert!(found >= 0.99, "{metric:?} of halves: {found}");
        let whole: Vec<u8> = values.iter().map(to_byte).collect();
        let rows = FlatRows::new(DIM, &whole).expect("whole rows");
        let queries = clustered(Metric::Dot, DIM, 90, 54);
        let queries: Vec<f32> = queries.iter().map(|x| f32::from(to_byte(x))).collect();
        let found = recall(metric, &quantized(metric, &rows), &rows, &queries);
        assert!(found >= 0.98, "{metric:?} of bytes: {found}");
    }
}

#[test]
fn a_graph_that_follows_growing_rows_scans_them_and_those_behind_it() {
    const DIM: usize = 192;
    for metric in ALL {
        let values = clustered(metric, DIM, LEN, 55);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let linked = FlatRows::new(DIM, &values[..DIM * 4000]).expect("whole rows");
        let mut grower = GraphGrower::new(NativeBuilder::default(), metric).expect("settings are good");
        grower.extend(&linked).expect("they fit");
        let graph = grower.graph();
        assert_eq!(graph.len(), 4000);
        let found = recall(metric, &graph, &rows, &clustered(metric, DIM, 90, 56));
        assert!(found >= 0.99, "{metric:?}: {found}");
    }
}

#[test]
fn strange_queries_and_rows_get_as_many_hits_as_there_are_rows() {
    const DIM: usize = 192;
    for metric in ALL {
        // Zeros, equal rows, and rows that lie apart by much.
        let mut values = vec![0f32; DIM * 600];
        values[DIM * 200..DIM * 400].fill(0.5);
        values[DIM * 400..].iter_mut().enumerate().for_each(|(at, x)| *x = ((at * at) % 977) as f32 - 400.0);
        values.chunks_mut(DIM).for_each(|row| metric.prepare(row));
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let graph = quantized(metric, &rows);
        let mut scratch = Scratch::new();
        for query in [vec![0.0; DIM], vec![1e-3; DIM], vec![-1e4; DIM]] {
            for (k, many) in
                [(1, 600), (10, 600), (600, 600), (1000, 600), (10, 9), (0, 600), (usize::MAX, 600)]
            {
                let near = graph.scan(metric, &rows, &query, k, 0..many, &mut scratch);
                assert_eq!(near.len(), k.min(many as usize), "{metric:?}");
                assert!(near.is_sorted());
            }
        }
    }
}

#[test]
fn scans_of_a_written_graph_a_clone_and_other_codes_agree() {
    const DIM: usize = 192;
    let metric = Metric::Cosine;
    let values = clustered(metric, DIM, 3000, 57);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let graph = quantized(metric, &rows);
    let mut file = Vec::new();
    graph.write_to(&mut file).expect("writes");
    let scan = |graph: &Graph| -> Vec<Neighbor> {
        let odd = (0..1500).map(|half| 2 * half + 1);
        graph.scan(metric, &rows, rows.values(9), 20, odd, &mut Scratch::new())
    };
    let near = scan(&graph);
    let opened = Graph::from_bytes(file).expect("opens");
    assert!(opened == graph && near[0].slot == 9);
    assert_eq!(near, scan(&opened));
    assert_eq!(near, scan(&opened.clone()));
    assert_eq!(near, scan(&opened.quantized_as(metric, &rows, Codes::Fast)));
}

#[test]
fn a_scan_is_chosen_for_few_a_walk_for_many_and_a_scan_if_nothing_is_known() {
    let metric = Metric::Cosine;
    let values = clustered(metric, 32, 12_000, 58);
    let rows = FlatRows::new(32, &values).expect("whole rows");
    let graph = quantized(metric, &rows);
    assert_eq!(graph.filtered_strategy(0.01, 64), Strategy::Scan);
    assert_eq!(graph.filtered_strategy(f32::NAN, 64), Strategy::Scan);
    assert_eq!(graph.filtered_strategy(-1.0, 64), Strategy::Scan);
    assert_eq!(graph.filtered_strategy(0.9, 64), Strategy::WalkThrough);
}
