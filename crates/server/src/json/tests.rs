use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::wire::query::QueryPoints;
use crate::wire::writes::{Operations, SetPayload, UpsertPoints};

fn quick<T: DeserializeOwned>(text: &[u8]) -> Read<T> {
    super::quick(&Text::Whole(text.to_vec().into()))
}

fn read<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    super::read(&Text::Whole(text.to_vec().into()))
}

/// What is taken here must be what serde_json reads.
fn agrees<T: DeserializeOwned + std::fmt::Debug>(text: &[u8]) -> bool {
    match (quick::<T>(text), serde_json::from_slice::<T>(text)) {
        (Ok(quick), Ok(known)) => {
            assert_eq!(format!("{quick:?}"), format!("{known:?}"), "{}", String::from_utf8_lossy(text));
            true
        }
        (Ok(_), Err(error)) => panic!("{} was taken: {error}", String::from_utf8_lossy(text)),
        (Err(Refused), _) => false,
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..6)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Numbers of all shapes, also of more digits than count.
const NUMBER: &str = "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?";

/// Ways to write one thing with one byte wrong, missing or too much.
fn spoiled(text: &[u8], at: prop::sample::Index, byte: u8, how: u8) -> Vec<u8> {
    let (mut text, at) = (text.to_vec(), at.index(text.len()));
    match how {
        0 => text[at] = byte,
        1 => drop(text.remove(at)),
        2 => text.insert(at, byte),
        _ => text.truncate(at),
    }
    text
}

#[cfg(target_arch = "x86_64")]
fn has_quick_arrays() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_quick_arrays() -> bool {
    false
}

proptest! {
    #[test]
    fn values_are_read_as_serde_json_reads_them(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert!(agrees::<Value>(text.unwrap().as_bytes()));
    }

    #[test]
    fn nothing_is_taken_that_is_wrong(
        value in value(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0u8..4,
    ) {
        agrees::<Value>(&spoiled(value.to_string().as_bytes(), at, byte, how));
    }

    #[test]
    fn a_number_becomes_the_nearest_f32(text in NUMBER, after in "[,\\] ]") {
        let nearest = number::nearest_f32(format!("{text}{after}{:40}", "").as_bytes());
        let known: f32 = text.parse().unwrap();
        if known.is_finite() {
            let (number, length) = nearest.unwrap();
            prop_assert_eq!(number.to_bits(), known.to_bits());
            prop_assert_eq!(length, text.len());
        } else {
            prop_assert_eq!(nearest, None);
        }
    }

    #[test]
    fn so_does_one_with_a_digit_before_the_point(text in "-?[0-9]\\.[0-9]{1,26}", after in "[,\\] ]") {
        let (number, length) = number::nearest_f32(format!("{text}{after}{:40}", "").as_bytes()).unwrap();
        prop_assert_eq!(number.to_bits(), text.parse::<f32>().unwrap().to_bits());
        prop_assert_eq!(length, text.len());
    }

    #[test]
    fn numbers_of_an_array_are_those_that_are_read_one_by_one(
        texts in prop::collection::vec(prop_oneof![4 => "-?[0-9]\\.[0-9]{1,26}", 1 => NUMBER], 1..80),
        before in "\\[?[a-z]{0,40}", space in " {0,2}", behind in prop_oneof![8 => Just(""), 1 => Just(" ")],
        end in prop_oneof![Just("]"), Just(", x,"), Just(",,"), Just("")], filling in 0usize..80,
    ) {
        let array = texts.join(&format!("{behind},{space}"));
        let text = format!("{before}{array}{end}{:filling$}", "");
        let mut numbers = Vec::new();
        let at = number::take_several(text.as_bytes(), before.len(), &mut numbers);
        let known: Vec<f32> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let known = &known[..known.iter().take_while(|number| number.is_finite()).count()];
        prop_assert!(numbers.len() <= known.len());
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&numbers), bits(&known[..numbers.len()]));
        // Behind the comma of the last one.
        let mut commas = text.match_indices(',').map(|(place, _)| place + 1);
        let after = numbers.len().checked_sub(1).map_or(before.len(), |last| commas.nth(last).unwrap());
        prop_assert_eq!(at, after);
        if has_quick_arrays() && filling >= 64 {
            let with_comma = texts.len() - usize::from(!end.starts_with(','));
            prop_assert_eq!(numbers.len(), with_comma.min(known.len()));
        }
    }

    #[test]
    fn so_do_those_that_lie_in_the_middle_between_two(bits in 0u32..0x7f7f_ffff, places in 0usize..40) {
        let below = f64::from(f32::from_bits(bits));
        let middle = f64::midpoint(below, f64::from(f32::from_bits(bits + 1)));
        for middle in [middle, middle.next_up(), middle.next_down()] {
            for text in [format!("-{middle:.places$}"), format!("{middle}"), format!("{middle:e}")] {
                let (number, length) = number::nearest_f32(format!("{text},{:40}", "").as_bytes()).unwrap();
                prop_assert_eq!(number.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
                prop_assert_eq!(length, text.len());
            }
        }
    }

    #[test]
    fn vectors_are_read_in_every_place(numbers in prop::collection::vec(any::<f32>().prop_filter("", |n| n.is_finite()), 1..50)) {
        let query = json!({ "query": numbers, "limit": 3 }).to_string();
        let target = quick::<QueryPoints>(query.as_bytes()).unwrap().query;
        let dense = format!("Dense({numbers:?})");
        prop_assert!(format!("{target:?}").contains(&dense), "{}", dense);
        let named = json!({ "a": numbers, "b": [numbers, numbers], "c": { "indices": [1], "values": [numbers[0]] } });
        let points = json!([{ "id": 1, "vector": numbers }, { "id": 2, "vector": named, "payload": { "n": numbers } }]);
        let text = json!({ "operations": [{ "upsert": { "points": points } }] }).to_string();
        prop_assert!(agrees::<Operations>(text.as_bytes()));
    }

    #[test]
    fn a_body_in_pieces_is_read_as_one_in_a_piece(
        rows in prop::collection::vec(prop::collection::vec(any::<f32>().prop_filter("", |n| n.is_finite()), 1..40), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        spoilt in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        pretty in any::<bool>(),
    ) {
        let points: Vec<Value> = { rows.iter() }
            .map(|row| json!({ "id": 1, "vector": row, "payload": { "row": row, "[1,2,3": format!("[{row:?}") } }))
            .collect();
        let body = json!({ "points": points });
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let mut text = text.unwrap().into_bytes();
        if let Some((at, byte)) = spoilt {
            text = spoiled(&text, at, byte, 0);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut collected = Collected::new(0);
        cuts.windows(2).for_each(|cut| collected.push(&text[cut[0]..cut[1]]));
        let known = super::quick::<UpsertPoints>(&Text::Whole(text.into()));
        let pieced = super::quick::<UpsertPoints>(&Text::Collected(Box::new(collected)));
        prop_assert_eq!(format!("{known:?}"), format!("{pieced:?}"));
        prop_assert!(known.is_ok() || spoilt.is_some());
    }

    #[test]
    fn spoiled_queries_are_not_taken(at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0u8..4) {
        let query = json!({
            "query": { "recommend": { "positive": [1, [0.25, -1.5e-3]], "strategy": "best_score" } },
            "prefetch": [{ "query": [0.5, 17], "using": "\u{e9}\n" }],
            "filter": { "must": [{ "key": "a", "range": { "gt": 0.5 } }] },
        });
        agrees::<QueryPoints>(&spoiled(query.to_string().as_bytes(), at, byte, how));
    }
}

#[test]
fn what_serde_json_refuses_keeps_its_words() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for text in
        ["[1,]", "[01]", "[1.]", "[NaN]", "[1e999]", "[-]", "\"\\ud800\"", "\"\u{1}\"", "{\"a\":1,}", &deep]
    {
        let known = serde_json::from_str::<Value>(text).unwrap_err().to_string();
        assert_eq!(read::<Value>(text.as_bytes()).unwrap_err().to_string(), known);
    }
    let twice = br#"{"limit": 1, "limit": 2}"#;
    assert!(read::<QueryPoints>(twice).unwrap_err().to_string().starts_with("duplicate field `limit`"));
    let not_text = b"{\"using\": \"\xff\"}";
    assert!(read::<QueryPoints>(not_text).unwrap_err().to_string().starts_with("invalid unicode"));
    for passed_over in [&b"{\"using\": \"a\", \"\xff\": 1}"[..], b"{\"unknown\": [\"\xff\"]}"] {
        let error = read::<QueryPoints>(passed_over).unwrap_err().to_string();
        let says = ["the body is not UTF-8", "invalid unicode"];
        assert!(says.iter().any(|says| error.starts_with(says)), "{error}");
    }
    let inside = deep.replace('[', "{\"a\":").replace(']', "}").replace("{\"a\":}", "{}");
    assert!(read::<Value>(inside.as_bytes()).unwrap_err().to_string().starts_with("recursion limit"));
}

/// The visitor of a payload takes null for an empty one where it is asked; serde_json
/// does not ask it.
#[test]
fn a_payload_is_an_object_and_nothing_else() {
    for payload in ["null", "[]", "1", "\"a\""] {
        let text = format!("{{\"payload\":{payload},\"points\":[1]}}");
        assert!(!agrees::<SetPayload>(text.as_bytes()), "{text}");
        assert!(read::<SetPayload>(text.as_bytes()).is_err(), "{text}");
    }
    assert!(agrees::<SetPayload>(br#"{"payload":{},"points":[1]}"#));
}

#[test]
fn arrays_that_begin_and_never_end_are_looked_at_once() {
    let text = "[1,".repeat(1 << 20);
    let mut collected = Collected::new(0);
    let started = std::time::Instant::now();
    text.as_bytes().chunks(1 << 12).for_each(|piece| collected.push(piece));
    assert!(super::quick::<Value>(&Text::Collected(Box::new(collected))).is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}
