//! Makes every slot reachable from the entry on layer 0.
//!
//! A builder that drops a point's last incoming link leaves an orphan: a point
//! that no search finds. Among equal rows that is common. Each orphan is linked
//! with its nearest reachable slots. Where those have no room, a link is
//! replaced that no slot was reached by, so that repairing one orphan never
//! makes another.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::{Graph, NONE, Scratch};

/// The beam for an orphan's nearest reachable slots.
const EF: usize = 64;
/// Orphans whose nearest are looked for at once.
const TOGETHER: usize = 1024;

/// What a repair found, for tests and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Slots that no search could have reached.
    pub(crate) orphans: usize,
}

impl Graph {
    /// Links every slot that cannot be reached, using `measure` between slots. By
    /// product they are many: a short row is near to nothing.
    pub(crate) fn link_orphans(&mut self, measure: impl Fn(u32, u32) -> f32 + Sync) -> Audit {
        let mut audit = Audit { orphans: 0 };
        if self.is_empty() {
            return audit;
        }
        let mut reached = Reached::new(self.len());
        reached.spread(self, self.entry, self.entry);
        let mut next = 0..self.len() as u32;
        loop {
            let some: Vec<u32> = next.by_ref().filter(|&slot| !reached.has(slot)).take(TOGETHER).collect();
            if some.is_empty() {
                return audit;
            }
            let graph = &*self;
            let near = |scratch: &mut Scratch, &slot: &u32| {
                graph.search_by(|other| measure(slot, other), |_| (), EF, EF, |_| true, scratch)
            };
            let near: Vec<_> =
                some.par_iter().with_min_len(TOGETHER / 16).map_init(Scratch::new, near).collect();
            for (slot, near) in some.into_iter().zip(near) {
                // One before it may have led here.
                if reached.has(slot) {
                    continue;
                }
                audit.orphans += 1;
                let near: Vec<u32> =
                    near.iter().map(|near| near.slot).filter(|&other| reached.has(other)).collect();
                let parent = self.adopt(slot, &near, &reached);
                self.add_links(slot, &near);
                reached.spread(self, slot, parent);
            }
        }
    }

    /// Adds a link to `orphan` from the nearest reached slot that can give one;
    /// says from which.
    fn adopt(&mut self, orphan: u32, near: &[u32], reached: &Reached) -> u32 {
        let with_room = near.iter().copied().find(|&slot| self.free(slot).is_some());
        // A graph of n slots is reached by n - 1 links, each slot has room for
        // more than one, so some slot always has a link to spare.
        let all = (0..self.len() as u32).filter(|&slot| reached.has(slot));
        let (parent, place) = with_room
            .into_iter()
            .chain(near.iter().copied())
            .chain(all)
            .find_map(|slot| {
                let place = self.free(slot).or_else(|| self.spare(slot, reached));
                place.map(|place| (slot, place))
            })
            .expect("links outnumber the slots that are reached by them");
        self.base.room_mut(parent)[place] = orphan;
        parent
    }

    /// Fills the free room of `slot` with links it does not have yet.
    fn add_links(&mut self, slot: u32, links: &[u32]) {
        for &link in links {
            let Some(place) = self.free(slot) else { break };
            if link != slot && self.links(slot).all(|other| other != link) {
                self.base.room_mut(slot)[place] = link;
            }
        }
    }

    fn free(&self, slot: u32) -> Option<usize> {
        Some(self.links(slot).count()).filter(|&used| used < self.stride())
    }

    /// The place of the farthest link that its target was not reached by.
    fn spare(&self, slot: u32, reached: &Reached) -> Option<usize> {
        self.base().room(slot).iter().rposition(|&link| reached.parent(link) != slot)
    }

    /// Slots that a walk over layer 0 from the entry does not reach.
    #[cfg(test)]
    pub(crate) fn orphans(&self) -> usize {
        let mut reached = Reached::new(self.len());
        if !self.is_empty() {
            reached.spread(self, self.entry, self.entry);
        }
        (0..self.len() as u32).filter(|&slot| !reached.has(slot)).count()
    }
}

/// The tree by which slots were reached: each slot's parent in it.
struct Reached {
    parents: Vec<u32>,
    queue: VecDeque<u32>,
}

impl Reached {
    fn new(len: usize) -> Self {
        Self { parents: vec![NONE; len], queue: VecDeque::new() }
    }

    fn has(&self, slot: u32) -> bool {
        self.parents[slot as usize] != NONE
    }

    fn parent(&self, slot: u32) -> u32 {
        self.parents[slot as usize]
    }

    /// Reaches `slot` from `parent`, and everything that is reachable from it.
    fn spread(&mut self, graph: &Graph, slot: u32, parent: u32) {
        self.parents[slot as usize] = parent;
        self.queue.push_back(slot);
        while let Some(slot) = self.queue.pop_front() {
            for link in graph.links(slot) {
                if !self.has(link) {
                    self.parents[link as usize] = slot;
                    self.queue.push_back(link);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(a: u32, b: u32) -> f32 {
        a.abs_diff(b) as f32
    }

    #[test]
    fn slots_without_any_link_become_reachable() {
        let mut graph = Graph::unlinked(1000, 4, 500);
        assert_eq!(graph.link_orphans(apart), Audit { orphans: 999 });
        assert_eq!(graph.orphans(), 0);
    }

    #[test]
    fn a_full_graph_gives_up_links_but_never_a_slot() {
        // Two rings whose slots have no room left.
        let mut graph = Graph::unlinked(100, 2, 0);
        for slot in 0..100u32 {
            let ring = slot / 50 * 50;
            let next = |step: u32| ring + (slot + step) % 50;
            graph.set_links(slot, [next(1), next(49)].into_iter());
        }
        assert_eq!(graph.orphans(), 50);
        assert_eq!(graph.link_orphans(apart), Audit { orphans: 1 });
        assert_eq!(graph.orphans(), 0);
    }

    #[test]
    fn equal_slots_without_room_are_all_kept() {
        let mut graph = Graph::unlinked(300, 2, 7);
        for slot in 0..300u32 {
            graph.set_links(slot, [7, 8].into_iter().filter(|&link| link != slot));
        }
        graph.link_orphans(|_, _| 0.0);
        assert_eq!(graph.orphans(), 0);
    }
}
