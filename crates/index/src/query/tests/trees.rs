//! Whole trees: what goes down, what comes up, and who is left out.

use serde_json::json;

use cairn_ann::Metric;

use crate::point::{Parts, Selector};
use crate::query::{LookupFrom, Measured, Prefetch, Query, QueryRequest, SearchParams};
use crate::{Filter, OrderValue};

use super::memory::Memory;
use super::{ask, filter, ids, naive, nums, random, scores, tagged};

#[test]
fn random_trees_answer_as_the_plainest_code_does() {
    let mut hits_seen = 0;
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        for _ in 0..20 {
            let request = random::request(&mut rng, &memory);
            let hits = ask(&memory, &request);
            let found: Vec<_> = hits.iter().map(|hit| (hit.id, hit.score)).collect();
            assert_eq!(found, naive::answer(&memory, &request), "seed {seed}: {request:#?}");
            hits_seen += hits.len();
        }
    }
    assert!(hits_seen > 3000, "random requests should find something, not {hits_seen}");
}

fn line() -> Memory {
    (1..=9).fold(Memory::new(1, Metric::Dot), |memory, id| {
        let tag = if id % 2 == 0 { "even" } else { "odd" };
        memory.with(id, &[id as f32], json!({"tag": tag, "n": id}))
    })
}

#[test]
fn without_a_query_points_come_in_order_of_id_with_score_one() {
    let memory = Memory::new(1, Metric::Dot).with(3, &[1.0], json!({})).with(1, &[2.0], json!({}));
    let hits = ask(&memory, &QueryRequest::default());
    assert_eq!((nums(&hits), scores(&hits)), (vec![1, 3], vec![1.0, 1.0]));
    assert_eq!(hits[0].version, 0);
    assert_eq!(nums(&ask(&memory, &QueryRequest::default().offset(1))), [3]);
}

#[test]
fn prefetches_have_their_own_limit_and_the_root_scores_only_what_they_found() {
    let request = QueryRequest::new(Query::nearest(vec![-1.0]))
        .prefetch(Prefetch::new(Query::nearest(vec![1.0])).limit(3))
        .limit(10);
    assert_eq!(nums(&ask(&line(), &request)), [7, 8, 9]);
    assert_eq!(nums(&ask(&line(), &request.offset(2))), [9]);
}

#[test]
fn filters_of_every_level_reach_the_leaves() {
    let leaf = Prefetch::new(Query::nearest(vec![1.0]))
        .filter(filter(json!({"must": {"key": "n", "range": {"lt": 9}}})))
        .limit(2);
    let middle = Prefetch::new(Query::nearest(vec![1.0]))
        .filter(filter(json!({"should": {"key": "n", "range": {"lt": 7}}})))
        .prefetch(leaf);
    let request = QueryRequest::new(Query::nearest(vec![1.0])).filter(tagged("odd")).prefetch(middle);
    assert_eq!(nums(&ask(&line(), &request)), [5, 3]);
}

#[test]
fn points_given_as_examples_anywhere_are_not_hits() {
    let request = QueryRequest::new(Query::nearest(vec![1.0]))
        .prefetch(Prefetch::new(Query::nearest(9)).limit(3))
        .limit(3);
    assert_eq!(nums(&ask(&line(), &request)), [8, 7, 6]);
    let own = QueryRequest::new(Query::recommend(vec![9u64.into(), 7u64.into()], vec![1u64.into()])).limit(2);
    assert_eq!(nums(&ask(&line(), &own)), [8, 6]);
}

#[test]
fn examples_from_another_collection_do_not_hide_points_of_this_one() {
    let mut memory = line();
    let mut other = Memory::new(1, Metric::Dot).with(9, &[-1.0], json!({}));
    other.name = "other".into();
    memory.others.push(other);
    let from = |collection: &str| LookupFrom { collection: collection.into(), vector: None };
    let request = QueryRequest::new(Query::nearest(9)).limit(2);
    assert_eq!(nums(&ask(&memory, &request.clone().lookup_from(from("other")))), [1, 2]);
    assert_eq!(nums(&ask(&memory, &request.limit(9).lookup_from(from("memory")))), [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn thresholds_are_strict_for_searches_and_inclusive_for_what_is_computed() {
    let near = QueryRequest::new(Query::nearest(vec![1.0]));
    assert_eq!(nums(&ask(&line(), &near.score_threshold(8.0))), [9]);
    let fused = QueryRequest::new(Query::rrf())
        .prefetch(Prefetch::new(Query::nearest(vec![1.0])))
        .score_threshold(1.0 / 3.0);
    assert_eq!(nums(&ask(&line(), &fused)), [9, 8]);
    let formula = QueryRequest::new(Query::formula(crate::Expression::Score(0)))
        .prefetch(Prefetch::new(Query::nearest(vec![1.0])))
        .score_threshold(8.0);
    assert_eq!(nums(&ask(&line(), &formula)), [9, 8]);

    let mut memory = Memory::new(1, Metric::Euclid);
    for id in 1..=4 {
        memory = memory.with(id, &[id as f32], json!({}));
    }
    let below = QueryRequest::new(Query::nearest(vec![0.0])).score_threshold(2.0);
    let hits = ask(&memory, &below);
    assert_eq!((nums(&hits), scores(&hits)), (vec![1], vec![1.0]));
}

#[test]
fn ordered_points_carry_their_value_and_come_once_per_value() {
    let memory = Memory::new(1, Metric::Dot)
        .with(1, &[1.0], json!({"n": [3, 1]}))
        .with(2, &[1.0], json!({"n": 2}))
        .with(3, &[1.0], json!({"n": "2020-01-01"}))
        .with(4, &[1.0], json!({}));
    let hits = ask(&memory, &QueryRequest::new(Query::order_by("n".parse().unwrap())));
    assert_eq!(nums(&hits), [1, 2, 1, 3]);
    let values: Vec<_> = hits.iter().map(|hit| hit.order_value.unwrap()).collect();
    let want = [1, 2, 3, 1_577_836_800_000_000].map(OrderValue::Int);
    assert_eq!((values.as_slice(), scores(&hits)), (&want[..], vec![1.0; 4]));

    let Query::OrderBy(mut order) = Query::order_by("n".parse().unwrap()) else { unreachable!() };
    order.direction = crate::Direction::Descending;
    order.start_from = Some(OrderValue::Float(2.5));
    assert_eq!(nums(&ask(&memory, &QueryRequest::new(Query::OrderBy(order)))), [2, 1]);
}

#[test]
fn a_sample_is_random_without_repetition_and_the_same_for_the_same_state() {
    let (memory, mut seen) = (line(), std::collections::BTreeMap::<u64, usize>::new());
    let request = QueryRequest::new(Query::Sample).filter(tagged("odd")).limit(2).offset(5);
    for seed in 0..1000 {
        let sampled = || super::run(&memory, &request, &mut fastrand::Rng::with_seed(seed)).unwrap();
        let hits = sampled();
        assert_eq!(hits, sampled());
        assert_eq!((hits.len(), scores(&hits)), (2, vec![1.0; 2]), "the offset is ignored");
        assert_ne!(hits[0].id, hits[1].id);
        nums(&hits).into_iter().for_each(|id| *seen.entry(id).or_default() += 1);
    }
    // Each of the five is expected 400 times; 300 is over six deviations off.
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    assert!(seen.values().all(|count| (300..500).contains(count)), "{seen:?}");

    let among = QueryRequest::new(Query::Sample).prefetch(Prefetch::new(Query::nearest(vec![1.0])).limit(2));
    let mut two = nums(&ask(&memory, &among));
    two.sort_unstable();
    assert_eq!(two, [8, 9]);
}

#[test]
fn hits_carry_the_parts_asked_for() {
    let memory = line();
    let request = QueryRequest::new(Query::nearest(vec![1.0])).limit(1);
    let bare = &ask(&memory, &request)[0];
    assert_eq!((bare.payload.as_ref(), bare.vectors.as_ref(), bare.version), (None, None, 108));
    let parts = Parts { payload: Selector::Only(vec!["n".into()]), vectors: Selector::All };
    let hits = ask(&memory, &request.with(parts));
    assert_eq!(hits[0].payload.clone().map(serde_json::Value::Object), Some(json!({"n": 9})));
    assert_eq!(hits[0].vectors.as_ref().unwrap()[""].as_dense(), Some(&[9.0][..]));
    assert_eq!(ids(&hits), [9.into()]);
}

#[test]
fn a_search_is_made_the_way_it_was_asked_for() {
    let memory = line();
    for query in [Query::nearest(vec![1.0]), Query::Context(vec![])] {
        let params = SearchParams {
            ef: Some(77),
            recall: Some(0.9),
            exact: true,
            indexed_only: true,
            ef_limit: Some(100),
            oversampling: Some(2.0),
            measured: Measured::Codes,
            idf_corpus: Some(Filter::default()),
        };
        ask(&memory, &QueryRequest { params: params.clone(), ..QueryRequest::new(query) });
        assert_eq!(memory.asked.lock().clone(), params);
        ask(&memory, &QueryRequest::new(Query::nearest(vec![1.0])));
        assert_eq!(memory.asked.lock().clone(), SearchParams::default());
    }
}
