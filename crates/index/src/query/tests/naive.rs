//! The query language once more, in the plainest way.

use std::collections::HashSet;

use cairn_ann::Metric;

use crate::OrderValue;
use crate::filter::Filter;
use crate::id::PointId;
use crate::query::{Direction, Fusion, Prefetch, Query, QueryRequest, Strategy, Target};
use crate::vector::{MultiVector, SparseVector, Vector};

use super::memory::{Memory, Stored};

/// Ids and scores, best first.
pub(super) fn answer(memory: &Memory, request: &QueryRequest) -> Vec<(PointId, f32)> {
    let root = Prefetch {
        query: request.query.clone(),
        prefetch: request.prefetch.clone(),
        using: request.using.clone(),
        filter: request.filter.clone(),
        score_threshold: request.score_threshold,
        limit: request.limit + request.offset,
        ..Prefetch::default()
    };
    let mut excluded = HashSet::new();
    examples(&root, &mut excluded);
    let found = node(memory, &root, &[], &excluded);
    found.into_iter().skip(request.offset).map(|(at, score)| (memory.points[at].id, score)).collect()
}

fn examples(node: &Prefetch, ids: &mut HashSet<PointId>) {
    let mut targets: Vec<&Target> = Vec::new();
    match &node.query {
        Some(Query::Nearest { target, .. }) => targets.push(target),
        Some(Query::Recommend { positive, negative, .. }) => targets.extend(positive.iter().chain(negative)),
        Some(Query::Discover { target, context }) => {
            targets.push(target);
            targets.extend(context.iter().flat_map(|pair| [&pair.positive, &pair.negative]));
        }
        Some(Query::Context(pairs)) => {
            targets.extend(pairs.iter().flat_map(|pair| [&pair.positive, &pair.negative]));
        }
        Some(Query::Feedback { target, feedback, .. }) => {
            targets.push(target);
            targets.extend(feedback.iter().map(|given| &given.example));
        }
        _ => {}
    }
    ids.extend(targets.into_iter().filter_map(|target| match target {
        Target::Id(written) => Some(written.id),
        Target::Vector(_) => None,
    }));
    node.prefetch.iter().for_each(|below| examples(below, ids));
}

fn node(
    memory: &Memory,
    node_: &Prefetch,
    above: &[&Filter],
    excluded: &HashSet<PointId>,
) -> Vec<(usize, f32)> {
    let mut filters = above.to_vec();
    filters.extend(node_.filter.as_ref());
    let lists: Vec<Vec<(usize, f32)>> =
        node_.prefetch.iter().map(|below| node(memory, below, &filters, excluded)).collect();
    let mut candidates: Vec<usize> = Vec::new();
    if node_.prefetch.is_empty() {
        candidates.extend((0..memory.points.len()).filter(|at| {
            let point = &memory.points[*at];
            !excluded.contains(&point.id)
                && filters.iter().all(|filter| filter.matches(point.id, &point.payload))
        }));
    } else {
        for (at, _) in lists.iter().flatten() {
            if !candidates.contains(at) {
                candidates.push(*at);
            }
        }
    }
    let mut found = match &node_.query {
        None => {
            candidates.sort_by_key(|at| memory.points[*at].id);
            candidates.into_iter().map(|at| (at, 1.0)).collect()
        }
        Some(Query::OrderBy(order)) => {
            let mut values: Vec<(OrderValue, PointId, usize)> = Vec::new();
            for at in candidates {
                for value in super::super::values::flat_values(&order.key, &memory.points[at].payload) {
                    if let Some(value) = super::super::values::order_value(value) {
                        values.push((value, memory.points[at].id, at));
                    }
                }
            }
            values.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            if order.direction == Direction::Descending {
                values.reverse();
            }
            values.into_iter().map(|(_, _, at)| (at, 1.0)).collect()
        }
        Some(Query::Fusion(Fusion::Rrf { k, weights })) => {
            let rank_score = |list: usize, at: usize| -> Vec<f32> {
                let weight = weights.as_ref().map_or(1.0, |weights| weights[list]);
                let ranks = lists[list].iter().enumerate().filter(|(_, (found, _))| *found == at);
                ranks.map(|(rank, _)| 1.0 / ((rank as f32 + 1.0) / weight + (*k as f32) - 1.0)).collect()
            };
            let sum = |at: usize| (0..lists.len()).flat_map(|list| rank_score(list, at)).sum::<f32>();
            let mut fused: Vec<_> = candidates.iter().map(|at| (*at, sum(*at))).collect();
            fused.retain(|(_, score)| node_.score_threshold.is_none_or(|bound| *score >= bound));
            fused.sort_by(|a, b| b.1.total_cmp(&a.1));
            fused
        }
        Some(Query::Formula(_)) => {
            let last = |list: usize, at: usize| {
                let mut scores = lists.get(list).map_or(&[][..], Vec::as_slice).iter().rev();
                scores.find(|(found, _)| *found == at).map_or(0.0, |(_, score)| f64::from(*score))
            };
            let value = |at: &usize| (*at, (2.0 * last(0, *at) + last(1, *at)) as f32);
            let mut scored: Vec<_> = candidates.iter().map(value).collect();
            scored.retain(|(_, score)| node_.score_threshold.is_none_or(|bound| *score >= bound));
            scored.sort_by(|a, b| b.1.total_cmp(&a.1));
            scored
        }
        Some(query) => compared(memory, node_, query, candidates),
    };
    found.truncate(node_.limit);
    found
}

fn compared(
    memory: &Memory,
    node: &Prefetch,
    query: &Query,
    mut candidates: Vec<usize>,
) -> Vec<(usize, f32)> {
    candidates.sort_unstable();
    let kind = memory.kinds[&node.using].1;
    let nearest = matches!(query, Query::Nearest { .. })
        || matches!(query, Query::Recommend { strategy: Strategy::AverageVector, .. });
    let mut scored = Vec::new();
    for at in candidates {
        let point = &memory.points[at];
        if point.vectors.contains_key(&node.using)
            && let Some(raw) = raw_score(memory, &node.using, query, point)
        {
            scored.push((at, raw));
        }
    }
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let smaller = nearest && !kind.sparse && kind.metric != Metric::Dot;
    let shown = |raw: f32| match kind.metric {
        Metric::Euclid if smaller => raw.abs().sqrt(),
        Metric::Manhattan if smaller => raw.abs(),
        _ => raw,
    };
    let scored = scored.into_iter().map(|(at, raw)| (at, shown(raw)));
    let good = |score: f32| {
        node.score_threshold.is_none_or(|bound| if smaller { score < bound } else { score > bound })
    };
    scored.filter(|(_, score)| good(*score)).collect()
}

fn raw_score(memory: &Memory, using: &str, query: &Query, point: &Stored) -> Option<f32> {
    let kind = memory.kinds[using].1;
    let stored = &point.vectors[using];
    let vector = |target: &Target| match target {
        Target::Vector(vector) => vector.clone(),
        Target::Id(written) => {
            memory.points.iter().find(|point| point.id == written.id).unwrap().vectors[using].clone()
        }
    };
    let sim = |target: &Target| similarity(kind.metric, &vector(target), stored).unwrap_or(0.0);
    let sig = |x: f32| 0.5 * (x / (1.0 + x.abs()) + 1.0);
    let max = |of: &[Target]| of.iter().map(sim).fold(f32::NEG_INFINITY, f32::max);
    Some(match query {
        Query::Nearest { target, .. } => similarity(kind.metric, &vector(target), stored)?,
        Query::Recommend { positive, negative, strategy: Strategy::AverageVector } => {
            let of = |of: &[Target]| of.iter().map(vector).collect::<Vec<_>>();
            similarity(kind.metric, &average(&of(positive), &of(negative)), stored)?
        }
        Query::Recommend { positive, negative, strategy: Strategy::BestScore } => {
            let (p, n) = (max(positive), max(negative));
            if p > n { sig(p) } else { -sig(n) }
        }
        Query::Recommend { positive, negative, .. } => {
            let sum = |of: &[Target]| of.iter().map(sim).fold(0.0, |sum, sim| sum + sim);
            sum(positive) - sum(negative)
        }
        Query::Discover { target, context } => {
            let mut rank = 0.0;
            for pair in context {
                let (p, n) = (sim(&pair.positive), sim(&pair.negative));
                rank += if p > n {
                    1.0
                } else if p < n {
                    -1.0
                } else {
                    0.0
                };
            }
            rank + sig(sim(target))
        }
        Query::Context(pairs) => {
            let mut sum = 0.0;
            for pair in pairs {
                let difference = sim(&pair.positive) - sim(&pair.negative) - f32::EPSILON;
                let loss = if difference < 0.0 { difference } else { 0.0 };
                sum += loss / (1.0 + loss.abs());
            }
            sum
        }
        Query::Feedback { target, feedback, weights } => {
            let mut score = weights.a * sim(target);
            for better in feedback {
                for worse in feedback.iter().filter(|worse| worse.score < better.score) {
                    let confidence = (better.score - worse.score).powf(weights.b);
                    score += confidence * weights.c * (sim(&better.example) - sim(&worse.example));
                }
            }
            score
        }
        _ => unreachable!("it compares vectors"),
    })
}

fn row_similarity(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        sum += match metric {
            Metric::Cosine | Metric::Dot => x * y,
            Metric::Euclid => -(x - y) * (x - y),
            Metric::Manhattan => -(x - y).abs(),
        };
    }
    sum
}

pub(super) fn similarity(metric: Metric, query: &Vector, stored: &Vector) -> Option<f32> {
    match (query, stored) {
        (Vector::Dense(a), Vector::Dense(b)) => Some(row_similarity(metric, a, b)),
        (Vector::Multi(a), Vector::Multi(b)) => Some(
            a.rows()
                .map(|x| b.rows().map(|y| row_similarity(metric, x, y)).fold(f32::NEG_INFINITY, f32::max))
                .sum(),
        ),
        (Vector::Sparse(a), Vector::Sparse(b)) => {
            let shared: Vec<f32> = a
                .entries()
                .flat_map(|(i, x)| b.entries().filter(move |(j, _)| i == *j).map(move |(_, y)| x * y))
                .collect();
            (!shared.is_empty()).then(|| shared.iter().fold(0.0, |sum, x| sum + x))
        }
        _ => panic!("vectors of one name are of one kind"),
    }
}

fn average(positive: &[Vector], negative: &[Vector]) -> Vector {
    let wide = |vector: &Vector| match vector {
        Vector::Dense(values) => values.clone(),
        Vector::Sparse(sparse) => {
            (0..8).map(|i| sparse.entries().find(|(j, _)| i == *j).map_or(0.0, |(_, x)| x)).collect()
        }
        Vector::Multi(_) => unreachable!("rows are not averaged"),
    };
    let mean = |of: &[Vector]| -> Vec<f32> {
        let wide: Vec<Vec<f32>> = of.iter().map(wide).collect();
        let length = wide.first().map_or(0, Vec::len);
        (0..length).map(|i| wide.iter().map(|v| v[i]).sum::<f32>() / of.len() as f32).collect()
    };
    if let Vector::Multi(_) = positive[0] {
        let rows = |of: &[Vector], sign: f32| -> Vec<Vec<f32>> {
            let rows = of.iter().flat_map(|v| v.as_multi().unwrap().rows());
            rows.map(|row| row.iter().map(|x| sign * x).collect()).collect()
        };
        let all = [rows(positive, 1.0), rows(negative, -1.0)].concat();
        return MultiVector::from_rows(&all).unwrap().into();
    }
    let (p, n) = (mean(positive), mean(negative));
    let both = |i: usize| n.get(i).map_or(p[i], |n| 2.0 * p[i] - n);
    let values: Vec<f32> = (0..p.len()).map(both).collect();
    let Vector::Sparse(_) = positive[0] else { return values.into() };
    // A position of any example is a position of the average, if only of 0.
    let used = |i: u32| {
        let mut examples = positive.iter().chain(negative).map(|v| v.as_sparse().unwrap());
        examples.any(|sparse| sparse.indices().contains(&i))
    };
    SparseVector::new((0..8).filter(|i| used(*i)).map(|i| (i, values[i as usize]))).unwrap().into()
}
