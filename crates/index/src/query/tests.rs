//! Every kind of query against code that does it in the plainest way, on
//! random data with a printed seed, and against examples worked by hand.

mod formulas;
mod fused;
mod grouped;
mod memory;
mod mistakes;
mod naive;
mod random;
mod scored;
mod stored;
mod trees;

use serde_json::{Value, json};

use crate::id::PointId;

use super::{QueryHit, QueryRequest, run};
use memory::Memory;

fn ask(memory: &Memory, request: &QueryRequest) -> Vec<QueryHit> {
    run(memory, request, &mut fastrand::Rng::with_seed(1)).unwrap()
}

fn mistake(memory: &Memory, request: &QueryRequest) -> String {
    run(memory, request, &mut fastrand::Rng::with_seed(1)).unwrap_err().to_string()
}

fn ids(hits: &[QueryHit]) -> Vec<PointId> {
    hits.iter().map(|hit| hit.id).collect()
}

fn nums(hits: &[QueryHit]) -> Vec<u64> {
    hits.iter()
        .map(|hit| match hit.id {
            PointId::Num(id) => id,
            PointId::Uuid(_) => panic!("these tests have numbers"),
        })
        .collect()
}

fn scores(hits: &[QueryHit]) -> Vec<f32> {
    hits.iter().map(|hit| hit.score).collect()
}

fn filter(value: Value) -> crate::Filter {
    serde_json::from_value(value).unwrap()
}

fn tagged(tag: &str) -> crate::Filter {
    filter(json!({"must": {"key": "tag", "match": {"value": tag}}}))
}
