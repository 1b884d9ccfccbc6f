//! Formulas, against numbers worked by hand and a second evaluator.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use cairn_ann::Metric;

use crate::GeoPoint;
use crate::query::{Decay, Expression, Formula, Prefetch, Query, QueryRequest, run};

use super::memory::Memory;
use super::{ask, scores, tagged};

fn path(text: &str) -> Expression {
    Expression::Payload(text.parse().unwrap())
}

fn boxed(expression: Expression) -> Box<Expression> {
    Box::new(expression)
}

/// The score of a formula for one point that two prefetches found with 3 and 6.
fn evaluate(expression: Expression, payload: Value, defaults: Value) -> Result<f32, String> {
    let memory = Memory::new(1, Metric::Dot).with(1, &[3.0], payload);
    let defaults: BTreeMap<String, Value> = serde_json::from_value(defaults).unwrap();
    let request = QueryRequest::new(Query::Formula(Formula { expression, defaults }))
        .prefetch(Prefetch::new(Query::nearest(vec![1.0])))
        .prefetch(Prefetch::new(Query::nearest(vec![2.0])));
    let hits = run(&memory, &request, &mut fastrand::Rng::with_seed(1)).map_err(|error| error.to_string())?;
    Ok(hits[0].score)
}

fn value(expression: Expression) -> f32 {
    let payload = json!({
        "n": 4, "one": [5.5], "many": [1, 2], "tag": "a", "when": "2024-01-02 00:00", "text": "x",
        "at": {"lon": 13.4050, "lat": 52.5200},
    });
    evaluate(expression, payload, json!({})).unwrap()
}

#[test]
fn every_operation_computes_what_it_says() {
    let n = |number: f64| Expression::Number(number);
    for (expression, want) in [
        (n(2.5), 2.5),
        (Expression::Score(0), 3.0),
        (Expression::Score(1), 6.0),
        (Expression::Score(2), 0.0),
        (path("n"), 4.0),
        (path("one"), 5.5),
        (path("one[0]"), 5.5),
        (Expression::Condition(boxed_filter("a")), 1.0),
        (Expression::Condition(boxed_filter("b")), 0.0),
        (Expression::Mult(vec![n(2.0), path("n"), Expression::Score(0)]), 24.0),
        (Expression::Mult(vec![]), 1.0),
        (Expression::Sum(vec![n(2.0), path("n")]), 6.0),
        (Expression::Sum(vec![]), 0.0),
        (Expression::Max(vec![n(2.0), path("n"), n(-9.0)]), 4.0),
        (Expression::Min(vec![n(2.0), path("n"), n(-9.0)]), -9.0),
        (Expression::Neg(boxed(n(2.0))), -2.0),
        (Expression::Abs(boxed(n(-2.0))), 2.0),
        (Expression::Sqrt(boxed(n(9.0))), 3.0),
        (Expression::Pow { base: boxed(n(2.0)), exponent: boxed(n(-1.0)) }, 0.5),
        (Expression::Exp(boxed(n(1.0))), std::f32::consts::E),
        (Expression::Log10(boxed(n(1000.0))), 3.0),
        (Expression::Ln(boxed(n(std::f64::consts::E))), 1.0),
        (Expression::Acosh(boxed(n(1.0))), 0.0),
        (Expression::datetime("2024-01-01T00:00:30Z").unwrap(), 1_704_067_230.0),
        (Expression::DatetimeKey("when".parse().unwrap()), 1_704_153_600.0),
    ] {
        assert_eq!(value(expression.clone()), want, "{expression:?}");
    }
}

fn boxed_filter(tag: &str) -> Box<crate::Filter> {
    Box::new(tagged(tag))
}

#[test]
fn distances_on_the_earth_are_metres() {
    // Berlin to Paris is 877.46 km on a sphere of the mean radius.
    let origin = GeoPoint { lon: 2.3522, lat: 48.8566 };
    let metres = value(Expression::GeoDistance { origin, to: "at".parse().unwrap() });
    assert!((metres - 877_464.0).abs() < 100.0, "{metres}");
}

#[test]
fn decays_are_one_at_the_target_and_the_midpoint_at_the_scale() {
    for kind in [Expression::LinDecay, Expression::ExpDecay, Expression::GaussDecay] {
        let at = |x: f64| value(kind(Decay::new(x.into()).target(10.0.into()).at(4.0, 0.25)));
        assert_eq!(at(10.0), 1.0);
        assert!((at(6.0) - 0.25).abs() < 1e-7 && (at(14.0) - 0.25).abs() < 1e-7);
        let default = value(kind(Decay::new(1.0.into())));
        assert!((default - 0.5).abs() < 1e-7);
    }
    let decay = || Decay::new(3.0.into()).at(2.0, 0.5);
    assert_eq!(value(Expression::LinDecay(decay())), 0.25);
    assert_eq!(value(Expression::LinDecay(Decay::new(9.0.into()).at(2.0, 0.5))), 0.0);
    assert_eq!(value(Expression::ExpDecay(decay())), (0.5f64.ln() * 1.5).exp() as f32);
    assert_eq!(value(Expression::GaussDecay(decay())), (0.5f64.ln() / 4.0 * 9.0).exp() as f32);
}

#[test]
fn a_zero_stops_a_product_and_a_quotient_before_what_would_fail() {
    let failing = || Expression::Ln(boxed(0.0.into()));
    assert_eq!(value(Expression::Mult(vec![2.0.into(), 0.0.into(), failing()])), 0.0);
    let div = |left: f64, right: Expression, by_zero_default| Expression::Div {
        left: boxed(left.into()),
        right: boxed(right),
        by_zero_default,
    };
    assert_eq!(value(div(0.0, failing(), None)), 0.0);
    assert_eq!(value(div(1.0, 0.0.into(), Some(7.0))), 7.0);
    assert_eq!(value(div(1.0, 4.0.into(), Some(7.0))), 0.25);
}

#[test]
fn defaults_stand_in_for_what_a_point_lacks() {
    let defaults =
        json!({"$score[2]": 1.5, "n": 8, "at": {"lon": 0, "lat": 0}, "when": "1970-01-01T00:00:09Z"});
    let origin = GeoPoint { lon: 0.0, lat: 0.0 };
    for (expression, payload, want) in [
        (Expression::Score(2), json!({}), 1.5),
        (path("n"), json!({}), 8.0),
        (path("n"), json!({"n": []}), 8.0),
        (path("n"), json!({"n": 2}), 2.0),
        (Expression::GeoDistance { origin, to: "at".parse().unwrap() }, json!({}), 0.0),
        (Expression::DatetimeKey("when".parse().unwrap()), json!({}), 9.0),
    ] {
        assert_eq!(evaluate(expression, payload, defaults.clone()).unwrap(), want);
    }
}

#[test]
fn what_cannot_be_computed_is_named() {
    let n = |number: f64| boxed(number.into());
    let wrong = "Expected number value for n in the payload and/or in the formula defaults. Error: ";
    let missing = format!("{wrong}No value found in a payload nor defaults");
    let no_number = format!("{wrong}Value is not a number");
    let place = "Expected geo point value for n in the payload and/or in the formula defaults";
    let time = "Expected datetime value for n in the payload and/or in the formula defaults";
    let origin = GeoPoint { lon: 0.0, lat: 0.0 };
    for (expression, payload, text) in [
        (path("n"), json!({}), missing.as_str()),
        (path("n"), json!({"n": "x"}), &no_number),
        (path("n"), json!({"n": null}), &no_number),
        (path("n"), json!({"n": [1, 2]}), &no_number),
        (Expression::GeoDistance { origin, to: "n".parse().unwrap() }, json!({"n": 1}), place),
        (Expression::DatetimeKey("n".parse().unwrap()), json!({"n": "soon"}), time),
        (Expression::Sqrt(n(-1.0)), json!({}), "The expression √-1 = NaN produced a non-finite number"),
        (Expression::Ln(n(0.0)), json!({}), "ln(0) = -inf produced a non-finite number"),
        (Expression::Log10(n(0.0)), json!({}), "produced a non-finite number"),
        (Expression::Exp(n(1e4)), json!({}), "produced a non-finite number"),
        (Expression::Acosh(n(0.5)), json!({}), "produced a non-finite number"),
        (Expression::Pow { base: n(0.0), exponent: n(-1.0) }, json!({}), "0^-1 = inf produced a non-finite"),
        (Expression::Div { left: n(1.0), right: n(0.0), by_zero_default: None }, json!({}), "1/0 = inf"),
        (Expression::Number(1e300), json!({}), "as f32 = inf produced a non-finite number"),
        (Expression::Max(vec![]), json!({}), "at least one expression"),
        (
            Expression::LinDecay(Decay::new(1.0.into()).at(1.0, 1.0)),
            json!({}),
            "Decay midpoint should be between 0.0 and 1.0 (exclusive), got 1.",
        ),
        (
            Expression::Sum(vec![Expression::ExpDecay(Decay::new(1.0.into()).at(0.0, 0.5))]),
            json!({}),
            "Decay scale should be non-zero positive, got 0.",
        ),
    ] {
        let error = evaluate(expression, payload, json!({})).unwrap_err();
        assert!(error.contains(text), "{error} should contain {text}");
    }
    for (default, text) in [
        ("$points", "Invalid reserved word: $points"),
        ("$score[x]", "Invalid reserved variable: $score[x]"),
        ("$score.x", "Invalid reserved variable: $score.x"),
        ("a[", "Invalid payload variable: a["),
    ] {
        assert_eq!(evaluate(1.0.into(), json!({}), json!({default: 1})).unwrap_err(), text);
    }
}

#[test]
fn points_without_a_prefetch_score_are_still_scored_by_the_rest() {
    let memory = Memory::new(1, Metric::Dot)
        .with(1, &[1.0], json!({"n": 10}))
        .with(2, &[2.0], json!({"n": 20}))
        .with(3, &[3.0], json!({"n": 5}));
    let sum = Expression::Sum(vec![Expression::Score(0), path("n")]);
    let request = QueryRequest::new(Query::formula(sum))
        .prefetch(Prefetch::new(Query::nearest(vec![1.0])).limit(1))
        .prefetch(Prefetch::new(Query::nearest(vec![-1.0])).limit(2));
    assert_eq!(scores(&ask(&memory, &request)), [20.0, 10.0, 8.0]);
}

/// An expression that cannot fail, and its value for `x` and a score of 3.
fn some_expression(rng: &mut fastrand::Rng, depth: usize, x: f64) -> (Expression, f64) {
    if depth == 0 {
        let number = f64::from(rng.i32(-8..8)) / 4.0;
        return match rng.u32(..3) {
            0 => (path("x"), x),
            1 => (Expression::Score(0), 3.0),
            _ => (number.into(), number),
        };
    }
    let mut below = || some_expression(rng, depth - 1, x);
    let ((a, va), (b, vb)) = (below(), below());
    let decayed = |a| Decay::new(a).target(b.clone()).at(2.0, 0.25);
    let away = (va - vb).abs();
    match rng.u32(..9) {
        0 => (Expression::Sum(vec![a, b]), va + vb),
        1 => (Expression::Mult(vec![a, b]), va * vb),
        2 => (Expression::Max(vec![a, b]), va.max(vb)),
        3 => (Expression::Min(vec![a, b]), va.min(vb)),
        4 => (Expression::Neg(boxed(a)), -va),
        5 => (Expression::Sqrt(boxed(Expression::Abs(boxed(a)))), va.abs().sqrt()),
        6 => (Expression::LinDecay(decayed(a)), (1.0 - 0.375 * away).max(0.0)),
        7 => (Expression::ExpDecay(decayed(a)), 0.25f64.powf(away / 2.0)),
        _ => (Expression::GaussDecay(decayed(a)), 0.25f64.powf(away * away / 4.0)),
    }
}

#[test]
fn random_expressions_have_the_value_they_were_made_with() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let x = f64::from(rng.i32(-20..20)) / 8.0;
        let depth = rng.usize(..5);
        let (expression, want) = some_expression(&mut rng, depth, x);
        let got = evaluate(expression.clone(), json!({"x": x}), json!({})).unwrap();
        let tolerance = 1e-5 * want.abs().max(1.0);
        assert!(
            (f64::from(got) - want).abs() <= tolerance,
            "seed {seed}: {got}, want {want}: {expression:?}"
        );
    }
}
