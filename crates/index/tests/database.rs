//! The database as a program that embeds it sees it.

mod common;

use cairn_index::{
    Codes, Collection, CollectionConfig, Compression, Database, Error, Expiry, FieldKind, Filter, Metric,
    Options, Parts, Plan, Point, PointId, Scroll, Search, Selector, StoreKind, VectorConfig,
};
use std::time::{Duration, Instant};

use common::{clustered, naive, rng, vector};
use rand::Rng;
use serde_json::json;

const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

fn filter(json: serde_json::Value) -> Filter {
    serde_json::from_value(json).unwrap()
}

#[test]
fn searches_agree_with_comparing_every_point() {
    let mut rng = rng(11);
    for metric in METRICS {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(24, metric)).unwrap();
        let points = clustered(&mut rng, 1500, 24);
        collection.upsert(points.clone()).unwrap();
        for round in 0..40 {
            let query = vector(&mut rng, 24);
            let wanted = (round % 2 == 1).then(|| {
                filter(json!({"must": [{"key": "colour", "match": {"value": "red"}}],
                              "must_not": [{"key": "year", "range": {"lt": 1950}}]}))
            });
            let mut search = Search::nearest(query.clone());
            search.filter.clone_from(&wanted);
            let found = collection.search(&search).unwrap();
            let want = naive(metric, points.iter(), &query, wanted.as_ref(), 10);
            assert_eq!(found.hits.len(), want.len());
            for (hit, (id, score)) in found.hits.iter().zip(&want) {
                assert_eq!(hit.id, *id, "{metric:?}");
                assert!((hit.score - score).abs() < 1e-4 * score.abs().max(1.0), "{metric:?}");
            }
        }
    }
}

#[test]
fn a_graph_finds_what_a_scan_finds_and_sees_later_writes() {
    let mut rng = rng(12);
    for metric in METRICS {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { indexing_threshold: 1000, full_scan_threshold: 100, ..Options::default() };
        let db = Database::open_with(dir.path(), options).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(16, metric)).unwrap();
        let points = clustered(&mut rng, 6000, 16);
        collection.upsert(points.clone()).unwrap();
        collection.index_now().unwrap();
        // Written after the graph, replaced and deleted after it.
        let first = points[0].vectors[""].as_dense().unwrap();
        let late: Vec<f32> = first.iter().map(|x| x + 0.001).collect();
        let late = Point::new(50_000, late);
        collection.upsert(vec![late]).unwrap();
        collection.delete(vec![1.into(), PointId::from(2)]).unwrap();

        let mut shared = 0;
        let wanted = filter(json!({"must": [{"key": "colour", "match": {"any": ["red", "blue"]}}]}));
        for round in 0..100 {
            let query = vector(&mut rng, 16);
            let mut search = Search::nearest(query);
            search.filter = (round % 2 == 1).then(|| wanted.clone());
            // Inner products of vectors of unequal length need the wider beam.
            search.params.ef = Some(200);
            let found = collection.search(&search).unwrap();
            // So few points are compared faster than walked under a filter.
            assert_eq!(found.plan, if search.filter.is_some() { Plan::Scan } else { Plan::Graph });
            let exact = collection.search(&search.clone().exact()).unwrap();
            assert_eq!(exact.plan, Plan::Scan);
            let ids: Vec<PointId> = exact.hits.iter().map(|hit| hit.id).collect();
            shared += found.hits.iter().filter(|hit| ids.contains(&hit.id)).count();
            assert!(found.hits.iter().all(|hit| hit.id != 1.into() && hit.id != 2.into()));
        }
        assert!(shared >= 950, "{metric:?}: {shared} of 1000");
        if metric != Metric::Dot {
            let found = collection.search(&Search::nearest(points[0].vectors[""].clone()).limit(2)).unwrap();
            let ids: Vec<PointId> = found.hits.iter().map(|hit| hit.id).collect();
            assert_eq!(ids, [0.into(), 50_000.into()], "{metric:?}");
        }
    }
}

#[test]
fn filtered_searches_by_code_see_what_is_there_and_little_else() {
    let mut rng = rng(21);
    let kept = |field: &str| filter(json!({"must": [{"key": field, "match": {"value": 1}}]}));
    for metric in METRICS {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { indexing_threshold: 1000, full_scan_threshold: 0, ..Options::default() };
        let db = Database::open_with(dir.path(), options).unwrap();
        let mut config = CollectionConfig::new(200, metric);
        for field in ["tenth", "half", "most"] {
            config = config.with_index(field, FieldKind::Integer.into()).unwrap();
        }
        let collection = db.create_collection("c", config).unwrap();
        let payload = |n: u64| {
            let one = |yes: bool| i32::from(yes);
            json!({"tenth": one(n % 10 == 3), "half": one(n % 2 == 1), "most": one(n % 10 != 7)})
        };
        let points = clustered(&mut rng, 6000, 200).into_iter().zip(0u64..);
        let points: Vec<Point> = points.map(|(point, n)| point.with_payload(payload(n)).unwrap()).collect();
        collection.upsert(points[..5500].to_vec()).unwrap();
        collection.index_now().unwrap();
        collection.upsert(points[5500..].to_vec()).unwrap();
        let ids = |step: usize| (3..6000).step_by(step).map(|n| PointId::Num(n as u64)).collect::<Vec<_>>();
        let (deleted, expired) = (ids(20), ids(7));
        collection.delete(cairn_index::Selection::from(deleted.clone())).unwrap();
        collection.set_expiry(expired.clone(), Some(Expiry { at_ms: 1, renew_ms: 0 })).unwrap();
        let mut shared = 0;
        for round in 0..60 {
            let query = points[rng.random_range(0..6000)].vectors[""].clone();
            let mut wanted = kept(["tenth", "half", "most"][round % 3]);
            if round % 2 == 0 {
                wanted.must_not = kept("colour").must;
            }
            let search = Search::nearest(query).filter(wanted);
            let found = collection.search(&search).unwrap().hits;
            let exact = collection.search(&search.exact()).unwrap().hits;
            assert_eq!(found.len(), 10);
            for hit in &found {
                assert!(!deleted.contains(&hit.id) && !expired.contains(&hit.id), "{metric:?}");
                let same = exact.iter().find(|other| other.id == hit.id);
                assert!(same.is_none_or(|same| same.score == hit.score), "{metric:?}");
                shared += usize::from(same.is_some());
            }
        }
        assert!(shared >= 585, "{metric:?}: {shared} of 600");
    }
}

/// Recall@10 of searches against exact ones.
fn recall(collection: &Collection, queries: &[Vec<f32>]) -> f64 {
    recall_of(collection, queries, |search| search)
}

fn recall_of(collection: &Collection, queries: &[Vec<f32>], ask: impl Fn(Search) -> Search) -> f64 {
    let ids = |search: Search| -> Vec<PointId> {
        collection.search(&search).unwrap().hits.iter().map(|hit| hit.id).collect()
    };
    let found: usize = queries
        .iter()
        .map(|query| {
            let truth = ids(Search::nearest(query.clone()).exact());
            ids(ask(Search::nearest(query.clone()))).iter().filter(|id| truth.contains(id)).count()
        })
        .sum();
    found as f64 / (10 * queries.len()) as f64
}

#[test]
fn recent_points_get_a_graph_while_they_are_searched_and_it_goes_into_their_segment() {
    let mut rng = rng(17);
    for metric in METRICS {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { indexing_threshold: 1000, ..Options::default() };
        let db = Database::open_with(dir.path(), options).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(128, metric)).unwrap();
        let points = clustered(&mut rng, 6000, 128);
        let queries: Vec<Vec<f32>> = clustered(&mut rng, 50, 128)
            .into_iter()
            .map(|point| point.vectors[""].as_dense().unwrap().to_vec())
            .collect();
        let usual: Vec<Vec<f32>> =
            points[1000..1050].iter().map(|point| point.vectors[""].as_dense().unwrap().to_vec()).collect();
        collection.upsert(points).unwrap();
        let plan = || {
            let found = collection.search(&Search::nearest(queries[0].clone()).explain()).unwrap();
            found.steps.last().map(|step| (step.segment.is_some(), step.plan))
        };
        let started = Instant::now();
        while plan() != Some((false, Plan::Graph)) {
            assert!(started.elapsed() < Duration::from_secs(60), "no graph over recent points");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing is in the graph that was written after it, or died.
        let late: Vec<u64> = (0..500).collect();
        collection
            .delete(cairn_index::Selection::from(late.iter().map(|id| PointId::Num(*id)).collect::<Vec<_>>()))
            .unwrap();
        let again: Vec<Point> =
            (0..50u64).zip(&queries).map(|(id, query)| Point::new(100_000 + id, query.clone())).collect();
        collection.upsert(again).unwrap();
        for _ in 0..2 {
            let mut first = 0;
            for (id, query) in (0..50u64).zip(&queries) {
                let hits = collection.search(&Search::nearest(query.clone())).unwrap().hits;
                first += usize::from(hits[0].id == PointId::Num(100_000 + id));
                assert!(hits.iter().all(|hit| hit.id >= PointId::Num(500)), "{metric:?}");
            }
            // They are far from all others, where graphs are at their worst.
            assert!(metric == Metric::Dot || first >= 47, "{metric:?}: {first}");
            let found = recall(&collection, &usual);
            assert!(found >= 0.95, "{metric:?}: {found}");
            // Once from memory, once from the segment.
            collection.index_now().unwrap();
            assert_eq!(plan(), Some((true, Plan::Graph)), "{metric:?}");
        }
        assert_eq!(collection.info().indexed_vectors, 5550);
    }
}

#[test]
fn a_search_finds_the_part_of_the_nearest_that_it_asks_for() {
    let mut rng = rng(18);
    for (metric, codes, dim) in [
        (Metric::Cosine, Codes::Compact, 256),
        (Metric::Cosine, Codes::Product(Compression::X32), 256),
        (Metric::Euclid, Codes::Product(Compression::X8), 64),
        (Metric::Euclid, Codes::Fast, 128),
        (Metric::Dot, Codes::Int8, 32),
        (Metric::Manhattan, Codes::Int8, 32),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = CollectionConfig::new(dim, metric);
        config.hnsw.codes = codes;
        let db = Database::open(dir.path()).unwrap();
        let collection = db.create_collection("c", config).unwrap();
        let mut points = clustered(&mut rng, 12_200, dim);
        let queries: Vec<Vec<f32>> = points
            .split_off(12_000)
            .into_iter()
            .map(|point| point.vectors[""].as_dense().unwrap().to_vec())
            .collect();
        collection.upsert(points).unwrap();
        collection.index_now().unwrap();
        let mut last = 0.0;
        for wanted in [0.8, 0.9, 0.99] {
            let found = recall_of(&collection, &queries, |search| search.recall(wanted));
            // 2,000 neighbours that come in 200 clusters.
            assert!(found >= f64::from(wanted) - 0.03, "{metric:?} {codes:?}: {found} of {wanted}");
            assert!(found >= last, "{metric:?} {codes:?}: {found} after {last}");
            last = found;
        }
        let asked = Search::nearest(queries[0].clone());
        assert_eq!(collection.search(&asked.clone().recall(1.0)).unwrap().plan, Plan::Scan);
        for wrong in [0.0, -1.0, 1.01, f32::NAN] {
            let refused = collection.search(&asked.clone().recall(wrong)).unwrap_err().to_string();
            assert!(refused.contains("must be above 0 and at most 1"), "{refused}");
        }
    }
}

#[test]
fn a_filtered_search_returns_all_matches_when_there_are_fewer_than_asked() {
    let mut rng = rng(13);
    let dir = tempfile::tempdir().unwrap();
    let options = Options { full_scan_threshold: 0, ..Options::default() };
    let db = Database::open_with(dir.path(), options).unwrap();
    let collection = db.create_collection("c", CollectionConfig::new(8, Metric::Cosine)).unwrap();
    collection.upsert(clustered(&mut rng, 3000, 8)).unwrap();
    collection.index_now().unwrap();
    let rare = filter(json!({"must": [{"has_id": [5, 700, 2900]}]}));
    let found = collection.search(&Search::nearest(vector(&mut rng, 8)).filter(rare)).unwrap();
    assert_eq!(found.hits.len(), 3);
}

fn with_store(store: StoreKind) -> Options {
    Options { store, ..Options::default() }
}

/// The files of the only collection whose name contains `part`.
fn files(dir: &std::path::Path, part: &str) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(dir.join("collections")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_string_lossy().contains(part)).collect()
}

fn damage(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // As a new file: the old one may be mapped.
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_graph_survives_reopening_and_is_refused_when_damaged() {
    let mut rng = rng(15);
    let dir = tempfile::tempdir().unwrap();
    let options = Options { indexing_threshold: 1000, full_scan_threshold: 0, ..Options::default() };
    // Nothing is built here, so a graph must come from disk.
    let lazy = Options { indexing_threshold: usize::MAX, ..options.clone() };
    let query = vector(&mut rng, 8);
    let plan =
        |db: &Database| db.collection("c").unwrap().search(&Search::nearest(query.clone())).unwrap().plan;
    {
        let db = Database::open_with(dir.path(), options).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(8, Metric::Cosine)).unwrap();
        collection.upsert(clustered(&mut rng, 2500, 8)).unwrap();
        collection.index_now().unwrap();
        assert_eq!(plan(&db), Plan::Graph);
    }
    assert_eq!(plan(&Database::open_with(dir.path(), lazy.clone()).unwrap()), Plan::Graph);

    damage(&files(dir.path(), "-graph-")[0]);
    let db = Database::open_with(dir.path(), lazy).unwrap();
    assert_eq!(plan(&db), Plan::Scan);
    assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 2500);
}

#[test]
fn a_damaged_segment_is_named_and_the_rest_serves_on() {
    let mut rng = rng(16);
    // Two segments stay two.
    let options = Options { max_segment_points: 1500, ..Options::default() };
    for (cut, section) in [(true, "whole"), (false, "vectors")] {
        let dir = tempfile::tempdir().unwrap();
        {
            let db = Database::open_with(dir.path(), options.clone()).unwrap();
            let collection = db.create_collection("c", CollectionConfig::new(64, Metric::Cosine)).unwrap();
            for from in [0, 1000] {
                let points = (from..from + 1000).map(|id| Point::new(id, vector(&mut rng, 64)));
                collection.upsert(points.collect()).unwrap();
                collection.index_now().unwrap();
            }
            collection.upsert(vec![Point::new(5000, vec![1.0; 64])]).unwrap();
        }
        let segments = files(dir.path(), ".segment");
        assert_eq!(segments.len(), 2);
        if cut {
            let bytes = std::fs::read(&segments[0]).unwrap();
            std::fs::write(&segments[0], &bytes[..bytes.len() - 100]).unwrap();
        } else {
            damage(&segments[0]);
        }
        let db = Database::open_with(dir.path(), options.clone()).unwrap();
        let started = std::time::Instant::now();
        while db.health().damaged.is_empty() && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let damaged = db.health().damaged;
        assert_eq!(damaged.len(), 1, "{section}");
        assert_eq!(damaged[0].file, segments[0]);
        let collection = db.collection("c").unwrap();
        assert_eq!(collection.count(None).unwrap(), 1001);
        assert_eq!(collection.search(&Search::nearest(vec![1.0; 64])).unwrap().hits[0].id, 5000.into());
        collection.upsert(vec![Point::new(6000, vec![1.0; 64])]).unwrap();
        collection.index_now().unwrap();
        assert_eq!(collection.count(None).unwrap(), 1002);
        // It is still there for whoever can mend it.
        assert!(segments[0].exists());
    }
}

#[test]
fn versions_and_seqs_go_on_through_segments_and_reopening() {
    let mut rng = rng(16);
    let dir = tempfile::tempdir().unwrap();
    let versions = |db: &Database| -> Vec<(PointId, u64)> {
        let all = Scroll { limit: 10_000, ..Scroll::default() };
        let page = db.collection("c").unwrap().scroll(&all).unwrap();
        page.records.iter().map(|record| (record.id, record.version)).collect()
    };
    let (before, seq) = {
        let db = Database::open(dir.path()).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(8, Metric::Cosine)).unwrap();
        for round in 0..6 {
            for chunk in clustered(&mut rng, 1500, 8).chunks(100) {
                collection.upsert(chunk.to_vec()).unwrap();
            }
            if round % 2 == 0 {
                collection.compact().unwrap();
            }
        }
        (versions(&db), collection.info().seq)
    };
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(versions(&db), before);
    // Seqs go on growing, so versions stay comparable.
    let applied = db.collection("c").unwrap().upsert(vec![Point::new(1, vec![1.0; 8])]).unwrap();
    assert_eq!(applied.seq, seq + 1);
    drop(db);
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(db.collection("c").unwrap().get(&[1.into()], &Parts::default()).unwrap()[0].version, seq + 1);
}

#[test]
fn writers_on_many_threads_all_get_in() {
    for store in [StoreKind::Sled, StoreKind::Redb] {
        many_writers(store);
    }
}

fn many_writers(store: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Database::open_with(dir.path(), with_store(store)).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Dot)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let collection = collection.clone();
                scope.spawn(move || {
                    for number in 0..25 {
                        let point = Point::new(thread * 100 + number, vec![1.0, number as f32]);
                        let applied = collection.upsert(vec![point]).unwrap();
                        // An acknowledged write is seen at once.
                        let record =
                            collection.get(&[(thread * 100 + number).into()], &Parts::default()).unwrap();
                        assert_eq!(record[0].version, applied.seq);
                    }
                });
            }
        });
        assert_eq!(collection.info().seq, 200);
    }
    let db = Database::open(dir.path()).unwrap();
    assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 200);
}

#[test]
fn points_have_any_subset_of_the_named_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let mut config = CollectionConfig::new(2, Metric::Cosine);
    config.vectors.insert("title".to_owned(), VectorConfig::new(3, Metric::Dot));
    let collection = db.create_collection("c", config).unwrap();
    let both = Point::new(1, vec![3.0, 4.0]).with_vector("title", vec![1.0, 2.0, 3.0]);
    collection.upsert(vec![both, Point::new(2, vec![1.0, 0.0])]).unwrap();

    let mut search = Search::nearest(vec![1.0, 1.0, 1.0]);
    search.using = "title".to_owned();
    let found = collection.search(&search).unwrap();
    assert_eq!(found.hits.len(), 1);
    assert_eq!((found.hits[0].id, found.hits[0].score), (1.into(), 6.0));

    // Cosine vectors come back at unit length, others as they went in.
    let parts = Parts { payload: Selector::None, vectors: Selector::All };
    let vectors = collection.get(&[1.into()], &parts).unwrap()[0].vectors.clone().unwrap();
    assert_eq!(vectors[""], vec![0.6, 0.8].into());
    assert_eq!(vectors["title"], vec![1.0, 2.0, 3.0].into());
}

#[test]
fn pages_follow_the_order_of_ids_and_meet_every_point_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let collection = db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
    let mut ids: Vec<PointId> = (0..95u64).map(|number| (number * 7).into()).collect();
    ids.push("936da01f-9abd-4d9d-80c7-02af85c822a8".parse().unwrap());
    collection.upsert(ids.iter().rev().map(|id| Point::new(*id, vec![1.0])).collect()).unwrap();
    let mut seen = Vec::new();
    let mut scroll = Scroll { limit: 10, ..Scroll::default() };
    loop {
        let page = collection.scroll(&scroll).unwrap();
        seen.extend(page.records.into_iter().map(|record| record.id));
        match page.next {
            Some(next) => scroll.from = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids);
}

#[test]
fn offset_limit_and_threshold_cut_the_list_of_hits() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    for (metric, threshold, left) in [(Metric::Dot, 5.0, 4), (Metric::Euclid, 5.0, 5)] {
        let name = format!("{metric:?}");
        let collection = db.create_collection(&name, CollectionConfig::new(1, metric)).unwrap();
        collection.upsert((0..10).map(|n| Point::new(n, vec![n as f32])).collect()).unwrap();
        let query = if metric == Metric::Dot { 1.0 } else { 0.0 };
        let mut search = Search::nearest(vec![query]).limit(3);
        search.offset = 2;
        let scores: Vec<f32> = collection.search(&search).unwrap().hits.iter().map(|hit| hit.score).collect();
        assert_eq!(scores, if metric == Metric::Dot { [7.0, 6.0, 5.0] } else { [2.0, 3.0, 4.0] });
        let mut search = Search::nearest(vec![query]);
        search.score_threshold = Some(threshold);
        assert_eq!(collection.search(&search).unwrap().hits.len(), left, "the threshold itself is out");
    }
}

#[test]
fn bad_input_is_refused_with_its_reason_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Cosine)).unwrap();
    let good = Point::new(1, vec![1.0, 0.0]);
    let named = Point::new(2, vec![1.0, 0.0]).with_vector("nope", vec![1.0]);
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    for (bad, part) in [
        (Point::new(2, vec![1.0]), "expected dim: 2, got 1"),
        (Point::new(2, vec![1.0, f32::NAN]), "position 1 is not a finite number"),
        (Point::new(2, vec![f32::INFINITY, 1.0]), "position 0 is not a finite number"),
        (named, "not existing vector name error: nope"),
        (Point::new(2, vec![1.0, 0.0]).with_payload(json!({ "deep": deep })).unwrap(), "nests deeper"),
    ] {
        let error = collection.upsert(vec![good.clone(), bad]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(collection.count(None).unwrap(), 0);
    assert!(matches!(
        collection.search(&Search::nearest(vec![1.0])),
        Err(Error::Dimension { want: 2, got: 1 })
    ));
    assert!(matches!(collection.search(&Search::nearest(vec![f32::NAN; 2])), Err(Error::NotFinite { .. })));
    assert!(matches!(db.collection("d"), Err(Error::UnknownCollection { .. })));
    assert!(matches!(
        db.create_collection("c", CollectionConfig::new(2, Metric::Dot)),
        Err(Error::CollectionExists { .. })
    ));
    for size in [0, 65_537] {
        let error =
            db.create_collection("d", CollectionConfig::new(size, Metric::Dot)).err().unwrap().to_string();
        assert!(error.contains("must be from 1 to 65536"), "{error}");
    }
    for name in ["", "a/b", "a\"b", &"x".repeat(256)] {
        assert!(matches!(
            db.create_collection(name, CollectionConfig::new(2, Metric::Dot)),
            Err(Error::Name { .. })
        ));
    }
}

#[test]
fn a_zero_vector_under_cosine_is_kept_and_scores_zero() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Cosine)).unwrap();
    collection.upsert(vec![Point::new(1, vec![0.0, 0.0])]).unwrap();
    let found = collection.search(&Search::nearest(vec![1.0, 0.0])).unwrap();
    assert_eq!(found.hits[0].score, 0.0);
}

#[test]
fn a_directory_in_use_names_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let _db = Database::open(dir.path()).unwrap();
    let error = Database::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn a_newer_or_half_lost_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Database::open(dir.path()).unwrap();
        db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
    }
    let format = dir.path().join("format.json");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("\"format\": 2", "\"format\": 999")).unwrap();
    let error = Database::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("has format 999") && error.contains("install a newer"), "{error}");

    std::fs::write(&format, text).unwrap();
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    assert!(matches!(Database::open(dir.path()), Err(Error::LostStore { .. })));
}

#[test]
fn dropping_a_collection_removes_it_for_good_and_frees_its_name() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Database::open(dir.path()).unwrap();
        let old = db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
        old.upsert(vec![Point::new(1, vec![1.0])]).unwrap();
        assert!(db.drop_collection("c").unwrap());
        assert!(!db.drop_collection("c").unwrap());
        assert!(matches!(old.upsert(vec![Point::new(1, vec![1.0])]), Err(Error::UnknownCollection { .. })));
        db.create_collection("c", CollectionConfig::new(2, Metric::Dot)).unwrap();
    }
    let db = Database::open(dir.path()).unwrap();
    let collection = db.collection("c").unwrap();
    assert_eq!((collection.count(None).unwrap(), collection.config().vectors[""].size), (0, 2));
}

#[test]
fn a_disk_without_room_refuses_writes_and_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Database::open(dir.path()).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
        collection.upsert(vec![Point::new(1, vec![1.0])]).unwrap();
    }
    // A reserve larger than any disk stands in for a full one.
    let options = Options { min_free_bytes: u64::MAX / 2, ..Options::default() };
    let db = Database::open_with(dir.path(), options).unwrap();
    let collection = db.collection("c").unwrap();
    let error = collection.upsert(vec![Point::new(2, vec![1.0])]).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(collection.count(None).unwrap(), 1);
    // Nothing failed, so nothing is broken.
    assert_eq!(db.health().write_failure, None);
}
