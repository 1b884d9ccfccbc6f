//! Reads that were cancelled fail instead of giving a part of the answer.

use cairn_index::{
    Cancel, CollectionConfig, Database, Error, FacetRequest, FieldKind, Filter, GroupRequest, MatrixRequest,
    Metric, Modifier, Path, Point, Query, QueryRequest, Scroll, Search, SparseVector,
};
use serde_json::json;

const POINTS: u64 = 10_000;

type Read<'a> = (&'a str, Box<dyn Fn() -> Result<(), Error> + 'a>);

#[test]
fn every_read_ends_with_the_error_and_works_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let config = CollectionConfig::new(2, Metric::Dot)
        .with_sparse("words", Modifier::None)
        .with_index("kind", FieldKind::Keyword.into())
        .unwrap()
        .with_index("year", FieldKind::Integer.into())
        .unwrap();
    let stones = db.create_collection("stones", config).unwrap();
    let point = |id: u64| {
        let words = SparseVector::new(vec![(id as u32 % 7, 1.0)]).unwrap();
        let payload = json!({"kind": format!("k{}", id % 5), "year": id, "free": id % 3});
        let vector = vec![(id % 101) as f32, (id % 97) as f32];
        Point::new(id, vector).with_vector("words", words).with_payload(payload).unwrap()
    };
    (0..POINTS).step_by(1000).for_each(|from| {
        stones.upsert((from..from + 1000).map(point).collect()).unwrap();
    });
    let filter = || -> Filter {
        serde_json::from_value(json!({"must": [{"key": "free", "match": {"value": 1}}]})).unwrap()
    };
    let path = |text: &str| text.parse::<Path>().unwrap();
    let nearest = || Search::nearest(vec![1.0, 0.5]);
    let words = SparseVector::new(vec![(3, 1.0)]).unwrap();
    let reads: Vec<Read<'_>> = vec![
        ("search", Box::new(|| stones.search(&nearest().exact()).map(drop))),
        ("filtered", Box::new(|| stones.search(&nearest().filter(filter())).map(drop))),
        ("sparse", Box::new(|| stones.search(&Search::nearest(words.clone()).using("words")).map(drop))),
        ("count", Box::new(|| stones.count(Some(&filter())).map(drop))),
        (
            "scroll",
            Box::new(|| stones.scroll(&Scroll { filter: Some(filter()), ..Scroll::default() }).map(drop)),
        ),
        (
            "recommend",
            Box::new(|| stones.query(&QueryRequest::new(Query::recommend(vec![3.into()], vec![]))).map(drop)),
        ),
        (
            "order",
            Box::new(|| {
                stones.query(&QueryRequest::new(Query::order_by(path("year"))).filter(filter())).map(drop)
            }),
        ),
        (
            "facet",
            Box::new(|| {
                stones
                    .facet(&FacetRequest { filter: Some(filter()), ..FacetRequest::new(path("kind")) })
                    .map(drop)
            }),
        ),
        (
            "groups",
            Box::new(|| {
                let request = QueryRequest::new(Query::nearest(vec![1.0, 0.5])).exact();
                stones.query_groups(&GroupRequest::new(request, path("kind"))).map(drop)
            }),
        ),
        ("matrix", Box::new(|| stones.matrix(&MatrixRequest::default()).map(drop))),
    ];
    let cancel = Cancel::new();
    for (name, read) in &reads {
        assert!(cancel.during(read).is_ok(), "{name}");
    }
    cancel.cancel();
    for (name, read) in &reads {
        let ended = cancel.during(read);
        assert!(matches!(ended, Err(Error::Cancelled)), "{name}: {ended:?}");
        assert!(read().is_ok(), "{name}");
    }
}
