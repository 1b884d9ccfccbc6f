//! Rows that are equal, bit for bit, so that one which is not a number has
//! twins too.
//!
//! Empty texts, copied documents, zero vectors: equal rows are common, and a
//! graph builder does badly with many of them. Their links lead to each other
//! only, and whoever arrives among them stays. So one of each kind goes into
//! the graph, and its twins hang from it in a tree that a search enters when it
//! gets there.

use std::hash::{DefaultHasher, Hasher};

use crate::{Graph, Rows};

/// Slots by kind.
pub(super) struct Twins {
    /// The first slot of each kind, ascending.
    pub(super) firsts: Vec<u32>,
    /// Slots with their kind's first, in the order of both.
    later: Vec<(u32, u32)>,
}

impl Twins {
    /// Tells the rows apart. Takes 16 bytes a row meanwhile.
    pub(super) fn find<R: Rows>(rows: &R) -> Self {
        let slots = 0..rows.len() as u32;
        let mut by_hash: Vec<(u64, u32)> = slots.map(|slot| (hash(rows.row(slot).bytes()), slot)).collect();
        by_hash.sort_unstable();
        let (mut firsts, mut later) = (Vec::new(), Vec::new());
        for same_hash in by_hash.chunk_by(|a, b| a.0 == b.0) {
            let first = same_hash[0].1;
            for &(_, slot) in same_hash {
                // Other rows with this hash are rare enough to stay alone.
                if slot != first && rows.row(slot).bytes() == rows.row(first).bytes() {
                    later.push((first, slot));
                } else {
                    firsts.push(slot);
                }
            }
        }
        firsts.sort_unstable();
        later.sort_unstable();
        Self { firsts, later }
    }

    /// Hangs the later twins from the first, which gives up its farthest link
    /// if it has no room.
    pub(super) fn hang(&self, graph: &mut Graph) {
        for kind in self.later.chunk_by(|a, b| a.0 == b.0) {
            let twins: Vec<u32> = kind.iter().map(|&(_, slot)| slot).collect();
            graph.add_last_link(kind[0].0, twins[0]);
            let rest = twins[1..].chunks(graph.stride());
            for (&parent, children) in twins.iter().zip(rest) {
                graph.set_links(parent, children.iter().copied());
            }
        }
    }
}

fn hash(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(row);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatRows;

    #[test]
    fn each_kind_has_one_first_and_the_rest_follow_it() {
        let rows = FlatRows::new(1, &[5.0, 7.0, 5.0, 0.0, 7.0, 5.0, -0.0]).expect("whole rows");
        let twins = Twins::find(&rows);
        assert_eq!(twins.firsts, [0, 1, 3, 6]);
        assert_eq!(twins.later, [(0, 2), (0, 5), (1, 4)]);
    }

    #[test]
    fn every_twin_hangs_in_the_tree_of_its_first() {
        let values = [1.0f32; 1000];
        let rows = FlatRows::new(1, &values).expect("whole rows");
        let mut graph = Graph::unlinked(1000, 4, 0);
        Twins::find(&rows).hang(&mut graph);
        assert_eq!(graph.orphans(), 0);
    }
}
