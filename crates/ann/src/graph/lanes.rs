//! Walks by estimates, alone or side by side: while one waits for memory, another
//! measures.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::Scratch;
use super::coded::named;
use super::judge::Judge;
use crate::nearest::Neighbor;
use crate::pool::Pool;
use crate::simd::{Simd, Task, run};

/// Walks that one thread has under way at once. On Zen 4, where 64 lines can be on
/// their way, two answer up to 7 % more queries than one after the other; four and
/// eight drive one another's lines out of the cache.
pub(super) const LANES: usize = 2;

/// A way to walk by estimates.
pub(super) trait Way {
    type Walk<'a>: Walk
    where
        Self: 'a;

    /// Readies the walk for a query.
    fn walk<'a>(&'a self, query: &[f32], scratch: &'a mut Scratch) -> Self::Walk<'a>;
}

/// A walk that can be left after each step and gone on with later.
pub(super) trait Walk {
    /// Goes down to where it begins on layer 0.
    fn begin<S: Simd>(&mut self);

    /// Goes on from one candidate; says whether there may be more.
    fn step<S: Simd>(&mut self) -> bool;

    /// The best that it measured; nothing if it rejected so many that a walk has to
    /// count what is accepted.
    fn found(&self) -> Option<&Pool>;
}

/// Takes at most 64 walks to their ends, a step of each in turn.
struct InTurns<'w, W>(&'w mut [W]);

impl<W: Walk> Task for InTurns<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(walks) = self;
        walks.iter_mut().for_each(W::begin::<S>);
        let mut live = u64::MAX >> (64 - walks.len());
        while live != 0 {
            let mut turn = live;
            while turn != 0 {
                let at = turn.trailing_zeros() as usize;
                turn &= turn - 1;
                if !walks[at].step::<S>() {
                    live ^= 1 << at;
                }
            }
        }
    }
}

/// What one walk finds, decided; nothing if it rejected too many.
pub(super) fn search_one(
    way: &impl Way,
    slots: &[u32],
    judge: &impl Judge,
    query: &[f32],
    k: usize,
    scratch: &mut Scratch,
) -> Option<Vec<Neighbor>> {
    let mut walk = way.walk(query, scratch);
    run(InTurns(std::slice::from_mut(&mut walk)));
    Some(judge.decide(query, candidates(walk.found()?, slots), k))
}

/// The same for up to [`LANES`] queries at once, with a scratch for each.
pub(super) fn search_some(
    way: &impl Way,
    slots: &[u32],
    judge: &impl Judge,
    queries: &[&[f32]],
    k: usize,
    scratches: &mut [Scratch],
) -> Vec<Option<Vec<Neighbor>>> {
    let each = queries.iter().zip(scratches);
    let mut walks: Vec<_> = each.map(|(query, scratch)| way.walk(query, scratch)).collect();
    run(InTurns(&mut walks));
    let found: Vec<_> = walks.iter().map(|walk| walk.found().map(|pool| candidates(pool, slots))).collect();
    // What decides about the next is on its way while one is decided.
    let ask =
        |near: Option<&Option<Vec<Neighbor>>>| near.into_iter().flatten().for_each(|near| judge.ask(near));
    let mut found = found.into_iter().peekable();
    ask(found.peek());
    let decide = |query: &&[f32]| {
        let near = found.next().flatten();
        ask(found.peek());
        near.map(|near| judge.decide(query, near, k))
    };
    queries.iter().map(decide).collect()
}

fn candidates(pool: &Pool, slots: &[u32]) -> Vec<Neighbor> {
    let mut near = Vec::with_capacity(pool.len());
    near.extend(pool.iter().map(named(slots)));
    near
}
