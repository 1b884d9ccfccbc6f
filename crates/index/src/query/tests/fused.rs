//! Fusion, against numbers worked by hand.

use serde_json::json;

use cairn_ann::Metric;

use crate::query::{Fusion, Prefetch, Query, QueryRequest};

use super::memory::Memory;
use super::{ask, nums, random, scores};

/// Points 1, 2, 3 at (id, -id), so that the axes order them oppositely.
fn axes(metric: Metric) -> Memory {
    (1..=3).fold(Memory::new(2, metric), |memory, id| memory.with(id, &[id as f32, -(id as f32)], json!({})))
}

fn along(axis: [f32; 2], limit: usize) -> Prefetch {
    Prefetch::new(Query::nearest(axis.to_vec())).limit(limit)
}

#[test]
fn rank_fusion_starts_at_a_half_and_equal_scores_keep_the_order_of_the_lists() {
    let request =
        QueryRequest::new(Query::rrf()).prefetch(along([1.0, 0.0], 2)).prefetch(along([0.0, 1.0], 2));
    // 3, 2 along x; 1, 2 along y.
    let hits = ask(&axes(Metric::Dot), &request);
    assert_eq!(nums(&hits), [2, 3, 1]);
    assert_eq!(scores(&hits), [1.0 / 3.0 + 1.0 / 3.0, 0.5, 0.5]);
}

#[test]
fn weights_and_k_of_rank_fusion_follow_the_formula() {
    let fusion = Fusion::Rrf { k: 61, weights: Some(vec![3.0, 0.5]) };
    let request = QueryRequest::new(Query::Fusion(fusion))
        .prefetch(along([1.0, 0.0], 2))
        .prefetch(along([0.0, 1.0], 1));
    let hits = ask(&axes(Metric::Dot), &request);
    assert_eq!(nums(&hits), [3, 2, 1]);
    let want = [1.0 / (1.0 / 3.0 + 60.0), 1.0 / (2.0 / 3.0 + 60.0), 1.0 / (1.0 / 0.5 + 60.0)];
    assert_eq!(scores(&hits), want.map(|score: f32| score));
}

#[test]
fn a_weight_of_zero_silences_a_list() {
    let fusion = Fusion::Rrf { k: 2, weights: Some(vec![0.0, 1.0]) };
    let request = QueryRequest::new(Query::Fusion(fusion))
        .prefetch(along([1.0, 0.0], 1))
        .prefetch(along([0.0, 1.0], 1));
    let hits = ask(&axes(Metric::Dot), &request);
    assert_eq!((nums(&hits), scores(&hits)), (vec![1, 3], vec![0.5, 0.0]));
}

#[test]
fn distribution_fusion_maps_three_deviations_to_one() {
    // Scores 3, 2, 1: mean 2, sample deviation 1, bounds -1 and 5.
    let request = QueryRequest::new(Query::Fusion(Fusion::Dbsf)).prefetch(along([1.0, 0.0], 3));
    let hits = ask(&axes(Metric::Dot), &request);
    assert_eq!((nums(&hits), scores(&hits)), (vec![3, 2, 1], vec![4.0 / 6.0, 0.5, 2.0 / 6.0]));
    // One score, or equal ones, count a half each.
    let single = request.clone().prefetch(along([0.0, 1.0], 1));
    assert_eq!(scores(&ask(&axes(Metric::Dot), &single)), [2.0 / 6.0 + 0.5, 4.0 / 6.0, 0.5]);
    let equal = QueryRequest::new(Query::Fusion(Fusion::Dbsf)).prefetch(along([1.0, 1.0], 3));
    assert_eq!(scores(&ask(&axes(Metric::Dot), &equal)), [0.5; 3]);
}

#[test]
fn distribution_fusion_prefers_the_smaller_of_distances() {
    let request = QueryRequest::new(Query::Fusion(Fusion::Dbsf)).prefetch(along([1.0, -1.0], 3));
    assert_eq!(nums(&ask(&axes(Metric::Euclid), &request)), [1, 2, 3]);
}

#[test]
fn distribution_fusion_of_random_lists_agrees_with_the_definition_in_f64() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let lists: Vec<Prefetch> = (0..rng.usize(1..4))
            .map(|_| Prefetch::new(Query::nearest(random::vector(&mut rng, "words"))).using("words"))
            .collect();
        let mut want = std::collections::HashMap::<_, f64>::new();
        for list in &lists {
            let alone =
                QueryRequest { query: list.query.clone(), using: list.using.clone(), ..Default::default() };
            let hits = ask(&memory, &alone);
            let n = hits.len() as f64;
            let mean = hits.iter().map(|hit| f64::from(hit.score)).sum::<f64>() / n;
            let squares = hits.iter().map(|hit| (f64::from(hit.score) - mean).powi(2)).sum::<f64>();
            let deviation = (squares / (n - 1.0)).sqrt();
            for hit in hits {
                let part = (f64::from(hit.score) - mean + 3.0 * deviation) / (6.0 * deviation);
                *want.entry(hit.id).or_default() += if part.is_finite() { part } else { 0.5 };
            }
        }
        let request = QueryRequest {
            query: Some(Query::Fusion(Fusion::Dbsf)),
            prefetch: lists,
            limit: 100,
            ..QueryRequest::default()
        };
        let hits = ask(&memory, &request);
        assert_eq!(hits.len(), want.len(), "seed {seed}");
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        for hit in hits {
            assert!(
                (f64::from(hit.score) - want[&hit.id]).abs() < 1e-4,
                "seed {seed}: {hit:?}, want {}",
                want[&hit.id]
            );
        }
    }
}
