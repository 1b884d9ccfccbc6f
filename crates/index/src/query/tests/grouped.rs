//! Groups, facets and matrices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use cairn_ann::Metric;

use crate::FacetValue;
use crate::query::facet::run_facet;
use crate::query::groups::run_groups;
use crate::query::matrix::run_matrix;
use crate::query::source::Source;
use crate::query::{
    FacetRequest, Group, GroupId, GroupRequest, MatrixRequest, Prefetch, Query, QueryRequest, WithLookup,
};

use super::memory::Memory;
use super::{ask, ids, naive, nums, random, scores, tagged};

fn groups(memory: &Memory, request: &GroupRequest) -> Vec<Group> {
    run_groups(memory, request, &mut fastrand::Rng::with_seed(1)).unwrap()
}

fn by(request: QueryRequest, key: &str) -> GroupRequest {
    GroupRequest::new(request, key.parse().unwrap())
}

fn keyword(text: &str) -> GroupId {
    GroupId::Keyword(text.to_owned())
}

#[test]
fn groups_come_by_their_best_hit_and_a_point_is_in_each_of_its_groups_once() {
    let memory = Memory::new(1, Metric::Dot)
        .with(1, &[1.0], json!({"k": "a"}))
        .with(2, &[2.0], json!({"k": ["a", "b", "a"]}))
        .with(3, &[3.0], json!({"k": 7}))
        .with(4, &[4.0], json!({"k": -7}))
        .with(5, &[5.0], json!({"k": 1.5}))
        .with(6, &[6.0], json!({}))
        .with(7, &[7.0], json!({"k": ["a", true]}))
        .with(8, &[0.5], json!({"k": "a"}));
    let mut request = by(QueryRequest::new(Query::nearest(vec![1.0])), "k");
    request.group_size = 2;
    let found: Vec<_> =
        groups(&memory, &request).into_iter().map(|group| (group.id, nums(&group.hits))).collect();
    let want = [
        (GroupId::Signed(-7), vec![4]),
        (GroupId::Unsigned(7), vec![3]),
        (keyword("a"), vec![2, 1]),
        (keyword("b"), vec![2]),
    ];
    assert_eq!(found, want);
}

#[test]
fn distances_group_nearest_first() {
    let memory = (1..=6).fold(Memory::new(1, Metric::Euclid), |memory, id| {
        memory.with(id, &[id as f32], json!({"k": id % 2}))
    });
    let found = groups(&memory, &by(QueryRequest::new(Query::nearest(vec![0.0])).limit(1), "k"));
    assert_eq!((found.len(), nums(&found[0].hits)), (1, vec![1, 3, 5]));
}

#[test]
fn further_searches_fill_groups_that_one_would_leave_short() {
    // The best 90 points are all of one group; the first search sees only six.
    let memory = (1..=100).fold(Memory::new(1, Metric::Dot), |memory, id| {
        let key = if id > 10 { "big" } else { "small" };
        memory.with(id, &[id as f32], json!({"k": key}))
    });
    let found = groups(&memory, &by(QueryRequest::new(Query::nearest(vec![1.0])).limit(2), "k"));
    assert_eq!(found.iter().map(|group| nums(&group.hits)).collect::<Vec<_>>(), [[100, 99, 98], [10, 9, 8]]);
    // Ranks of a second search would not compare with those of the first.
    let fused = QueryRequest::new(Query::rrf()).prefetch(Prefetch::new(Query::nearest(vec![1.0])).limit(1));
    assert_eq!(nums(&groups(&memory, &by(fused, "k"))[0].hits), [100, 99, 98]);
}

#[test]
fn groups_can_bring_the_point_they_are_named_after() {
    let uuid = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    let mut other = Memory::new(1, Metric::Dot).with(7, &[1.0], json!({"title": "seven", "x": 1}));
    other.push(uuid.parse().unwrap(), crate::vector::Vectors::new(), json!({"title": "long"}));
    other.name = "documents".into();
    let mut memory = Memory::new(1, Metric::Dot)
        .with(1, &[3.0], json!({"k": 7}))
        .with(2, &[2.0], json!({"k": uuid.to_uppercase()}))
        .with(3, &[1.0], json!({"k": "gone"}));
    memory.others.push(other);
    let mut request = by(QueryRequest::new(Query::nearest(vec![1.0])), "k");
    request.with_lookup = Some(WithLookup::new("documents"));
    let found = groups(&memory, &request);
    let title = |group: &Group| Some(group.lookup.as_ref()?.payload.as_ref()?["title"].clone());
    assert_eq!(
        found.iter().map(title).collect::<Vec<_>>(),
        [Some(json!("seven")), Some(json!("long")), None]
    );
    assert_eq!(found[0].lookup.as_ref().unwrap().vectors, None);
}

#[test]
fn random_groups_are_those_of_the_whole_ranking() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let query = random::comparing(&mut rng, &memory, "");
        let mut inner = QueryRequest::new(query).limit(1000);
        inner.filter = random::some_filter(&mut rng);
        let mut want: Vec<(Value, Vec<u64>)> = Vec::new();
        let (limit, size) = (rng.usize(1..5), rng.usize(1..4));
        for (id, _) in naive::answer(&memory, &inner) {
            let payload = &memory.at(memory.resolve(id).unwrap()).payload;
            let tags = match payload.get("tag") {
                Some(Value::Array(tags)) => tags.clone(),
                Some(Value::String(tag)) => vec![json!(tag)],
                _ => continue,
            };
            let crate::PointId::Num(id) = id else { unreachable!() };
            for tag in tags {
                if !want.iter().any(|(have, _)| *have == tag) {
                    want.push((tag.clone(), Vec::new()));
                }
                let (_, members) = want.iter_mut().find(|(have, _)| *have == tag).unwrap();
                if members.len() < size && !members.contains(&id) {
                    members.push(id);
                }
            }
        }
        want.truncate(limit);
        let mut request = by(inner.limit(limit), "tag");
        request.group_size = size;
        let found = groups(&memory, &request);
        let found: Vec<_> = found
            .into_iter()
            .map(|group| match group.id {
                GroupId::Keyword(tag) => (json!(tag), nums(&group.hits)),
                _ => unreachable!("tags are strings"),
            })
            .collect();
        assert_eq!(found, want, "seed {seed}: {request:?}");
    }
}

#[test]
fn random_facets_count_points_and_not_values() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let filter = random::some_filter(&mut rng);
        for key in ["tag", "n"] {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for point in &memory.points {
                if filter.as_ref().is_some_and(|filter| !filter.matches(point.id, &point.payload)) {
                    continue;
                }
                let value = point.payload.get(key).cloned().unwrap_or_default();
                let values = value.as_array().cloned().unwrap_or_else(|| vec![value]);
                let countable = values.iter().filter(|value| value.is_string() || value.is_i64());
                for value in countable.map(Value::to_string).collect::<BTreeSet<_>>() {
                    *counts.entry(value).or_default() += 1;
                }
            }
            let limit = rng.usize(1..8);
            let request =
                FacetRequest { filter: filter.clone(), limit, ..FacetRequest::new(key.parse().unwrap()) };
            let hits = run_facet(&memory, &request).unwrap();
            assert_eq!(hits.len(), limit.min(counts.len()));
            assert!(hits.is_sorted_by_key(|hit| (std::cmp::Reverse(hit.count), hit.value.clone())));
            let mut best: Vec<usize> = counts.values().copied().collect();
            best.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(hits.iter().map(|hit| hit.count).collect::<Vec<_>>(), best[..hits.len()]);
            for hit in hits {
                let text = match &hit.value {
                    FacetValue::Keyword(text) => json!(text).to_string(),
                    FacetValue::Integer(number) => number.to_string(),
                    FacetValue::Bool(value) => value.to_string(),
                };
                assert_eq!(counts[&text], hit.count, "seed {seed}");
            }
        }
    }
}

#[test]
fn random_matrices_hold_the_nearest_within_the_sample() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let using = random::NAMES[rng.usize(..2)].to_owned();
        let request = MatrixRequest {
            filter: rng.bool().then(|| tagged("a")),
            sample: rng.usize(1..12),
            limit: rng.usize(1..5),
            using: using.clone(),
        };
        let matrix = run_matrix(&memory, &request, &mut rng).unwrap();
        let possible = memory.points.iter().filter(|point| {
            point.vectors.contains_key(&using)
                && request.filter.as_ref().is_none_or(|filter| filter.matches(point.id, &point.payload))
        });
        let possible: Vec<_> = possible.map(|point| point.id).collect();
        let sampled = request.sample.min(possible.len());
        assert_eq!(matrix.ids.len(), if sampled < 2 { 0 } else { sampled });
        assert!(matrix.ids.is_sorted() && matrix.ids.iter().all(|id| possible.contains(id)));
        for (row, id) in matrix.ids.iter().enumerate() {
            let within = json!({"must": {"has_id": matrix.ids}, "must_not": {"has_id": [id]}});
            let alone = QueryRequest::new(Query::nearest(*id)).using(&using).filter(super::filter(within));
            let want = ask(&memory, &alone.limit(request.limit));
            let near: Vec<f32> = matrix.rows[row].iter().map(|(_, score)| *score).collect();
            assert_eq!(near, scores(&want), "seed {seed}");
        }
        let (pairs, offsets) = (matrix.pairs(), matrix.offsets());
        assert_eq!(pairs.iter().map(|pair| pair.score).collect::<Vec<_>>(), offsets.scores);
        for (at, pair) in pairs.iter().enumerate() {
            assert_ne!(pair.a, pair.b);
            assert_eq!(pair.a, offsets.ids[offsets.offsets_row[at] as usize]);
            assert_eq!(pair.b, offsets.ids[offsets.offsets_col[at] as usize]);
        }
    }
}

#[test]
fn grouped_hits_are_hits_of_the_query() {
    let memory = (1..=6)
        .fold(Memory::new(1, Metric::Dot), |memory, id| memory.with(id, &[id as f32], json!({"k": id % 3})));
    let request = QueryRequest::new(Query::nearest(6)).with(crate::Parts::payload());
    let hits: Vec<_> =
        groups(&memory, &by(request.clone(), "k")).into_iter().flat_map(|group| group.hits).collect();
    let all = ask(&memory, &request);
    assert_eq!(hits.len(), 5);
    assert!(hits.iter().all(|hit| all.contains(hit)), "{:?} in {:?}", ids(&hits), ids(&all));
}
