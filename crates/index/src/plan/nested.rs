//! Conditions on one element of an array, as far as indexes know them.
//!
//! An index with an entry for each element (`elements`) says which elements pass,
//! and so several say which pass all conditions at once. Any other index says
//! which rows have an element that passes, be it another one for each condition.

use super::bounds::Bounds;
use super::{By, FilterPart, index_at, index_of};
use crate::bits::Bits;
use crate::fields::FieldIndex;
use crate::filter::prepared::{Clauses, Field, Nested, Node};

/// Who knows the answer.
pub(super) fn source(nested: &Nested<'_>, part: &dyn FilterPart) -> By {
    let knows = |index: &FieldIndex, field: &Field<'_>| field.checks.iter().all(|check| index.knows(check));
    let by_element = Entries::of(nested, part);
    let known = |field: &Field<'_>| {
        by_element
            .as_ref()
            .and_then(|entries| entries.index_of(field))
            .is_some_and(|index| knows(index, field))
    };
    let narrows = |field: &Field<'_>| index_of(field, part).is_some_and(|index| knows(index, field));
    let mut fields = (0, 0);
    each(&nested.clauses, &mut |node| {
        fields.0 += usize::from(matches!(node, Node::Field(field) if known(field)));
        fields.1 += usize::from(!matches!(node, Node::HasId(_) | Node::HasVector(_) | Node::Slice(_)));
    });
    match fields {
        (known, all) if known == all && known > 0 => By::Index,
        (1.., _) => By::IndexAndPayload,
        _ if nested.implied.iter().any(narrows) => By::IndexAndPayload,
        _ => By::Payload,
    }
}

/// Which rows pass.
pub(super) fn bounds(nested: &Nested<'_>, part: &dyn FilterPart) -> Bounds {
    let mut possible = rows_that_may(nested, part);
    let Some(entries) = Entries::of(nested, part) else { return possible };
    let known = entries.bounds(&nested.clauses);
    let sure = entries.owner.slots_of(&known.sure);
    let Some(elements) = known.possible else { return Bounds::exactly(sure) };
    possible.and(&Bounds::exactly(entries.owner.slots_of(&elements)));
    Bounds { sure, ..possible }
}

/// An element that passes makes the whole payload pass what is implied.
fn rows_that_may(nested: &Nested<'_>, part: &dyn FilterPart) -> Bounds {
    let mut bounds = Bounds::unknown(part.len());
    for field in &nested.implied {
        let Some(index) = index_of(field, part) else {
            continue;
        };
        let mut one = Bounds::exactly(Bits::default());
        for check in &field.checks {
            one.or(&index.answer(check).map_or_else(|| Bounds::unknown(part.len()), Bounds::from));
        }
        bounds.and(&one);
    }
    bounds
}

/// The entries that indexes of fields in the array have for its elements, the same
/// ones in each index.
struct Entries<'p> {
    nested: &'p Nested<'p>,
    part: &'p dyn FilterPart,
    /// One of them, which says whose the entries are.
    owner: &'p FieldIndex,
}

impl<'p> Entries<'p> {
    /// `None` where no index of a field that is asked about has an entry for each.
    fn of(nested: &'p Nested<'p>, part: &'p dyn FilterPart) -> Option<Self> {
        let mut owner = None;
        each(&nested.clauses, &mut |node| {
            if let (Node::Field(field), None) = (node, owner) {
                owner = candidate(nested, field, part);
            }
        });
        owner.map(|owner| Self { nested, part, owner })
    }

    fn index_of(&self, field: &Field<'_>) -> Option<&'p FieldIndex> {
        let index = candidate(self.nested, field, self.part)?;
        (std::ptr::eq(index, self.owner) || index.owners() == self.owner.owners()).then_some(index)
    }

    fn bounds(&self, clauses: &Clauses<Node<'_>>) -> Bounds {
        let len = self.owner.entries();
        Bounds::of(clauses, len, &|node, see| match node {
            Node::Field(field) => see(&self.of_field(field, len)),
            Node::Filter(clauses) => see(&self.bounds(clauses)),
            // An element has no id and no vectors.
            Node::HasId(_) | Node::HasVector(_) | Node::Slice(_) => see(&Bounds::exactly(Bits::default())),
            Node::Nested(_) => see(&Bounds::unknown(len)),
        })
    }

    fn of_field(&self, field: &Field<'_>, len: u32) -> Bounds {
        let Some(index) = self.index_of(field) else { return Bounds::unknown(len) };
        let mut bounds = Bounds::exactly(Bits::default());
        for check in &field.checks {
            let passing = index.entries_that_pass(check);
            bounds.or(&passing.map_or_else(|| Bounds::unknown(len), Bounds::from));
        }
        bounds
    }
}

/// The index of a field in the array, if it has an entry for each element.
fn candidate<'p>(nested: &Nested<'_>, field: &Field<'_>, part: &'p dyn FilterPart) -> Option<&'p FieldIndex> {
    let key = field.by_element.then(|| nested.key.join(&field.key).ok()).flatten()?;
    index_at(&key, part).filter(|index| index.owners().is_some())
}

/// Every condition but filters, whose conditions are seen instead.
fn each<'n>(clauses: &'n Clauses<Node<'n>>, see: &mut dyn FnMut(&'n Node<'n>)) {
    let some = clauses.min_should.iter().flat_map(|(_, nodes)| nodes);
    for node in clauses.must.iter().chain(&clauses.should).chain(&clauses.must_not).chain(some) {
        match node {
            Node::Filter(clauses) => each(clauses, see),
            node => see(node),
        }
    }
}
