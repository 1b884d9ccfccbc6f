//! A collection on disk, its points spread over segments with indexes, frozen
//! and growing parts, answers as the list of points it was made from.

use cairn_ann::Metric;

use crate::config::{CollectionConfig, Modifier, Options, VectorConfig};
use crate::point::Point;
use crate::query::{FacetRequest, GroupRequest, run_facet, run_groups};
use crate::{Collection, ConfigChange, Database, FieldKind};

use super::memory::Memory;
use super::{ask, random};

fn stored(memory: &Memory, rng: &mut fastrand::Rng, dir: &std::path::Path) -> Collection {
    // Sealed here and nowhere else, so that rows keep the order of the list.
    let options = Options { seal_points: usize::MAX, max_segment_points: 0, ..Options::default() };
    let db = Database::open_with(dir, options).unwrap();
    let (dim, kind) = memory.kinds[""];
    let mut config = CollectionConfig::new(dim, kind.metric).with_sparse("words", Modifier::None);
    let rows = VectorConfig { multivector: true, ..VectorConfig::new(dim, kind.metric) };
    config.vectors.insert("rows".to_owned(), rows);
    let collection = db.create_collection("memory", config).unwrap();
    let seal_at: Vec<usize> = (0..2).map(|_| rng.usize(..memory.points.len())).collect();
    for (at, stored) in memory.points.iter().enumerate() {
        let (vectors, payload) = (stored.vectors.clone(), stored.payload.clone());
        collection.upsert(vec![Point { vectors, payload, ..Point::empty(stored.id) }]).unwrap();
        if seal_at.contains(&at) {
            collection.index_now().unwrap();
        }
    }
    for (key, kind) in [("tag", FieldKind::Keyword), ("n", FieldKind::Float)] {
        collection.configure(ConfigChange::CreateIndex(key.parse().unwrap(), kind.into())).unwrap();
    }
    // Indexes of segments that are there are made in the background; both ways
    // of answering must agree.
    if rng.bool() {
        collection.index_now().unwrap();
    }
    collection
}

#[test]
fn a_stored_collection_answers_random_trees_as_the_list_of_its_points_does() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let dir = tempfile::tempdir().unwrap();
        let collection = stored(&memory, &mut rng, dir.path());
        let source = collection.queried().unwrap();
        for _ in 0..25 {
            let request = random::request(&mut rng, &memory);
            let want: Vec<_> = ask(&memory, &request).iter().map(|hit| (hit.id, hit.score)).collect();
            let hits = super::run(&source, &request, &mut fastrand::Rng::with_seed(1)).unwrap();
            let got: Vec<_> = hits.iter().map(|hit| (hit.id, hit.score)).collect();
            assert_eq!(got, want, "seed {seed}: {request:#?}");
        }
    }
}

#[test]
fn a_stored_collection_groups_and_counts_as_the_list_of_its_points_does() {
    for seed in 100..130 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let memory = random::memory(&mut rng);
        let dir = tempfile::tempdir().unwrap();
        let collection = stored(&memory, &mut rng, dir.path());
        let source = collection.queried().unwrap();
        for _ in 0..10 {
            let mut request = GroupRequest::new(random::request(&mut rng, &memory), "tag".parse().unwrap());
            request.request.offset = 0;
            let want = run_groups(&memory, &request, &mut fastrand::Rng::with_seed(1));
            let got = run_groups(&source, &request, &mut fastrand::Rng::with_seed(1));
            match (want, got) {
                (Ok(want), Ok(got)) => {
                    let ids = |groups: &[crate::query::Group]| -> Vec<_> {
                        groups.iter().map(|g| (g.id.clone(), super::ids(&g.hits))).collect()
                    };
                    assert_eq!(ids(&got), ids(&want), "seed {seed}: {request:#?}");
                }
                (want, got) => assert_eq!(want.err().unwrap().to_string(), got.err().unwrap().to_string()),
            }
            let mut facets = FacetRequest::new("tag".parse().unwrap());
            facets.filter = random::some_filter(&mut rng);
            assert_eq!(
                run_facet(&source, &facets).unwrap(),
                run_facet(&memory, &facets).unwrap(),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn whole_numbers_and_halves_are_compared_as_they_are_stored() {
    use crate::{Datatype, Search};
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan] {
        for datatype in [Datatype::Uint8, Datatype::Float16] {
            let config = CollectionConfig::default()
                .with_vector("", VectorConfig { datatype, ..VectorConfig::new(4, metric) });
            let collection = db.create_collection(&format!("{metric:?}{datatype:?}"), config).unwrap();
            let rows: Vec<Vec<f32>> =
                (0..60).map(|_| (0..4).map(|_| f32::from(rng.u8(..))).collect()).collect();
            let points = (0..).zip(&rows).map(|(id, row)| Point::new(id, row.clone()));
            collection.upsert(points.collect()).unwrap();
            let query = rows[7].clone();
            let naive = |row: &[f32]| -> f64 {
                let pairs = || row.iter().zip(&query).map(|(x, y)| (f64::from(*x), f64::from(*y)));
                let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                match metric {
                    Metric::Cosine => pairs().map(|(x, y)| x * y).sum::<f64>() / norm(row) / norm(&query),
                    // A query is compared as it is given, not cut down.
                    Metric::Dot => pairs().map(|(x, y)| x * y).sum(),
                    Metric::Euclid => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
                    Metric::Manhattan => pairs().map(|(x, y)| (x - y).abs()).sum(),
                }
            };
            for sealed in [false, true] {
                if sealed {
                    collection.index_now().unwrap();
                }
                let found = collection.search(&Search::nearest(query.clone()).limit(60)).unwrap();
                assert_eq!(found.hits.len(), 60);
                for hit in found.hits {
                    let crate::PointId::Num(id) = hit.id else { unreachable!("ids are numbers") };
                    let want = naive(&rows[id as usize]);
                    let close = (f64::from(hit.score) - want).abs() <= 2e-3 * want.abs().max(1.0);
                    assert!(close, "{metric:?} {datatype:?} sealed {sealed}: {} {want}", hit.score);
                }
            }
        }
    }
    let bytes = CollectionConfig::default()
        .with_vector("", VectorConfig { datatype: Datatype::Uint8, ..VectorConfig::new(1, Metric::Dot) });
    let collection = db.create_collection("bytes", bytes).unwrap();
    for bad in [-1.0, 256.0, 0.5] {
        let error = collection.upsert(vec![Point::new(1, vec![bad])]).unwrap_err().to_string();
        assert!(error.contains("does not fit the type uint8"), "{error}");
    }
}
