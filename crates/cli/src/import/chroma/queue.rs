//! What was written to Chroma last: operations that its tables or its graph do not
//! have yet.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// What an entry of the queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Update,
    Upsert,
    Delete,
}

impl Operation {
    pub(super) fn of(number: i64) -> Self {
        match number {
            0 => Self::Add,
            1 => Self::Update,
            3 => Self::Delete,
            _ => Self::Upsert,
        }
    }
}

/// What becomes of a record that the tables may have.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) gone: bool,
    /// What the tables say of it no longer holds.
    pub(super) anew: bool,
    /// Set over what is there; null removes a key.
    pub(super) metadata: Map<String, Value>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) changes: HashMap<String, Change>,
    /// The ids of changes, as they came.
    pub(super) order: Vec<String>,
    pub(super) vectors: HashMap<String, Vec<f32>>,
    /// Ids whose vector in the graph no longer holds.
    pub(super) dropped: HashSet<String>,
}

impl Queue {
    /// Applies an operation to a record; `there` says whether the tables have it.
    pub(super) fn change(
        &mut self,
        id: &str,
        operation: Operation,
        metadata: Option<Map<String, Value>>,
        there: bool,
    ) {
        let known = self.changes.get(id);
        let exists = known.map_or(there, |change| !change.gone);
        match operation {
            // Chroma leaves aside what is added twice, and updates of nothing.
            Operation::Add if exists => return,
            Operation::Update if !exists => return,
            _ => {}
        }
        if known.is_none() {
            self.order.push(id.to_owned());
        }
        let change = self.changes.entry(id.to_owned()).or_default();
        if operation == Operation::Delete {
            *change = Change { gone: true, anew: true, metadata: Map::new() };
            return;
        }
        change.gone = false;
        change.metadata.extend(metadata.unwrap_or_default());
    }

    /// The same for its vector; `there` says whether the graph has it.
    pub(super) fn take_vector(
        &mut self,
        id: &str,
        operation: Operation,
        vector: Option<Vec<f32>>,
        there: bool,
    ) {
        let exists = self.vectors.contains_key(id) || (there && !self.dropped.contains(id));
        match (operation, vector) {
            (Operation::Delete, _) => {
                self.vectors.remove(id);
                self.dropped.insert(id.to_owned());
            }
            (Operation::Add, _) if exists => {}
            (Operation::Update, _) if !exists => {}
            (_, Some(vector)) => drop(self.vectors.insert(id.to_owned(), vector)),
            (_, None) => {}
        }
    }
}

/// The numbers of a vector as the queue has it.
pub(super) fn numbers(bytes: &[u8], encoding: Option<&str>) -> Option<Vec<f32>> {
    match encoding {
        None | Some("FLOAT32") => {
            let numbers =
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four")));
            Some(numbers.collect())
        }
        Some("INT32") => {
            let numbers =
                bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four")));
            Some(numbers.map(|number| number as f32).collect())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Option<Map<String, Value>> {
        if let Value::Object(map) = value { Some(map) } else { None }
    }

    #[test]
    fn operations_come_to_what_chroma_would_hold() {
        let mut queue = Queue::default();
        queue.change("new", Operation::Add, map(json!({"a": 1, "b": 1})), false);
        queue.change("new", Operation::Add, map(json!({"a": 2})), false);
        queue.change("new", Operation::Update, map(json!({"b": null, "c": 3})), false);
        queue.change("nothing", Operation::Update, map(json!({"a": 1})), false);
        queue.change("old", Operation::Update, map(json!({"a": 5})), true);
        queue.change("gone", Operation::Delete, None, true);
        queue.change("again", Operation::Delete, None, true);
        queue.change("again", Operation::Upsert, map(json!({"z": 1})), true);
        assert_eq!(queue.order, ["new", "old", "gone", "again"]);
        let change = |id: &str| queue.changes[id].clone();
        assert_eq!(change("new").metadata, map(json!({"a": 1, "b": null, "c": 3})).unwrap());
        assert!(!change("old").anew && change("gone").gone);
        assert_eq!(
            change("again"),
            Change { gone: false, anew: true, metadata: map(json!({"z": 1})).unwrap() }
        );
    }

    #[test]
    fn the_last_vector_counts_until_it_is_deleted() {
        let mut queue = Queue::default();
        queue.take_vector("a", Operation::Add, Some(vec![1.0]), false);
        queue.take_vector("a", Operation::Add, Some(vec![2.0]), false);
        queue.take_vector("b", Operation::Update, Some(vec![3.0]), true);
        queue.take_vector("b", Operation::Update, None, true);
        queue.take_vector("c", Operation::Add, Some(vec![4.0]), true);
        queue.take_vector("d", Operation::Delete, None, true);
        queue.take_vector("d", Operation::Add, Some(vec![5.0]), true);
        assert_eq!(queue.vectors["a"], [1.0]);
        assert_eq!(queue.vectors["b"], [3.0]);
        assert!(!queue.vectors.contains_key("c"), "the graph has it");
        assert_eq!(queue.vectors["d"], [5.0]);
        assert_eq!(numbers(&[0, 0, 128, 63], Some("FLOAT32")), Some(vec![1.0]));
        assert_eq!(numbers(&[2, 0, 0, 0], Some("INT32")), Some(vec![2.0]));
    }
}
