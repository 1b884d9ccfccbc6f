//! New inputs from known ones: changes of bytes, and changes of JSON that leave it
//! JSON, which reach further.

use fastrand::Rng;
use serde_json::{Map, Value};

use crate::Material;

/// Another input like `input`; the same seed gives the same.
pub fn mutated(input: &[u8], material: &Material, seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    if !material.values.is_empty()
        && rng.u8(..8) > 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(input)
    {
        for _ in 0..rng.usize(1..4) {
            change(&mut value, material, &mut rng);
        }
        let text =
            if rng.u8(..8) == 0 { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        return text.expect("keys of values are strings");
    }
    let mut bytes = input.to_vec();
    for _ in 0..rng.usize(1..4) {
        spoil(&mut bytes, material, &mut rng);
    }
    bytes
}

/// Changes one node of a tree.
fn change(value: &mut Value, material: &Material, rng: &mut Rng) {
    let donor = &material.values[rng.usize(..material.values.len())];
    let donated = nth(donor, rng.usize(..size(donor))).clone();
    let own = nth(value, rng.usize(..size(value))).clone();
    let at = rng.usize(..size(value));
    let node = nth_mut(value, at);
    match rng.u8(..12) {
        0 | 1 => *node = leaf(rng),
        2 | 3 => *node = donated,
        4 => *node = own,
        5 => *node = Value::Array(vec![std::mem::take(node)]),
        6 => *node = Value::Array(vec![std::mem::take(node), donated]),
        7 => {
            let key = key(donor, rng);
            *node = Value::Object(Map::from_iter([(key, std::mem::take(node))]));
        }
        8 => nudge(node, rng),
        _ => reshape(node, donor, donated, rng),
    }
}

/// Takes something out of a list or an object, or puts something into it.
fn reshape(node: &mut Value, donor: &Value, donated: Value, rng: &mut Rng) {
    match node {
        Value::Array(items) if !items.is_empty() && rng.bool() => {
            drop(items.remove(rng.usize(..items.len())));
        }
        Value::Array(items) if !items.is_empty() && rng.bool() => {
            items.push(items[rng.usize(..items.len())].clone());
        }
        Value::Array(items) => items.insert(rng.usize(..=items.len()), donated),
        Value::Object(fields) if !fields.is_empty() && rng.bool() => {
            let key = fields.keys().nth(rng.usize(..fields.len())).cloned().unwrap_or_default();
            let value = fields.shift_remove(&key).unwrap_or_default();
            if rng.bool() {
                fields.insert(self::key(donor, rng), value);
            }
        }
        Value::Object(fields) => drop(fields.insert(key(donor, rng), donated)),
        other => nudge(other, rng),
    }
}

/// A value next to the one there.
fn nudge(node: &mut Value, rng: &mut Rng) {
    *node = match &*node {
        Value::Bool(is) => Value::Bool(!is),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole.wrapping_add(rng.i64(-2..3))),
            (None, Some(real)) => Value::from(real * [-1.0, 0.5, 1e10, 1e-10][rng.usize(..4)]),
            _ => leaf(rng),
        },
        Value::String(text) => {
            let mut chars: Vec<char> = text.chars().collect();
            match rng.u8(..3) {
                0 => drop(chars.pop()),
                1 => chars
                    .insert(rng.usize(..=chars.len()), ['[', ']', '.', '"', 'é', '0', 'T'][rng.usize(..7)]),
                _ => chars.extend_from_within(..),
            }
            Value::String(chars.into_iter().take(200).collect())
        }
        _ => leaf(rng),
    };
}

/// Values that programs are wrong about.
fn leaf(rng: &mut Rng) -> Value {
    const NUMBERS: [f64; 14] = [
        0.0,
        -0.0,
        0.5,
        -1.5,
        1e-45,
        1e-40,
        3.4e38,
        3.5e38,
        -3.5e38,
        1e300,
        2e-308,
        9.007_199_254_740_993e15,
        180.0,
        -90.0,
    ];
    const TEXTS: [&str; 10] = [
        "",
        "a",
        "a[].b",
        "a.b",
        "$score",
        "2024-01-01",
        "936da01f-9abd-4d9d-80c7-02af85c822a8",
        "\u{0}",
        "é",
        "red fox",
    ];
    match rng.u8(..8) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 => Value::from(rng.i64(-3..20)),
        3 => Value::from(
            [u64::MAX, i64::MAX as u64, 1 << 53, u64::from(u32::MAX), 1 << 31, 65_536][rng.usize(..6)],
        ),
        4 => Value::from(i64::MIN + rng.i64(0..2)),
        5 => Value::from(NUMBERS[rng.usize(..NUMBERS.len())]),
        6 => Value::from(TEXTS[rng.usize(..TEXTS.len())]),
        _ => {
            if rng.bool() {
                Value::Array(Vec::new())
            } else {
                Value::Object(Map::new())
            }
        }
    }
}

/// A key of some object, or one that is none of any.
fn key(of: &Value, rng: &mut Rng) -> String {
    let mut keys = Vec::new();
    keys_of(of, &mut keys);
    if keys.is_empty() || rng.u8(..10) == 0 { "b".to_owned() } else { keys[rng.usize(..keys.len())].clone() }
}

fn keys_of<'v>(value: &'v Value, keys: &mut Vec<&'v String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| keys_of(item, keys)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            keys.push(key);
            keys_of(value, keys);
        }),
        _ => {}
    }
}

/// How many nodes a tree has.
fn size(value: &Value) -> usize {
    1 + children(value).map(size).sum::<usize>()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// One of them, counted from the root.
fn nth(value: &Value, mut at: usize) -> &Value {
    if at == 0 {
        return value;
    }
    at -= 1;
    for child in children(value) {
        let nodes = size(child);
        if at < nodes {
            return nth(child, at);
        }
        at -= nodes;
    }
    value
}

fn nth_mut(value: &mut Value, mut at: usize) -> &mut Value {
    if at == 0 {
        return value;
    }
    at -= 1;
    let mut place = 0;
    for (number, child) in children(value).enumerate() {
        let nodes = size(child);
        place = number;
        if at < nodes {
            break;
        }
        at -= nodes;
    }
    let child = match value {
        Value::Array(items) => items.get_mut(place),
        Value::Object(fields) => fields.values_mut().nth(place),
        _ => None,
    };
    nth_mut(child.expect("a node that is not the root has a parent"), at)
}

/// Changes a few bytes.
fn spoil(bytes: &mut Vec<u8>, material: &Material, rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at < bytes.len() => {
            let end = (at + rng.usize(1..20)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, piece);
        }
        4 => bytes.truncate(at),
        5 => bytes.insert(at, b"0123456789.-eE[]{}\",: "[rng.usize(..22)]),
        6 => {
            let seed = &material.seeds[rng.usize(..material.seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&seed[rng.usize(..=seed.len())..]);
        }
        _ => {
            let word = material.words[rng.usize(..material.words.len())].clone();
            bytes.splice(at..at, word);
        }
    }
}
