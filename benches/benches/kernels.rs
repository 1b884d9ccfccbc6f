//! The time of one distance: in the cache, and over more rows than it holds.

use std::hint::black_box;

use cairn_ann::{FlatRows, Metric, Query, Row, f16, simd_capabilities};
use cairn_benches::clustered::clustered;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ALL: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

fn one_distance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("distance ({})", simd_capabilities()));
    for dim in [128, 384, 768, 1536] {
        let pair = clustered(dim, 2, 2);
        let (a, b) = pair.split_at(dim);
        group.throughput(Throughput::Elements(1));
        for metric in ALL {
            let id = BenchmarkId::new(format!("{metric:?}"), dim);
            group.bench_function(id, |bencher| {
                bencher.iter(|| metric.distance(black_box(a), black_box(b)));
            });
        }
    }
    group.finish();
}

/// A query of `f32` with rows of the other formats.
fn other_formats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("distance to a row of");
    for dim in [384, 1536] {
        let pair = clustered(dim, 2, 5);
        let (query, row) = pair.split_at(dim);
        let halves: Vec<f16> = row.iter().map(|&x| f16::from_f32(x)).collect();
        let bytes: Vec<u8> = row.iter().map(|&x| (128.0 + 50.0 * x) as u8).collect();
        for metric in ALL {
            let query = Query::new(metric, query);
            for (name, row) in [("f16", Row::F16(&halves)), ("u8", Row::U8(&bytes))] {
                let id = BenchmarkId::new(format!("{name}, {metric:?}"), dim);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| black_box(query).distance(black_box(row)));
                });
            }
        }
    }
    group.finish();
}

/// 64 MiB of rows in an order that no hardware guesses.
fn scattered_rows(criterion: &mut Criterion) {
    const LEN: usize = 43_690;
    let values = clustered(384, LEN, 3);
    let rows = FlatRows::new(384, &values).expect("whole rows");
    let mut slot = 0;
    criterion.bench_function("distance to a row out of the cache, 384", |bencher| {
        bencher.iter(|| {
            slot = (slot + 27_011) % LEN as u32;
            Metric::Dot.distance(black_box(rows.values(0)), rows.values(slot))
        });
    });
}

fn prepare(criterion: &mut Criterion) {
    let vector = clustered(384, 1, 4);
    criterion.bench_function("prepare for cosine, 384", |bencher| {
        bencher.iter_batched_ref(
            || vector.clone(),
            |vector| Metric::Cosine.prepare(vector),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group!(kernels, one_distance, other_formats, scattered_rows, prepare);
criterion_main!(kernels);
