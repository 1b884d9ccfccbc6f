//! What is searched, for what, and what should be found.

use std::fs;
use std::path::Path;

use cairn_ann::{FlatRows, Metric, exact};
use cairn_benches::npy::{Matrix, read_f32, read_i32, write_f32, write_i32};
use rayon::prelude::*;
use serde_json::json;

use crate::made::Made;
use crate::{K, Outcome};

/// True neighbours that are kept for each query.
const TRUTH: usize = 100;

pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) metric: Metric,
    /// How many rows there are, also when they are no longer kept here.
    pub(crate) len: usize,
    /// Prepared for the metric.
    pub(crate) base: Matrix<f32>,
    /// Prepared for the metric.
    pub(crate) queries: Matrix<f32>,
    /// For each query its nearest rows, the nearest first.
    pub(crate) truth: Matrix<i32>,
}

impl Set {
    /// Reads a folder; the metric is cosine.
    pub(crate) fn load(folder: &Path, limit_queries: usize) -> Outcome<Self> {
        let full = folder.join("base.f32.npy");
        let base = if full.exists() { full } else { folder.join("base.f16.npy") };
        let name = folder.canonicalize()?.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::read(name, Metric::Cosine, &base, folder, limit_queries)
    }

    /// Makes a set, or reads it if it was made before.
    pub(crate) fn made(made: Made, rows: usize, limit_queries: usize) -> Outcome<Self> {
        let name = made.name(rows);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-data/ann").join(&name);
        let base = kept.join("base.f32.npy");
        // The true neighbours are written last: a folder that has them is whole.
        if !kept.join("gt100.i32.npy").exists() {
            fs::create_dir_all(&kept)?;
            let (rows, queries) = made.rows_and_queries(rows);
            let truth = truth(made.metric(), &rows, &queries)?;
            write_f32(&base, &rows)?;
            write_f32(&kept.join("queries.f32.npy"), &queries)?;
            write_i32(&kept.join("gt100.i32.npy"), &truth)?;
        }
        Self::read(name, made.metric(), &base, &kept, limit_queries)
    }

    fn read(name: String, metric: Metric, base: &Path, folder: &Path, limit: usize) -> Outcome<Self> {
        let base = prepared(metric, read_f32(base)?);
        let mut queries = prepared(metric, read_f32(&folder.join("queries.f32.npy"))?);
        let mut truth = read_i32(&folder.join("gt100.i32.npy"))?;
        if base.columns != queries.columns || truth.rows().len() != queries.rows().len() || truth.columns < K
        {
            return Err("the vectors, queries and true neighbours do not belong together".into());
        }
        queries.values.truncate(limit.saturating_mul(queries.columns));
        truth.values.truncate(limit.saturating_mul(truth.columns));
        let len = base.rows().len();
        Ok(Self { name, metric, len, base, queries, truth })
    }

    /// Leaves in a folder what the systems read.
    pub(crate) fn write(&self, work: &Path, threads: usize) -> Outcome {
        write_f32(&work.join("base.npy"), &self.base)?;
        write_f32(&work.join("queries.npy"), &self.queries)?;
        let metric = format!("{:?}", self.metric).to_lowercase();
        let task = json!({ "k": K, "threads": threads, "metric": metric });
        Ok(fs::write(work.join("task.json"), task.to_string())?)
    }

    /// One line on what it is.
    pub(crate) fn header(&self) -> String {
        let queries = self.queries.rows().len();
        let (dim, metric) = (self.base.columns, self.metric);
        format!("data   {}: {} x {dim}, {metric:?}, {queries} queries, k {K}", self.name, self.len)
    }

    /// Mean distance of the nearest and of the `K`-th.
    pub(crate) fn nearness(&self) -> (f64, f64) {
        let mean = |rank: usize| {
            let all = self.queries.rows().zip(self.truth.rows());
            let of = |(query, truth): (&[f32], &[i32])| {
                let row = &self.base.values[truth[rank] as usize * self.base.columns..][..self.base.columns];
                f64::from(self.metric.score(self.metric.distance(query, row)))
            };
            all.map(of).sum::<f64>() / self.queries.rows().len().max(1) as f64
        };
        (mean(0), mean(K - 1))
    }
}

fn prepared(metric: Metric, mut matrix: Matrix<f32>) -> Matrix<f32> {
    let columns = matrix.columns;
    matrix.values.par_chunks_mut(columns).for_each(|row| metric.prepare(row));
    matrix
}

fn truth(metric: Metric, base: &Matrix<f32>, queries: &Matrix<f32>) -> Outcome<Matrix<i32>> {
    let rows = FlatRows::new(base.columns, &base.values)?;
    let nearest = |query: &[f32]| {
        let near = exact(metric, &rows, query, TRUTH, 0..base.rows().len() as u32);
        near.into_iter().map(|near| near.slot as i32).collect::<Vec<_>>()
    };
    let values = queries.values.par_chunks(queries.columns).flat_map_iter(nearest).collect();
    Ok(Matrix { columns: TRUTH, values })
}
