//! What indexes and sets say, against every row looked at alone.

mod random;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use self::random::{PATHS, filter, payload, schema};
use super::*;
use crate::bytes::Bytes;
use crate::elements::Elements;
use crate::fields::encode::FieldEncoder;
use crate::filter::Filter;
use crate::filter::prepared::Subject;
use crate::schema::{FieldSchema, Schema};

/// A part in memory.
#[derive(Default)]
struct Rows {
    points: Vec<(PointId, Payload)>,
    indexes: Vec<(String, FieldIndex)>,
    image: Bits,
}

impl FilterPart for Rows {
    fn len(&self) -> u32 {
        self.points.len() as u32
    }

    fn field_index(&self, key: &Path) -> Option<&FieldIndex> {
        self.indexes.iter().find(|(path, _)| path == key.as_str()).map(|(_, index)| index)
    }

    fn slot_of(&self, id: &PointId) -> Option<u32> {
        self.points.iter().position(|(other, _)| other == id).map(|slot| slot as u32)
    }

    fn id(&self, slot: u32) -> PointId {
        self.points[slot as usize].0
    }

    fn payload(&self, slot: u32) -> Cow<'_, Payload> {
        Cow::Borrowed(&self.points[slot as usize].1)
    }

    fn vector_slots(&self, name: &str) -> Option<&Bits> {
        (name == "image").then_some(&self.image)
    }
}

impl Rows {
    fn index(&mut self, schema: &Schema) {
        for (path, schema) in schema {
            let index = FieldIndex::open(schema, &Bytes::copy_of(&self.encode(path, schema))).unwrap();
            assert_eq!(index.rows(), self.len());
            self.indexes.push((path.clone(), index));
        }
    }

    fn encode(&self, path: &str, schema: &FieldSchema) -> Vec<u8> {
        let path: Path = path.parse().unwrap();
        let mut encoder = FieldEncoder::new(schema, self.len()).unwrap();
        let elements = Elements::of(schema, &path);
        for (slot, (_, payload)) in (0..).zip(&self.points) {
            encoder.add_payload(slot, &path, elements.as_ref(), payload);
        }
        encoder.finish()
    }

    fn naive(&self, filter: &Prepared<'_>, slot: u32) -> bool {
        let (id, payload) = &self.points[slot as usize];
        let has_vector = |name: &str| name == "image" && self.image.get(slot);
        filter.matches(&Subject { id: Some(*id), payload, has_vector: &has_vector })
    }
}

fn rows(rng: &mut StdRng, count: u64) -> Rows {
    let mut rows = Rows::default();
    for id in 0..count {
        let id =
            if id % 7 == 3 { PointId::Uuid(uuid::Uuid::from_u128(u128::from(id / 7))) } else { id.into() };
        rows.points.push((id, payload(rng)));
    }
    rows.image = (0..count as u32).filter(|_| rng.random_bool(0.4)).collect();
    rows
}

#[test]
fn indexes_agree_with_a_look_at_every_row() {
    let (mut exact, mut listed, mut narrowed, mut tried) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(0..140);
        let (mut rows, schema) = (rows(&mut rng, count), schema(&mut rng));
        // A growing part has the schema and no index.
        if seed % 10 != 0 {
            rows.index(&schema);
        }
        for _ in 0..100 {
            let json = filter(&mut rng, &PATHS, 2);
            let filter: Filter = serde_json::from_value(json.clone()).unwrap();
            let again: Filter = serde_json::from_value(serde_json::to_value(&filter).unwrap()).unwrap();
            assert_eq!(filter, again, "seed {seed}");
            let prepared = Prepared::new(&filter, &schema).unwrap();
            let want: Vec<u32> = (0..rows.len()).filter(|slot| rows.naive(&prepared, *slot)).collect();
            let context = || format!("seed {seed}, filter {json}, schema {schema:?}");

            let matcher = Matcher::new(&prepared, &rows);
            let estimate = matcher.estimate(rows.points.len());
            let range = estimate.min..=estimate.max;
            assert!(range.contains(&want.len()), "{estimate:?} for {}: {}", want.len(), context());
            assert!(range.contains(&estimate.expected), "{estimate:?}: {}", context());
            let got: Vec<u32> = (0..rows.len()).filter(|slot| matcher.check(*slot)).collect();
            assert_eq!(got, want, "{}", context());
            if let Some(slots) = matcher.exact_slots() {
                assert!(slots.iter().eq(want.iter().copied()), "{}", context());
                exact += 1;
            }
            if let Some(slots) = matcher.listed() {
                assert_eq!(slots, want, "{}", context());
                listed += 1;
            }
            if let Some(slots) = matcher.candidates() {
                assert!(want.iter().all(|slot| slots.get(*slot)), "{}", context());
                narrowed += 1;
            }
            tried += 1;
        }
    }
    assert!(listed > tried / 200, "{listed} listed of {tried}");
    assert!(exact > tried / 5 && narrowed > tried / 3, "{exact} exact, {narrowed} narrowed of {tried}");
}

#[test]
fn a_filter_without_texts_needs_no_schema() {
    let seed = 1000;
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = rows(&mut rng, 60);
    for _ in 0..500 {
        let json = filter(&mut rng, &PATHS, 2);
        let filter: Filter = serde_json::from_value(json.clone()).unwrap();
        let prepared = Prepared::new(&filter, &Schema::new()).unwrap();
        let matcher = Matcher::new(&prepared, &rows);
        for slot in 0..rows.len() {
            let (id, payload) = &rows.points[slot as usize];
            let has_vector = |name: &str| name == "image" && rows.image.get(slot);
            let want = filter.matches_with(*id, payload, &has_vector);
            assert_eq!(matcher.check(slot), want, "seed {seed}, filter {json}");
        }
    }
}

fn part_of(payloads: Vec<Value>, schema: &Schema) -> Rows {
    let mut rows = Rows::default();
    for (id, payload) in (0u64..).zip(payloads) {
        rows.points.push((id.into(), payload.as_object().unwrap().clone()));
    }
    rows.index(schema);
    rows
}

#[test]
fn contradicting_conditions_match_nothing_and_are_no_error() {
    let schema = Schema::from([("k".to_owned(), crate::schema::FieldKind::Keyword.into())]);
    let rows = part_of(vec![json!({"k": "a"}), json!({"k": "b"})], &schema);
    let is_a = json!({"key": "k", "match": {"value": "a"}});
    let filter: Filter = serde_json::from_value(json!({"must": is_a, "must_not": is_a})).unwrap();
    let prepared = Prepared::new(&filter, &schema).unwrap();
    let matcher = Matcher::new(&prepared, &rows);
    assert_eq!(matcher.exact_slots().unwrap().count(), 0);
    assert!(!matcher.check(0) && !matcher.check(1));
}

#[test]
fn only_the_conditions_without_an_index_read_payloads() {
    let schema = Schema::from([("k".to_owned(), crate::schema::FieldKind::Keyword.into())]);
    let payloads = (0..1000).map(|n| json!({"k": (["a", "b"][n % 2]), "n": n, "l": [{"k": n}]})).collect();
    let rows = part_of(payloads, &schema);
    let filter: Filter = serde_json::from_value(json!({"must": [
        {"key": "n", "range": {"lt": 250}}, {"key": "k", "match": {"value": "a"}},
        {"slice": {"total": 1, "index": 0}}, {"has_vector": "text"}]}))
    .unwrap();
    let prepared = Prepared::new(&filter, &schema).unwrap();
    let matcher = Matcher::new(&prepared, &rows);
    let described: Vec<_> =
        matcher.describe().into_iter().map(|one| (one.condition, one.answered_by)).collect();
    let of = |condition: &str, by| (condition.to_owned(), by);
    assert_eq!(
        described,
        [of("has_vector text", "set"), of("k", "index"), of("slice", "id"), of("n", "payload")]
    );
    // Nothing has such a vector, so nobody needs a payload.
    assert_eq!(matcher.exact_slots().unwrap().count(), 0);

    let filter: Filter = serde_json::from_value(json!({"must": [
        {"key": "n", "range": {"lt": 250}}, {"key": "k", "match": {"value": "a"}}]}))
    .unwrap();
    let prepared = Prepared::new(&filter, &schema).unwrap();
    let matcher = Matcher::new(&prepared, &rows);
    assert!(matcher.exact_slots().is_none());
    assert_eq!(matcher.candidates().unwrap().count(), 500);
    let estimate = matcher.estimate(1000);
    assert!((100..=150).contains(&estimate.expected) && estimate.max == 500, "{estimate:?}");
    let estimate = matcher.estimate(500);
    assert!((50..=75).contains(&estimate.expected), "{estimate:?}");
}

#[test]
fn threads_share_a_matcher() {
    fn shared<T: Sync + Send>(_: &T) {}
    let (filter, rows) = (Filter::default(), Rows::default());
    let prepared = Prepared::new(&filter, &Schema::new()).unwrap();
    shared(&Matcher::new(&prepared, &rows));
}

#[test]
fn filters_come_back_from_the_log_as_they_are() {
    let seed = 21;
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..3_000 {
        let written = filter(&mut rng, &PATHS, 3);
        let filter: Filter = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(crate::op::check_kept(&filter), Ok(()), "seed {seed} round {round}: {written}");
    }
}
