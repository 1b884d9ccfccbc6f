//! Two sets of slots for a condition: who surely passes, who possibly does.

use super::{Branch, FilterPart};
use crate::bits::Bits;
use crate::fields::Answer;
use crate::filter::prepared::Clauses;

/// Hears what is known of a condition.
type Told<'a> = &'a mut dyn FnMut(&Bounds);

#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) sure: Bits,
    /// A superset of `sure`; `None` if it is the same set.
    pub(super) possible: Option<Bits>,
}

impl From<Answer> for Bounds {
    fn from(answer: Answer) -> Self {
        if answer.doubt.count() == 0 {
            return Self::exactly(answer.sure);
        }
        let mut possible = answer.doubt;
        possible.or(&answer.sure);
        Self { sure: answer.sure, possible: Some(possible) }
    }
}

impl Bounds {
    pub(super) fn exactly(slots: Bits) -> Self {
        Self { sure: slots, possible: None }
    }

    /// Nothing is known.
    pub(super) fn unknown(len: u32) -> Self {
        Self { sure: Bits::default(), possible: Some(Bits::full(len)) }
    }

    pub(super) fn possible(&self) -> &Bits {
        self.possible.as_ref().unwrap_or(&self.sure)
    }

    /// Whether a slot that is not sure is possible.
    pub(super) fn doubts(&self, slot: u32) -> bool {
        self.possible.as_ref().is_some_and(|possible| possible.get(slot))
    }

    pub(super) fn and(&mut self, other: &Self) {
        self.combine(other, Bits::and);
    }

    pub(super) fn or(&mut self, other: &Self) {
        self.combine(other, Bits::or);
    }

    fn combine(&mut self, other: &Self, with: fn(&mut Bits, &Bits)) {
        if self.possible.is_some() || other.possible.is_some() {
            let mut possible = self.possible.take().unwrap_or_else(|| self.sure.clone());
            with(&mut possible, other.possible());
            self.possible = Some(possible);
        }
        with(&mut self.sure, &other.sure);
    }

    fn not(self, len: u32) -> Self {
        let not_sure = self.sure.not(len);
        match self.possible {
            None => Self::exactly(not_sure),
            Some(possible) => Self { sure: possible.not(len), possible: Some(not_sure) },
        }
    }

    /// What is known of a whole filter about `len` rows, or entries of an index;
    /// `see` shows what is known of one condition.
    pub(super) fn of<N>(tree: &Clauses<N>, len: u32, see: &dyn Fn(&N, Told<'_>)) -> Self {
        let mut all = Self::exactly(Bits::full(len));
        for node in &tree.must {
            see(node, &mut |bounds| all.and(bounds));
        }
        if !tree.must_not.is_empty() {
            let mut any = Self::exactly(Bits::default());
            for node in &tree.must_not {
                see(node, &mut |bounds| any.or(bounds));
            }
            all.and(&any.not(len));
        }
        if !tree.should.is_empty() {
            let mut any = Self::exactly(Bits::default());
            for node in &tree.should {
                see(node, &mut |bounds| any.or(bounds));
            }
            all.and(&any);
        }
        if let Some((enough, nodes)) = &tree.min_should {
            all.and(&Self::of_enough(*enough, nodes, len, see));
        }
        if all.possible.as_ref().is_some_and(|possible| possible.count() == all.sure.count()) {
            all.possible = None;
        }
        all
    }

    fn of_enough<N>(enough: usize, nodes: &[N], len: u32, see: &dyn Fn(&N, Told<'_>)) -> Self {
        if enough > nodes.len() {
            return Self::exactly(Bits::default());
        }
        // Who passes at least 0, 1, 2, .. of the conditions seen so far.
        let mut at_least = vec![Self::exactly(Bits::default()); enough + 1];
        at_least[0] = Self::exactly(Bits::full(len));
        for node in nodes {
            see(node, &mut |bounds| {
                for count in (1..=enough).rev() {
                    let mut one_more = at_least[count - 1].clone();
                    one_more.and(bounds);
                    at_least[count].or(&one_more);
                }
            });
        }
        at_least.swap_remove(enough)
    }
}

/// What is known of the branches of a filter about the rows of a part.
pub(super) fn of_branches(tree: &Clauses<Branch<'_>>, part: &dyn FilterPart) -> Bounds {
    Bounds::of(tree, part.len(), &|branch, see| match branch {
        Branch::Leaf(leaf) => see(leaf.bounds(part)),
        Branch::Filter(tree) => see(&of_branches(tree, part)),
    })
}
