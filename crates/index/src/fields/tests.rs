//! Orders and counts against plain loops, and damage.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::encode::FieldEncoder;
use super::*;
use crate::filter::Filter;
use crate::filter::prepared::{Node, Prepared, flat};
use crate::filter::time::micros;
use crate::schema::Schema;

fn encode(schema: &FieldSchema, rows: &[Vec<Value>]) -> Vec<u8> {
    let mut encoder = FieldEncoder::new(schema, rows.len() as u32).unwrap();
    for (slot, values) in (0..).zip(rows) {
        encoder.add(slot, &values.iter().collect::<Vec<_>>());
    }
    encoder.finish()
}

fn open(schema: &FieldSchema, rows: &[Vec<Value>]) -> FieldIndex {
    FieldIndex::open(schema, &Bytes::copy_of(&encode(schema, rows))).unwrap()
}

fn scalar(rng: &mut StdRng, kind: FieldKind) -> Value {
    if rng.random_bool(0.1) {
        return [Value::Null, json!("x"), json!(2.5), json!(7), json!(true)][rng.random_range(0..5)].clone();
    }
    match kind {
        FieldKind::Keyword => json!(["a", "ab", "b", "é"][rng.random_range(0..4)]),
        FieldKind::Integer => json!(rng.random_range(-5..5)),
        FieldKind::Float => json!(f64::from(rng.random_range(-5..5)) / 2.0),
        FieldKind::Geo => json!({"lon": rng.random_range(-180..=180), "lat": rng.random_range(-90..=90)}),
        FieldKind::Text => json!(["red fox", "Red tea", "fox red fox"][rng.random_range(0..3)]),
        FieldKind::Bool => json!(rng.random_bool(0.5)),
        FieldKind::Datetime => json!(format!("2024-0{}-01", rng.random_range(1..8))),
        FieldKind::Uuid => json!(uuid::Uuid::from_u128(rng.random_range(0..4)).simple().to_string()),
    }
}

fn rows(rng: &mut StdRng, kind: FieldKind) -> Vec<Vec<Value>> {
    let row = |rng: &mut StdRng| match rng.random_range(0..5) {
        0 => vec![],
        1 => vec![(0..rng.random_range(0..4)).map(|_| scalar(rng, kind)).collect()],
        2 => (0..rng.random_range(0..3)).map(|_| scalar(rng, kind)).collect(),
        _ => vec![scalar(rng, kind)],
    };
    (0..rng.random_range(0..200)).map(|_| row(rng)).collect()
}

fn schema(kind: FieldKind) -> FieldSchema {
    match kind {
        FieldKind::Text => serde_json::from_value(json!({"type": "text", "phrase_matching": true})).unwrap(),
        kind => kind.into(),
    }
}

#[test]
fn orders_follow_the_values_and_start_where_asked() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let kind = [FieldKind::Integer, FieldKind::Float, FieldKind::Datetime][seed as usize % 3];
        let rows = rows(&mut rng, kind);
        let index = open(&schema(kind), &rows);
        let of = |value: &Value| match kind {
            FieldKind::Integer => value.as_i64().map(OrderValue::Int),
            FieldKind::Float => value.as_f64().map(OrderValue::Float),
            _ => value.as_str().and_then(micros).map(OrderValue::Int),
        };
        let mut naive: Vec<(OrderValue, u32)> = Vec::new();
        for (slot, values) in (0..).zip(&rows) {
            let values: Vec<&Value> = values.iter().collect();
            naive.extend(flat(&values).filter_map(|value| Some((of(value)?, slot))));
        }
        naive.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        naive.dedup();
        for start in
            [None, Some(OrderValue::Int(1)), Some(OrderValue::Float(0.5)), naive.first().map(|one| one.0)]
        {
            let ascending: Vec<_> = index.ordered(false, start).unwrap().collect();
            let mut want = naive.clone();
            want.retain(|(value, _)| start.is_none_or(|start| value.total_cmp(&start).is_ge()));
            assert_eq!(ascending, want, "seed {seed}, {kind} from {start:?}");

            let descending: Vec<_> = index.ordered(true, start).unwrap().collect();
            let mut want = naive.clone();
            want.retain(|(value, _)| start.is_none_or(|start| value.total_cmp(&start).is_le()));
            want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            assert_eq!(descending, want, "seed {seed}, {kind} from {start:?}");
        }
    }
}

#[test]
fn facets_count_each_point_once_a_value() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let kind =
            [FieldKind::Integer, FieldKind::Keyword, FieldKind::Bool, FieldKind::Uuid][seed as usize % 4];
        let rows = rows(&mut rng, kind);
        let index = open(&schema(kind), &rows);
        let among: Bits = (0..rows.len() as u32).filter(|_| rng.random_bool(0.7)).collect();
        let mut naive: BTreeMap<FacetValue, Bits> = BTreeMap::new();
        for (slot, values) in (0..).zip(&rows).filter(|(slot, _)| among.get(*slot)) {
            for value in flat(&values.iter().collect::<Vec<_>>()) {
                let value = match kind {
                    FieldKind::Integer => value.as_i64().map(FacetValue::Integer),
                    FieldKind::Bool => value.as_bool().map(FacetValue::Bool),
                    FieldKind::Keyword => value.as_str().map(|text| FacetValue::Keyword(text.to_owned())),
                    _ => value
                        .as_str()
                        .and_then(|text| Uuid::parse_str(text).ok())
                        .map(|uuid| FacetValue::Keyword(uuid.to_string())),
                };
                if let Some(value) = value {
                    naive.entry(value).or_default().set(slot, true);
                }
            }
        }
        let want: Vec<_> = naive.into_iter().map(|(value, slots)| (value, slots.count())).collect();
        assert_eq!(index.facet(&among).unwrap(), want, "seed {seed}, {kind}");
    }
}

#[test]
fn points_are_rows_with_a_value_of_the_kind() {
    let rows = vec![vec![json!("a")], vec![json!(1)], vec![json!(["b", "b", 2])], vec![], vec![Value::Null]];
    let index = open(&FieldKind::Keyword.into(), &rows);
    assert_eq!((index.points(), index.rows()), (2, 5));
    assert!(index.ordered(false, None).is_none());
    assert!(open(&FieldKind::Float.into(), &rows).facet(&Bits::full(5)).is_none());
    let wrong = FieldIndex::open(
        &FieldKind::Integer.into(),
        &Bytes::copy_of(&encode(&FieldKind::Keyword.into(), &rows)),
    );
    assert!(wrong.err().unwrap().contains("not one of kind integer"));
}

#[test]
fn a_value_in_several_objects_of_a_row_is_there_once() {
    let schema = json!({"type": "integer", "nested": "l"});
    let schema: FieldSchema = serde_json::from_value(schema).unwrap();
    let rows = [vec![vec![json!(3)], vec![json!(3)], vec![]], vec![], vec![vec![json!([3, 5])]]];
    let mut encoder = FieldEncoder::new(&schema, 3).unwrap();
    for (slot, objects) in (0..).zip(&rows) {
        objects.iter().for_each(|values| encoder.add(slot, &values.iter().collect::<Vec<_>>()));
    }
    let index = FieldIndex::open(&schema, &Bytes::copy_of(&encoder.finish())).unwrap();
    assert_eq!((index.rows(), index.entries(), index.points()), (3, 4, 2));
    let int = OrderValue::Int;
    let ordered: Vec<_> = index.ordered(false, None).unwrap().collect();
    assert_eq!(ordered, [(int(3), 0), (int(3), 2), (int(5), 2)]);
    let counted = index.facet(&Bits::full(3)).unwrap();
    assert_eq!(counted, [(FacetValue::Integer(3), 2), (FacetValue::Integer(5), 1)]);
    let slots = |test: &Test| index.answer(&Check::Plain(test)).unwrap().sure.iter().collect::<Vec<_>>();
    // A row without objects has none that lacks the field.
    assert_eq!(slots(&Test::IsEmpty(true)), [0]);
    assert_eq!(slots(&Test::IsEmpty(false)), [0, 2]);
}

/// Asks an index everything.
fn ask(index: &FieldIndex, filters: &[Prepared<'_>]) {
    for filter in filters {
        for node in &filter.clauses.must {
            let Node::Field(field) = node else {
                continue;
            };
            for check in &field.checks {
                let _ = index.estimate(check);
                if let Some(answer) = index.answer(check) {
                    assert!(answer.sure.iter().chain(answer.doubt.iter()).all(|slot| slot < index.rows()));
                    let _ = index.entries_that_pass(check);
                }
            }
        }
    }
    for start in [None, Some(OrderValue::Int(1))] {
        for descending in [true, false] {
            let _ = index.ordered(descending, start).map(Iterator::count);
        }
    }
    let _ = index.facet(&Bits::full(index.rows()));
}

#[test]
fn damaged_bytes_are_refused_or_answered_but_never_panic() {
    let conditions: Vec<Value> = [
        json!({"match": {"value": "ab"}}),
        json!({"match": {"any": [1, "a", true]}}),
        json!({"match": {"except": ["a", 1, "00000000-0000-0000-0000-000000000001"]}}),
        json!({"match": {"prefix": "a"}}),
        json!({"match": {"substring": "b"}}),
        json!({"match": {"text": "fox red"}}),
        json!({"match": {"text_any": "fox red"}}),
        json!({"match": {"phrase": "red fox"}}),
        json!({"range": {"gte": 0, "lt": 3}}),
        json!({"range": {"gte": "2024-02-01"}}),
        json!({"values_count": {"gte": 1}}),
        json!({"is_empty": true}),
        json!({"is_null": false}),
        json!({"geo_radius": {"center": {"lon": 0, "lat": 0}, "radius": 5_000_000}}),
        json!({"geo_bounding_box": {"top_left": {"lon": 170, "lat": 50}, "bottom_right": {"lon": -100, "lat": -50}}}),
    ]
    .into();
    let filters: Vec<Filter> = conditions
        .into_iter()
        .map(|mut condition| {
            condition["key"] = json!("x");
            serde_json::from_value(json!({ "must": condition })).unwrap()
        })
        .collect();
    let seed = 5;
    let mut rng = StdRng::seed_from_u64(seed);
    for (kind, nested) in FieldKind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut schema = schema(kind);
        schema.common.nested = nested.then(|| "l".to_owned());
        let of_field = Schema::from([("x".to_owned(), schema.clone())]);
        let filters: Vec<_> =
            filters.iter().map(|filter| Prepared::new(filter, &of_field).unwrap()).collect();
        let mut rows = rows(&mut rng, kind);
        rows.truncate(40);
        let bytes = encode(&schema, &rows);
        ask(&FieldIndex::open(&schema, &Bytes::copy_of(&bytes)).unwrap(), &filters);
        for cut in 0..bytes.len() {
            if let Ok(index) = FieldIndex::open(&schema, &Bytes::copy_of(&bytes[..cut])) {
                ask(&index, &filters);
            }
        }
        for _ in 0..3_000 {
            let mut damaged = bytes.clone();
            for _ in 0..rng.random_range(1..4) {
                let place = rng.random_range(0..damaged.len());
                damaged[place] ^= 1 << rng.random_range(0..8);
            }
            if let Ok(index) = FieldIndex::open(&schema, &Bytes::copy_of(&damaged)) {
                ask(&index, &filters);
            }
        }
    }
}
