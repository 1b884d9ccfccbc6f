//! What was measured, as tables, and what of it was to be reached.

use std::collections::BTreeMap;

use cairn_benches::timing::Times;
use serde_json::Value;

use super::{ALONE, HTTP, OTHERS, OURS, SETS};

type Texts = BTreeMap<String, Vec<String>>;

/// All tables.
pub(crate) fn all(found: &[Value], texts: &Texts) -> String {
    let mut ordered: Vec<&Value> = found.iter().filter(|one| name(one) != HTTP).collect();
    let place = |one: &&Value| {
        let all = OURS.iter().chain(&OTHERS);
        let kind =
            name(one).rsplit('-').next().map(|kind| ["f32", "bf16", "int8"].iter().position(|k| *k == kind));
        (
            one["threads"].as_u64(),
            kind,
            all.enumerate().find(|(_, other)| **other == name(one)).map(|(at, _)| at),
        )
    };
    ordered.sort_by_key(place);
    let http = found.iter().find(|one| name(one) == HTTP);
    let tables = [
        speed(&ordered, texts),
        tokens(&ordered),
        alone(&ordered),
        exactness(&ordered),
        busy(&ordered),
        through_http(http),
        goals(&ordered, http, texts),
    ];
    tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
}

fn name(found: &Value) -> &str {
    found["system"].as_str().unwrap_or("unknown")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Texts per second of a set.
fn rate(one: &Value, set: &str, texts: &Texts) -> f64 {
    texts[set].len() as f64 / number(&one["seconds"][set])
}

/// Texts per second, and memory.
fn speed(found: &[&Value], texts: &Texts) -> String {
    let mut table =
        "| texts/s | threads | short | medium | long | mixed | mixed sorted | peak MB | load s |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for one in found {
        let rates: Vec<String> = SETS.iter().map(|set| format!("{:.0}", rate(one, set, texts))).collect();
        table += &format!(
            "| {} | {} | {} | {:.0} | {:.2} |\n",
            name(one),
            one["threads"],
            rates.join(" | "),
            number(&one["peak_bytes"]) / 1e6,
            number(&one["load_s"]),
        );
    }
    table
}

/// Tokens per second; all systems are fed the same.
fn tokens(found: &[&Value]) -> String {
    let Some(counts) = found.iter().map(|one| &one["tokens"]).find(|counts| counts.is_object()) else {
        return String::new();
    };
    let mut table = "| tokens/s | threads | short | medium | long | mixed | mixed sorted |\n\
         |---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for one in found {
        let rates = SETS.map(|set| format!("{:.0}", number(&counts[set]) / number(&one["seconds"][set])));
        table += &format!("| {} | {} | {} |\n", name(one), one["threads"], rates.join(" | "));
    }
    table
}

fn times(micros: &Value) -> Times {
    Times::of_micros(micros.as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
}

/// One text at a time.
fn alone(found: &[&Value]) -> String {
    let mut table =
        "| one text, p50 / p99 ms | threads | short | medium | long |\n|---|--:|--:|--:|--:|\n".to_owned();
    for one in found {
        let cells = ALONE.map(|set| {
            let times = times(&one["alone_us"][set]);
            format!("{:.2} / {:.2}", times.micros_at(0.5) / 1e3, times.micros_at(0.99) / 1e3)
        });
        table += &format!("| {} | {} | {} |\n", name(one), one["threads"], cells.join(" | "));
    }
    table
}

/// The lowest and the mean cosine of vectors with ours in f32, which the tests hold
/// against the reference.
fn cosines(one: &Value, found: &[&Value]) -> Option<(f64, f64)> {
    let vectors =
        |one: &Value| -> Vec<Vec<f64>> { serde_json::from_value(one["vectors"].clone()).unwrap_or_default() };
    let exact = found.iter().find(|one| name(one) == OURS[0]).map(|one| vectors(one))?;
    let cosine = |(a, b): (&Vec<f64>, &Vec<f64>)| -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let all: Vec<f64> = vectors(one).iter().zip(&exact).map(cosine).collect();
    let (lowest, sum) = all.iter().fold((1.0, 0.0), |(low, sum), x| (f64::min(low, *x), sum + x));
    Some((lowest, sum / all.len() as f64))
}

fn exactness(found: &[&Value]) -> String {
    let mut table = "| cosine with f32 | mean | lowest |\n|---|--:|--:|\n".to_owned();
    for one in found.iter().filter(|one| one["threads"] == found[0]["threads"]) {
        let Some((lowest, mean)) = cosines(one, found) else { return String::new() };
        table += &format!("| {} | {mean:.6} | {lowest:.6} |\n", name(one));
    }
    table
}

/// How many times as long queries take, at their p99, while all threads embed
/// passages.
fn busy_ratio(one: &Value) -> f64 {
    times(&one["busy_us"]).micros_at(0.99) / times(&one["idle_us"]).micros_at(0.99)
}

fn busy(found: &[&Value]) -> String {
    let mut table = "| one short text, ms | threads | idle p50 / p99 | during bulk p50 / p99 | p99 ratio |\n\
         |---|--:|--:|--:|--:|\n"
        .to_owned();
    for one in found.iter().filter(|one| one["busy_us"].is_array()) {
        let (idle, busy) = (times(&one["idle_us"]), times(&one["busy_us"]));
        table += &format!(
            "| {} | {} | {:.2} / {:.2} | {:.2} / {:.2} | {:.1} |\n",
            name(one),
            one["threads"],
            idle.micros_at(0.5) / 1e3,
            idle.micros_at(0.99) / 1e3,
            busy.micros_at(0.5) / 1e3,
            busy.micros_at(0.99) / 1e3,
            busy_ratio(one),
        );
    }
    table
}

fn through_http(http: Option<&Value>) -> String {
    let Some(cases) = http.and_then(|http| http["cases"].as_array()) else { return String::new() };
    let mut table = "| through HTTP, 32 clients | texts/s | in process, 32 callers | share | server us a text | client us a text |\n\
         |---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for case in cases {
        table += &format!(
            "| {} | {:.0} | {:.0} | {:.0} % | {:.0} | {:.0} |\n",
            case["case"].as_str().unwrap_or_default(),
            number(&case["http"]),
            number(&case["in_process"]),
            100.0 * number(&case["http"]) / number(&case["in_process"]),
            number(&case["server_us"]),
            number(&case["client_us"]),
        );
    }
    table
}

/// What was to be reached, as far as it was measured.
fn goals(found: &[&Value], http: Option<&Value>, texts: &Texts) -> String {
    let get = |system: &str, threads: u64| {
        found.iter().copied().find(|one| name(one) == system && one["threads"].as_u64() == Some(threads))
    };
    let mut rows = Vec::new();
    let mut row = |what: String, must: &str, seen: f64, reached: bool| {
        if seen.is_finite() {
            rows.push(format!(
                "| {what} | {must} | {seen:.3} | {} |",
                if reached { "reached" } else { "missed" }
            ));
        }
    };
    let ratio = |ours: &str, peers: &[&str], threads: u64, set: &str| {
        let ours = get(ours, threads).map_or(f64::NAN, |one| rate(one, set, texts));
        let best = peers.iter().filter_map(|peer| get(peer, threads)).map(|one| rate(one, set, texts));
        ours / best.fold(f64::NAN, f64::max)
    };
    let f32s = ["sentence-transformers-f32", "onnxruntime-f32", "openvino-f32"];
    for set in ["medium", "long"] {
        let seen = ratio("cairn-f32", &f32s, 1, set);
        row(format!("f32, 1 thread, {set}, to the best"), "1.1", seen, seen >= 1.1);
    }
    for (ours, peers, must) in [
        ("cairn-bf16", &["openvino-bf16", "sentence-transformers-bf16"][..], 1.15),
        ("cairn-int8", &["openvino-int8", "onnxruntime-int8"][..], 1.2),
    ] {
        for threads in [1, 2] {
            for set in ALONE {
                let seen = ratio(ours, peers, threads, set);
                row(
                    format!("{ours}, {threads} threads, {set}, to the best"),
                    &must.to_string(),
                    seen,
                    seen >= must,
                );
            }
        }
    }
    let middle =
        |system: &str| get(system, 1).map_or(f64::NAN, |one| times(&one["alone_us"]["short"]).micros_at(0.5));
    for (ours, peer) in [("cairn-int8", "onnxruntime-int8"), ("cairn-bf16", "openvino-bf16")] {
        let seen = middle(ours) / middle(peer);
        row(format!("{ours}, one short text, p50, to {peer}"), "0.5", seen, seen <= 0.5);
    }
    let lowest =
        |system: &str| get(system, 1).and_then(|one| cosines(one, found)).unwrap_or((f64::NAN, f64::NAN));
    let best = ["openvino-int8", "onnxruntime-int8"].map(lowest);
    let (low, mean) = lowest(OURS[2]);
    row(
        "cairn-int8, mean cosine, less the best".into(),
        "0",
        mean - best[0].1.max(best[1].1),
        mean >= best[0].1.max(best[1].1),
    );
    row(
        "cairn-int8, lowest cosine, less the best".into(),
        "0",
        low - best[0].0.max(best[1].0),
        low >= best[0].0.max(best[1].0),
    );
    for threads in [1, 2] {
        for ours in OURS {
            let Some(one) = get(ours, threads) else { continue };
            let seen = rate(one, "mixed", texts) / rate(one, "mixed sorted", texts);
            row(format!("{ours}, {threads} threads, mixed to sorted"), "1", seen, seen >= 0.97);
        }
    }
    for threads in [1, 2] {
        let peak = get("cairn-bf16", threads).map_or(f64::NAN, |one| number(&one["peak_bytes"]) / 1e6);
        row(format!("cairn-bf16, {threads} threads, peak MB"), "200", peak, peak < 200.0);
    }
    for threads in [1, 2] {
        for ours in OURS {
            let seen = get(ours, threads).map_or(f64::NAN, busy_ratio);
            row(format!("{ours}, {threads} threads, p99 during bulk to idle"), "3", seen, seen < 3.0);
        }
    }
    for case in http.and_then(|http| http["cases"].as_array()).into_iter().flatten() {
        let seen = number(&case["http"]) / number(&case["in_process"]);
        let what = case["case"].as_str().unwrap_or_default();
        row(format!("through HTTP, {what}"), "0.9", seen, seen >= 0.9);
    }
    format!("| goal | must | seen | |\n|---|--:|--:|---|\n{}\n", rows.join("\n"))
}
