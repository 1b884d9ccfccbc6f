//! Two sets of slots for a condition: who surely passes, who possibly does.

use super::{Branch, FilterPart};
use crate::bits::Bits;
use crate::fields::Answer;
use crate::filter::prepared::Clauses;

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

    /// What is known of a whole filter.
    pub(super) fn of(tree: &Clauses<Branch<'_>>, part: &dyn FilterPart) -> Self {
        let len = part.len();
        let mut all = Self::exactly(Bits::full(len));
        for branch in &tree.must {
            branch.see(part, |bounds| all.and(bounds));
        }
        if !tree.must_not.is_empty() {
            let mut any = Self::exactly(Bits::default());
            for branch in &tree.must_not {
                branch.see(part, |bounds| any.or(bounds));
            }
            all.and(&any.not(len));
        }
        if !tree.should.is_empty() {
            let mut any = Self::exactly(Bits::default());
            for branch in &tree.should {
                branch.see(part, |bounds| any.or(bounds));
            }
            all.and(&any);
        }
        if let Some((enough, branches)) = &tree.min_should {
            all.and(&Self::of_enough(*enough, branches, part));
        }
        if all.possible.as_ref().is_some_and(|possible| possible.count() == all.sure.count()) {
            all.possible = None;
        }
        all
    }

    fn of_enough(enough: usize, branches: &[Branch<'_>], part: &dyn FilterPart) -> Self {
        if enough > branches.len() {
            return Self::exactly(Bits::default());
        }
        // Who passes at least 0, 1, 2, .. of the conditions seen so far.
        let mut at_least = vec![Self::exactly(Bits::default()); enough + 1];
        at_least[0] = Self::exactly(Bits::full(part.len()));
        for branch in branches {
            branch.see(part, |bounds| {
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

impl Branch<'_> {
    fn see(&self, part: &dyn FilterPart, see: impl FnOnce(&Bounds)) {
        match self {
            Self::Leaf(leaf) => see(leaf.bounds(part)),
            Self::Filter(tree) => see(&Bounds::of(tree, part)),
        }
    }
}
