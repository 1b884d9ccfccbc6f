//! Scores of single searches: metrics, strategies and diversity.

use serde_json::json;

use cairn_ann::Metric;

use crate::query::source::{Source, VectorKind};
use crate::query::{
    ContextPair, FeedbackExample, FeedbackWeights, Mmr, Query, QueryRequest, Strategy, Target,
};
use crate::vector::{MultiVector, SparseVector, Vector, Vectors};

use super::memory::{Memory, kind};
use super::{ask, naive, nums, random, scores};

#[test]
fn each_metric_shows_its_own_score() {
    for (metric, want) in [
        (Metric::Cosine, [1.0, 0.6]),
        (Metric::Dot, [5.0, 1.5]),
        (Metric::Euclid, [0.5, 4.0]),
        (Metric::Manhattan, [0.5, 4.0]),
    ] {
        let far = if metric == Metric::Cosine { [3.0, 4.0] } else { [1.5, 4.0] };
        let near = if metric == Metric::Dot { [5.0, 0.0] } else { [1.5, 0.0] };
        let memory = Memory::new(2, metric).with(1, &far, json!({})).with(2, &near, json!({}));
        let query =
            if metric == Metric::Euclid || metric == Metric::Manhattan { [1.5, 0.5] } else { [1.0, 0.0] };
        let hits = ask(&memory, &QueryRequest::new(Query::nearest(query.to_vec())));
        let want = if query[1] > 0.0 { [0.5, 3.5] } else { want };
        assert_eq!((nums(&hits), scores(&hits)), (vec![2, 1], want.to_vec()), "{metric:?}");
    }
}

#[test]
fn a_euclidean_multi_vector_sums_squares_before_the_root() {
    let mut memory = Memory::new(1, Metric::Euclid);
    memory.kinds.insert("rows".into(), (1, VectorKind { multi: true, ..kind(Metric::Euclid) }));
    let rows = |values: &[f32]| Vector::from(MultiVector::new(1, values.to_vec()).unwrap());
    memory.push(1.into(), Vectors::from([("rows".into(), rows(&[0.0, 10.0]))]), json!({}));
    memory.push(2.into(), Vectors::from([("rows".into(), rows(&[3.0, 6.0]))]), json!({}));
    let hits = ask(&memory, &QueryRequest::new(Query::nearest(rows(&[0.0, 6.0]))).using("rows"));
    assert_eq!((nums(&hits), scores(&hits)), (vec![2, 1], vec![3.0, 4.0]));
    // One dense vector is one row.
    let hits = ask(&memory, &QueryRequest::new(Query::nearest(vec![3.0])).using("rows"));
    assert_eq!(scores(&hits), [0.0, 3.0]);
}

#[test]
fn averages_are_of_the_examples_as_given() {
    let memory =
        Memory::new(2, Metric::Cosine).with(1, &[1.0, 0.0], json!({})).with(2, &[0.0, 1.0], json!({}));
    let long = Target::from(vec![3.0, 0.0]);
    let request = QueryRequest::new(Query::recommend(vec![long, vec![0.0, 1.0].into()], vec![]));
    let hits = ask(&memory, &request);
    // The average is (1.5, 0.5): the longer example weighs more.
    assert!((hits[0].score - 3.0 / 10f32.sqrt()).abs() < 1e-6, "{}", hits[0].score);
}

#[test]
fn examples_that_lack_the_vector_are_left_out_of_recommendations() {
    let mut memory = Memory::new(1, Metric::Dot).with(1, &[2.0], json!({})).with(2, &[3.0], json!({}));
    memory.push(3.into(), Vectors::new(), json!({}));
    for strategy in [Strategy::AverageVector, Strategy::BestScore, Strategy::SumScores] {
        let query =
            Query::Recommend { positive: vec![1.into(), 3.into()], negative: vec![3.into()], strategy };
        let hits = ask(&memory, &QueryRequest::new(query));
        let want = if strategy == Strategy::BestScore { 0.5 * (6.0 / 7.0 + 1.0) } else { 6.0 };
        assert_eq!((nums(&hits), scores(&hits)), (vec![2], vec![want]), "{strategy:?}");
    }
}

#[test]
fn strategies_discovery_context_and_feedback_follow_their_formulas() {
    let memory = Memory::new(1, Metric::Dot).with(7, &[2.0], json!({}));
    let score = |query: Query| scores(&ask(&memory, &QueryRequest::new(query)))[0];
    let at = |x: f32| Target::from(vec![x]);
    let recommend = |positive: &[f32], negative: &[f32], strategy| {
        let all = |of: &[f32]| of.iter().map(|x| at(*x)).collect();
        score(Query::Recommend { positive: all(positive), negative: all(negative), strategy })
    };
    assert_eq!(recommend(&[1.0, 2.0], &[0.5], Strategy::BestScore), 0.5 * (4.0 / 5.0 + 1.0));
    assert_eq!(recommend(&[1.0], &[2.0], Strategy::BestScore), -0.5 * (4.0 / 5.0 + 1.0));
    assert_eq!(recommend(&[], &[-1.0], Strategy::BestScore), -0.5 * (-2.0 / 3.0 + 1.0));
    assert_eq!(recommend(&[1.0, 2.0], &[0.5], Strategy::SumScores), 5.0);
    assert_eq!(recommend(&[1.0, 2.0], &[0.5], Strategy::AverageVector), 5.0);

    let pairs = |pairs: &[(f32, f32)]| -> Vec<ContextPair> {
        pairs.iter().map(|(p, n)| ContextPair::new(at(*p), at(*n))).collect()
    };
    let context = pairs(&[(1.0, 0.0), (0.0, 1.0), (3.0, 1.0), (1.0, 1.0)]);
    let discovered = score(Query::Discover { target: at(1.0), context: context.clone() });
    assert_eq!(discovered, 1.0 + 0.5 * (2.0 / 3.0 + 1.0));
    let wrong = -2.0 - f32::EPSILON;
    let (tie, off) = (-f32::EPSILON / (1.0 + f32::EPSILON), wrong / (1.0 + wrong.abs()));
    assert_eq!(score(Query::Context(context)), off + tie);
    assert_eq!(score(Query::Context(pairs(&[(1.0, 0.0)]))), 0.0);

    let given = |x: f32, score: f32| FeedbackExample { example: at(x), score };
    let weights = FeedbackWeights { a: 0.5, b: 2.0, c: 3.0 };
    let feedback = vec![given(1.0, 0.5), given(3.0, 1.0), given(2.0, 1.0)];
    // Both better ones against the worse one, and not against each other.
    let want = 0.5 * 2.0 + 0.25 * 3.0 * (6.0 - 2.0) + 0.25 * 3.0 * (4.0 - 2.0);
    assert_eq!(score(Query::Feedback { target: at(1.0), feedback, weights }), want);
}

#[test]
fn sparse_points_without_a_shared_position_are_found_only_by_examples() {
    let mut memory = Memory::new(1, Metric::Dot);
    memory.kinds.insert("words".into(), (0, VectorKind { sparse: true, ..kind(Metric::Dot) }));
    let sparse = |entries: &[(u32, f32)]| Vector::from(SparseVector::new(entries.iter().copied()).unwrap());
    memory.push(1.into(), Vectors::from([("words".into(), sparse(&[(1, 1.0)]))]), json!({}));
    memory.push(2.into(), Vectors::from([("words".into(), sparse(&[(2, 1.0)]))]), json!({}));
    let target = Target::from(sparse(&[(1, 2.0)]));
    let near = QueryRequest::new(Query::nearest(target.clone())).using("words");
    assert_eq!(scores(&ask(&memory, &near)), [2.0]);
    let query = Query::Recommend { positive: vec![target], negative: vec![], strategy: Strategy::SumScores };
    assert_eq!(scores(&ask(&memory, &QueryRequest::new(query).using("words"))), [2.0, 0.0]);
}

#[test]
fn diversity_skips_a_double_and_keeps_the_scores() {
    let memory = Memory::new(2, Metric::Dot)
        .with(1, &[4.0, 0.0], json!({}))
        .with(2, &[4.0, 0.0], json!({}))
        .with(3, &[3.0, 3.0], json!({}));
    let ask = |mmr| {
        let hits = ask(&memory, &QueryRequest::new(Query::diverse(vec![1.0, 0.0], mmr)));
        (nums(&hits), scores(&hits))
    };
    // After 1: 2 is worth 0.5 * 4 - 0.5 * 16, and 3 is worth 0.5 * 3 - 0.5 * 12.
    assert_eq!(ask(Mmr::default()), (vec![1, 3, 2], vec![4.0, 3.0, 4.0]));
    assert_eq!(ask(Mmr { diversity: 0.0, candidates_limit: None }).0, [1, 2, 3]);
    assert_eq!(ask(Mmr { diversity: 0.5, candidates_limit: Some(2) }).0, [1, 2]);
}

#[test]
fn random_diverse_answers_are_greedy_at_every_step() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let name = random::NAMES[rng.usize(..3)];
        let (metric, query) = (memory.kinds[name].1.metric, random::vector(&mut rng, name));
        let mmr = Mmr { diversity: rng.i32(0..=4) as f32 / 4.0, candidates_limit: Some(rng.usize(1..20)) };
        let request =
            QueryRequest::new(Query::diverse(query.clone(), mmr)).using(name).limit(rng.usize(1..12));
        let hits = ask(&memory, &request);

        let nearest = QueryRequest::new(Query::nearest(query.clone())).using(name);
        let candidates = ask(&memory, &nearest.limit(mmr.candidates_limit.unwrap()));
        let stored = |id| &memory.at(memory.resolve(id).unwrap()).vectors[name];
        let sim = |a: &Vector, id| naive::similarity(metric, a, stored(id)).unwrap_or(0.0);
        let mut left: Vec<_> = candidates.iter().map(|hit| hit.id).collect();
        let mut taken = Vec::new();
        while !left.is_empty() && taken.len() < request.limit {
            let worth = |id| {
                let relevance = sim(&query, id);
                let near = taken.iter().map(|other| sim(stored(id), *other)).reduce(f32::max);
                near.map_or(relevance, |near| (1.0 - mmr.diversity) * relevance - mmr.diversity * near)
            };
            // The last of the largest, counted from the end, is the first.
            let best = left.iter().copied().rev().max_by(|a, b| worth(*a).total_cmp(&worth(*b))).unwrap();
            left.retain(|id| *id != best);
            taken.push(best);
        }
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), taken, "seed {seed}: {request:?}");
        for hit in &hits {
            assert_eq!(Some(hit.score), candidates.iter().find(|c| c.id == hit.id).map(|c| c.score));
        }
    }
}

#[test]
fn random_cosines_are_those_of_the_vectors_as_given() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dim = rng.usize(1..40);
        let mut draw = || (0..dim).map(|_| rng.f32() * 20.0 - 10.0).collect::<Vec<f32>>();
        let (query, stored) = (draw(), (0..30).map(|_| draw()).collect::<Vec<_>>());
        let memory = (0..).zip(&stored).fold(Memory::new(dim, Metric::Cosine), |memory, (id, vector)| {
            memory.with(id, vector, json!({}))
        });
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let mut want: Vec<f64> = stored.iter().map(|vector| cosine(&query, vector)).collect();
        let hits = ask(&memory, &QueryRequest::new(Query::nearest(query.clone())).limit(12).offset(3));
        for (id, score) in nums(&hits).into_iter().zip(scores(&hits)) {
            assert!((f64::from(score) - want[id as usize]).abs() < 1e-5, "seed {seed}: {id} {score}");
        }
        want.sort_by(|a, b| b.total_cmp(a));
        for (score, want) in scores(&hits).into_iter().zip(&want[3..]) {
            assert!((f64::from(score) - want).abs() < 1e-5, "seed {seed}: {score}, want {want}");
        }
        assert_eq!(hits.len(), 12);
    }
}
