//! Searches over 10,000 clustered vectors: frozen graph, hnsw_rs, exact scan.
//!
//! The data is easy and small, to notice a change quickly. For figures with
//! their recall on real data see the binary `ann`.

use std::hint::black_box;
use std::sync::Arc;

use cairn_ann::{FlatRows, Graph, HnswRsBuilder, HnswRsIndex, Metric, Scratch, exact};
use cairn_benches::clustered::clustered;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const DIM: usize = 128;
const LEN: usize = 10_000;
const METRIC: Metric = Metric::Cosine;
const K: usize = 10;

fn prepared(len: usize, seed: u64) -> Vec<f32> {
    let mut values = clustered(DIM, len, seed);
    values.chunks_mut(DIM).for_each(|row| METRIC.prepare(row));
    values
}

fn searches(criterion: &mut Criterion) {
    let (values, asked) = (prepared(LEN, 2), prepared(512, 3));
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let queries = FlatRows::new(DIM, &asked).expect("whole rows");
    let mut turn = 0;
    let mut query = || {
        turn = (turn + 1) % 512;
        queries.values(turn)
    };
    let index = HnswRsIndex::build(HnswRsBuilder::default(), METRIC, &rows, &|| false).expect("builds");
    let graph = index.freeze(&rows);
    let mut scratch = Scratch::new();

    let mut group = criterion.benchmark_group("search");
    for ef in [16, 64, 256] {
        group.bench_function(BenchmarkId::new("frozen", ef), |bencher| {
            bencher.iter(|| graph.search(METRIC, &rows, query(), K, ef, |_| true, &mut scratch));
        });
        group.bench_function(BenchmarkId::new("frozen, one in ten accepted", ef), |bencher| {
            let accept = |slot: u32| slot.is_multiple_of(10);
            bencher.iter(|| graph.search(METRIC, &rows, query(), K, ef, accept, &mut scratch));
        });
        group.bench_function(BenchmarkId::new("frozen, one in ten, its share known", ef), |bencher| {
            let accept = |slot: u32| slot.is_multiple_of(10);
            bencher.iter(|| graph.search_filtered(METRIC, &rows, query(), K, ef, 0.1, accept, &mut scratch));
        });
        group.bench_function(BenchmarkId::new("hnsw_rs", ef), |bencher| {
            bencher.iter(|| index.search(query(), K, ef));
        });
    }
    for len in [1_000, LEN] {
        group.bench_function(BenchmarkId::new("exact", len), |bencher| {
            bencher.iter(|| exact(METRIC, &rows, query(), K, 0..len as u32));
        });
    }
    group.finish();
}

fn files(criterion: &mut Criterion) {
    let values = prepared(2_000, 2);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let index = HnswRsIndex::build(HnswRsBuilder::default(), METRIC, &rows, &|| false).expect("builds");
    let graph = index.freeze(&rows);
    let mut file = Vec::new();
    graph.write_to(&mut file).expect("memory takes it");
    criterion.bench_function("read a graph of 2,000", |bencher| {
        bencher.iter(|| Graph::read_from(&mut black_box(file.as_slice())));
    });
    let file: Arc<[u8]> = file.into();
    criterion.bench_function("open a graph of 2,000 in place", |bencher| {
        bencher.iter(|| Graph::from_bytes(black_box(Arc::clone(&file))));
    });
}

criterion_group!(search, searches, files);
criterion_main!(search);
