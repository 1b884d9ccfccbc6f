//! Random points and the naive search that fast ones are checked against.

#![allow(dead_code)] // each test file uses some of it

use std::path::Path;

use cairn_index::{Filter, Metric, Point};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tempfile::TempDir;

#[allow(clippy::print_stdout)] // the seed of a failure
pub(crate) fn rng(seed: u64) -> StdRng {
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

pub(crate) fn vector(rng: &mut StdRng, dim: usize) -> Vec<f32> {
    (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Points around a few centres, as embeddings of related texts are.
pub(crate) fn clustered(rng: &mut StdRng, count: usize, dim: usize) -> Vec<Point> {
    let centres: Vec<Vec<f32>> = (0..20).map(|_| vector(rng, dim)).collect();
    (0..count)
        .map(|number| {
            let centre = &centres[rng.random_range(0..centres.len())];
            let near: Vec<f32> = centre.iter().map(|x| x + rng.random_range(-0.4..0.4)).collect();
            Point::new(number as u64, near).with_payload(payload(rng)).unwrap()
        })
        .collect()
}

fn payload(rng: &mut StdRng) -> serde_json::Value {
    let colour = ["red", "green", "blue"][rng.random_range(0..3)];
    let year = rng.random_range(1900..2000);
    json!({ "colour": colour, "year": year })
}

/// Ids and scores by comparing with every point, best first.
pub(crate) fn naive<'p>(
    metric: Metric,
    points: impl Iterator<Item = &'p Point>,
    query: &[f32],
    filter: Option<&Filter>,
    k: usize,
) -> Vec<(cairn_index::PointId, f32)> {
    let mut scored: Vec<_> = points
        .filter(|point| filter.is_none_or(|filter| filter.matches(point.id, &point.payload)))
        .filter_map(|point| Some((point.id, score(metric, point.vectors.get("")?.as_dense()?, query))))
        .collect();
    scored.sort_by(|a, b| match metric {
        Metric::Cosine | Metric::Dot => b.1.total_cmp(&a.1),
        Metric::Euclid | Metric::Manhattan => a.1.total_cmp(&b.1),
    });
    scored.truncate(k);
    scored
}

fn score(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    match metric {
        Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::Dot => dot(a, b),
        Metric::Euclid => a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt(),
        Metric::Manhattan => a.iter().zip(b).map(|(x, y)| (x - y).abs()).sum(),
    }
}

/// A folder in memory where there is room, for what needs no real disk: waiting
/// for one takes most of the time otherwise.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let disk = rustix::fs::statvfs(memory);
    let roomy = disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > 2 << 30);
    let made = if roomy { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a data folder as it lies there.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                // sled puts a new snapshot in place of an old one now and then,
                // and does without when there is none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    assert!(entry.file_name().to_string_lossy().starts_with("snap."), "{entry:?}");
                }
                copied => drop(copied.unwrap()),
            }
        }
    }
}
