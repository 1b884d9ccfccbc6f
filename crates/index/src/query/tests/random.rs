//! Random collections and random questions to them.
//!
//! Vectors hold small integers, and averages are of 1, 2 or 4 examples: every
//! order of adding gives the same f32, so answers can be compared exactly.

use cairn_ann::Metric;
use fastrand::Rng;
use serde_json::{Value, json};

use crate::filter::Filter;
use crate::id::PointId;
use crate::query::source::VectorKind;
use crate::query::{
    ContextPair, Direction, Expression, FeedbackExample, FeedbackWeights, Fusion, OrderBy, Prefetch, Query,
    QueryRequest, Strategy, Target,
};
use crate::vector::{MultiVector, SparseVector, Vector, Vectors};

use super::filter;
use super::memory::{Memory, kind};

const DIM: usize = 3;
pub(super) const NAMES: [&str; 3] = ["", "rows", "words"];

pub(super) fn memory(rng: &mut Rng) -> Memory {
    let metric = [Metric::Dot, Metric::Euclid, Metric::Manhattan][rng.usize(..3)];
    let mut memory = Memory::new(DIM, metric);
    memory.kinds.insert("rows".into(), (DIM, VectorKind { multi: true, ..kind(metric) }));
    memory.kinds.insert("words".into(), (0, VectorKind { sparse: true, ..kind(Metric::Dot) }));
    let mut ids: Vec<u64> = (1..=rng.u64(20..45)).collect();
    rng.shuffle(&mut ids);
    for id in ids {
        let mut vectors = Vectors::new();
        for name in NAMES {
            if rng.u32(..8) > 0 {
                vectors.insert(name.to_owned(), vector(rng, name));
            }
        }
        let payload = payload(rng);
        memory.push(id.into(), vectors, payload);
    }
    memory
}

pub(super) fn vector(rng: &mut Rng, name: &str) -> Vector {
    let mut row = || (0..DIM).map(|_| rng.i32(-3..=3) as f32).collect::<Vec<_>>();
    match name {
        "rows" => MultiVector::from_rows(&[row(), row()]).unwrap().into(),
        "words" => {
            let mut indices: Vec<u32> = (0..8).collect();
            rng.shuffle(&mut indices);
            let count = rng.usize(1..4);
            SparseVector::new(indices.into_iter().take(count).map(|index| (index, rng.i32(1..4) as f32)))
                .unwrap()
                .into()
        }
        _ => row().into(),
    }
}

fn payload(rng: &mut Rng) -> Value {
    let mut tag = || ["a", "b", "c", "d"][rng.usize(..4)];
    let tags = [json!(tag()), json!([tag(), tag()]), json!(null)];
    let numbers = [json!(rng.i32(-5..5)), json!([rng.i32(-5..5), rng.f32()]), json!("x"), json!(rng.f64())];
    let mut payload = json!({"tag": tags[rng.usize(..3)], "n": numbers[rng.usize(..4)]});
    if rng.u32(..6) == 0 {
        payload.as_object_mut().unwrap().remove("tag");
    }
    payload
}

pub(super) fn some_filter(rng: &mut Rng) -> Option<Filter> {
    let tag = ["a", "b", "c", "d"][rng.usize(..4)];
    let condition = json!({"key": "tag", "match": {"value": tag}});
    let range = json!({"key": "n", "range": {"gte": rng.i32(-5..3)}});
    match rng.u32(..6) {
        0 => Some(filter(json!({"must": condition}))),
        1 => Some(filter(json!({"must_not": condition}))),
        2 => Some(filter(json!({"should": [condition, range]}))),
        3 => Some(filter(json!({"min_should": {"conditions": [condition, range], "min_count": 1}}))),
        _ => None,
    }
}

/// A vector, or the id of a point that has one.
pub(super) fn target(rng: &mut Rng, memory: &Memory, name: &str) -> Target {
    let with: Vec<PointId> =
        memory.points.iter().filter(|point| point.vectors.contains_key(name)).map(|point| point.id).collect();
    if rng.bool() { Target::Id(with[rng.usize(..with.len())].into()) } else { vector(rng, name).into() }
}

fn targets(rng: &mut Rng, memory: &Memory, name: &str, counts: &[usize]) -> Vec<Target> {
    (0..counts[rng.usize(..counts.len())]).map(|_| target(rng, memory, name)).collect()
}

/// A query that compares vectors.
pub(super) fn comparing(rng: &mut Rng, memory: &Memory, name: &str) -> Query {
    let pairs = |rng: &mut Rng| -> Vec<ContextPair> {
        let pair = |rng: &mut Rng| ContextPair::new(target(rng, memory, name), target(rng, memory, name));
        (0..rng.usize(..4)).map(|_| pair(rng)).collect()
    };
    match rng.u32(..7) {
        0 | 1 => Query::nearest(target(rng, memory, name)),
        2 => Query::recommend(
            targets(rng, memory, name, &[1, 2, 4]),
            targets(rng, memory, name, &[0, 1, 2, 4]),
        ),
        3 => Query::Recommend {
            positive: targets(rng, memory, name, &[0, 1, 3]),
            negative: targets(rng, memory, name, &[1, 2]),
            strategy: if rng.bool() { Strategy::BestScore } else { Strategy::SumScores },
        },
        4 => Query::Discover { target: target(rng, memory, name), context: pairs(rng) },
        5 => Query::Context(pairs(rng)),
        _ => {
            let mut given =
                || FeedbackExample { example: target(rng, memory, name), score: rng.i32(0..8) as f32 / 4.0 };
            let feedback = vec![given(), given(), given()];
            let weights = FeedbackWeights { a: 0.5, b: [1.0, 2.0][rng.usize(..2)], c: 0.25 };
            Query::Feedback { target: target(rng, memory, name), feedback, weights }
        }
    }
}

/// A query that needs prefetches or lists points.
fn other(rng: &mut Rng, prefetches: usize) -> Option<Query> {
    let order = OrderBy {
        key: "n".parse().unwrap(),
        direction: if rng.bool() { Direction::Ascending } else { Direction::Descending },
        start_from: None,
    };
    match rng.u32(..4) {
        0 if prefetches > 0 => {
            let weights = rng.bool().then(|| (0..prefetches).map(|_| rng.i32(1..4) as f32 / 2.0).collect());
            Some(Query::Fusion(Fusion::Rrf { k: rng.usize(1..4), weights }))
        }
        1 if prefetches > 0 => Some(Query::formula(Expression::Sum(vec![
            Expression::Mult(vec![2.0.into(), Expression::Score(0)]),
            Expression::Score(1),
        ]))),
        2 | 3 if prefetches == 0 => None,
        _ => Some(Query::OrderBy(order)),
    }
}

pub(super) fn prefetch(rng: &mut Rng, memory: &Memory, depth: usize) -> Prefetch {
    let prefetches = if depth == 0 { 0 } else { rng.usize(..3) };
    let below = (0..prefetches).map(|_| prefetch(rng, memory, depth - 1)).collect();
    let name = NAMES[rng.usize(..3)];
    let compares = rng.u32(..3) > 0;
    let query = if compares { Some(comparing(rng, memory, name)) } else { other(rng, prefetches) };
    let scores = !matches!(query, None | Some(Query::OrderBy(_)));
    Prefetch {
        query,
        prefetch: below,
        using: if compares { name.to_owned() } else { String::new() },
        filter: some_filter(rng),
        score_threshold: (scores && rng.u32(..4) == 0).then(|| rng.i32(-8..8) as f32 / 2.0),
        limit: rng.usize(1..20),
        ..Prefetch::default()
    }
}

pub(super) fn request(rng: &mut Rng, memory: &Memory) -> QueryRequest {
    let depth = rng.usize(..4);
    let Prefetch { query, prefetch, using, filter, score_threshold, limit, .. } =
        prefetch(rng, memory, depth);
    let offset = rng.usize(..4);
    QueryRequest { query, prefetch, using, filter, score_threshold, limit, offset, ..QueryRequest::default() }
}
