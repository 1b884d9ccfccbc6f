//! What new inputs are made from.

use serde_json::Value;

use crate::Target;

/// The seeds and words of a target.
#[derive(Debug)]
pub struct Material {
    /// The inputs of the corpus.
    pub seeds: Vec<Vec<u8>>,
    /// Those that are JSON.
    pub(crate) values: Vec<Value>,
    /// The words of the dictionary.
    pub words: Vec<Vec<u8>>,
}

impl Material {
    /// That of a target.
    pub fn of(target: &Target) -> Self {
        let seeds: Vec<_> = target.seeds().into_iter().map(|(_, seed)| seed).collect();
        let values = seeds.iter().filter_map(|seed| serde_json::from_slice(seed).ok()).collect();
        Self { seeds, values, words: target.words() }
    }
}
