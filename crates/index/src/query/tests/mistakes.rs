//! What is refused, and in which words.

use serde_json::json;

use cairn_ann::Metric;

use crate::error::Error;
use crate::point::{Parts, Selector};
use crate::query::facet::run_facet;
use crate::query::groups::run_groups;
use crate::query::matrix::run_matrix;
use crate::query::{
    Expression, FacetRequest, FeedbackExample, FeedbackWeights, Fusion, GroupRequest, LookupFrom,
    MatrixRequest, Mmr, Prefetch, Query, QueryRequest, Strategy, WithLookup,
};
use crate::vector::{SparseVector, Vectors};

use super::memory::Memory;
use super::mistake;

fn memory() -> Memory {
    let mut memory = Memory::new(2, Metric::Dot).with(1, &[1.0, 0.0], json!({"k": "a"}));
    memory.push(2.into(), Vectors::new(), json!({}));
    memory.unindexed.push("loose".into());
    memory
}

fn near() -> Query {
    Query::nearest(vec![1.0, 0.0])
}

#[test]
fn trees_without_a_meaning_are_refused_in_the_words_clients_look_for() {
    let rrf = |k, weights| Query::Fusion(Fusion::Rrf { k, weights });
    let below = |query: Query| QueryRequest::new(query).prefetch(Prefetch::new(near()));
    let ordered = || Query::order_by("n".parse().unwrap());
    let feedback = |b, scores: &[f32]| Query::Feedback {
        target: 1.into(),
        feedback: scores.iter().map(|score| FeedbackExample { example: 1.into(), score: *score }).collect(),
        weights: FeedbackWeights { a: 1.0, b, c: 1.0 },
    };
    let recommend = |strategy| Query::Recommend { positive: vec![], negative: vec![], strategy };
    let deep = (0..70).fold(Prefetch::new(near()), |inner, _| Prefetch::new(near()).prefetch(inner));
    for (request, text) in [
        (
            QueryRequest::default().prefetch(Prefetch::new(near())),
            "A query is needed to merge the prefetches. Can't have prefetches without defining a query.",
        ),
        (
            QueryRequest::new(Query::rrf()).prefetch(Prefetch::default().prefetch(Prefetch::new(near()))),
            "A query is needed to merge the prefetches. Can't have prefetches without defining a query.",
        ),
        (
            QueryRequest::default().score_threshold(1.0),
            "A query is needed to use the score_threshold. Can't have score_threshold without defining a query.",
        ),
        (
            QueryRequest::new(ordered()).score_threshold(1.0),
            "Can't use score_threshold with an order_by query.",
        ),
        (below(Query::rrf()).using("x"), "Fusion queries cannot be combined with the 'using' field."),
        (QueryRequest::new(Query::rrf()), "cannot apply Fusion without prefetches"),
        (QueryRequest::new(Query::formula(Expression::Score(0))), "cannot apply Formula without prefetches"),
        (below(rrf(2, Some(vec![]))), "RRF weights length (0) does not match number of prefetches (1)"),
        (below(rrf(2, Some(vec![-1.0]))), "RRF weights must be finite and not negative"),
        (below(rrf(0, None)), "rrf.k: value 0 invalid, must be 1 or larger"),
        (QueryRequest::new(near()).limit(0), "limit: value 0 invalid, must be 1 or larger"),
        (
            QueryRequest::new(near()).prefetch(Prefetch::new(near()).limit(0)),
            "prefetch.limit: value 0 invalid, must be 1 or larger",
        ),
        (QueryRequest::new(near()).prefetch(deep), "prefetches depth exceeds max depth 64"),
        (
            QueryRequest::new(recommend(Strategy::AverageVector)),
            "At least one positive vector ID required with this strategy",
        ),
        (
            QueryRequest::new(recommend(Strategy::BestScore)),
            "At least one positive or negative vector ID required with this strategy",
        ),
        (QueryRequest::new(feedback(1.0, &[])), "relevance feedback needs at least one example"),
        (
            QueryRequest::new(feedback(-1.0, &[1.0])),
            "relevance feedback weight b: value -1 invalid, must be 0 or larger",
        ),
        (
            QueryRequest::new(feedback(1.0, &[f32::NAN])),
            "weights and scores of relevance feedback must be finite",
        ),
        (
            QueryRequest::new(Query::diverse(1, Mmr { diversity: 1.5, candidates_limit: None })),
            "mmr.diversity: value 1.5 invalid, must be from 0.0 to 1.0",
        ),
        (
            QueryRequest::new(Query::diverse(1, Mmr { diversity: 0.5, candidates_limit: Some(20_000) })),
            "mmr.candidates_limit: value 20000 invalid, must be 16384 or smaller",
        ),
        (
            QueryRequest::new(Query::order_by("loose".parse().unwrap())),
            "No range index for `order_by` key: `loose`. Please create an integer, float or datetime index on it.",
        ),
    ] {
        assert_eq!(mistake(&memory(), &request), text);
    }
}

#[test]
fn vectors_and_points_that_do_not_fit_are_named() {
    let from = |collection: &str| LookupFrom { collection: collection.into(), vector: None };
    let sparse = SparseVector::new([(1, 1.0)]).unwrap();
    for (request, text) in [
        (QueryRequest::new(Query::nearest(9)), "No point with id 9 found"),
        (QueryRequest::new(Query::recommend(vec![9u64.into()], vec![])), "No point with id 9 found"),
        (QueryRequest::new(Query::nearest(2)), "Vector with name \"\" for point not found"),
        (QueryRequest::new(Query::nearest(1)).lookup_from(from("x")), "Collection x not found"),
        (QueryRequest::new(near()).using("x"), "not existing vector name error: x"),
        (
            QueryRequest::new(near())
                .with(Parts { payload: Selector::None, vectors: Selector::Only(vec!["x".into()]) }),
            "not existing vector name error: x",
        ),
        (QueryRequest::new(Query::nearest(vec![1.0])), "vector dimension error: expected dim: 2, got 1"),
        (
            QueryRequest::new(Query::recommend(vec![vec![1.0].into(), vec![1.0, 2.0].into()], vec![])),
            "vector dimension error: expected dim: 2, got 1",
        ),
        (QueryRequest::new(Query::nearest(sparse)), "vector of the wrong kind for ``"),
    ] {
        assert_eq!(mistake(&memory(), &request), text);
    }
}

#[test]
fn groups_facets_and_matrices_refuse_what_has_no_meaning() {
    let memory = memory();
    let mut rng = fastrand::Rng::with_seed(1);
    let key = || "k".parse().unwrap();
    let mut groups = |request: &GroupRequest| run_groups(&memory, request, &mut rng).unwrap_err().to_string();
    let request = GroupRequest::new(QueryRequest::new(near()), key());
    let empty = GroupRequest { group_size: 0, ..request.clone() };
    assert_eq!(groups(&empty), "group_size: value 0 invalid, must be 1 or larger");
    let lost = GroupRequest { with_lookup: Some(WithLookup::new("x")), ..request };
    assert_eq!(groups(&lost), "Collection x not found");
    let paged = GroupRequest::new(QueryRequest::new(near()).offset(1), key());
    assert_eq!(groups(&paged), "groups cannot be passed over, leave the offset out");

    let loose = run_facet(&memory, &FacetRequest::new("loose".parse().unwrap())).unwrap_err().to_string();
    assert!(loose.starts_with("No appropriate index for faceting: `loose`"), "{loose}");
    let none = FacetRequest { limit: 0, ..FacetRequest::new(key()) };
    assert!(run_facet(&memory, &none).is_err());

    let unknown = MatrixRequest { using: "x".into(), ..MatrixRequest::default() };
    assert!(matches!(run_matrix(&memory, &unknown, &mut rng), Err(Error::UnknownVector { .. })));
}
