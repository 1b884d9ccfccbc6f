//! A filter made ready for one part: what its indexes know is taken from them,
//! the rest from the payloads.
//!
//! Every condition has two sets of slots: those that surely pass and those
//! that possibly do. They combine as the conditions do, so most rows are
//! decided by two bits, and a payload is read only for a row in between. The
//! sets are made when first needed. Deleted rows are not left out here.
//!
//! What a condition means is in `filter/prepared`, how many rows to expect in
//! `plan/expect`.

mod bounds;
mod expect;
mod nested;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::OnceLock;

use serde::Serialize;

use self::bounds::{Bounds, of_branches};
use crate::bits::Bits;
use crate::fields::FieldIndex;
use crate::filter::prepared::{Clauses, Field, Node, Prepared};
use crate::id::PointId;
use crate::path::Path;
use crate::point::Payload;

/// More payloads than this are not read just to know the matches beforehand.
const MOST_READ: usize = 10_000;

/// Slots of a part for each one of a list, from which on a set is combined faster
/// than each of the list is looked at.
const LISTED: u32 = 4;

/// What a filter needs to know of a part.
pub(crate) trait FilterPart: Sync {
    /// How many slots there are.
    fn len(&self) -> u32;
    /// The index of the field, made for the schema the filter was read with.
    fn field_index(&self, key: &Path) -> Option<&FieldIndex>;
    /// Where a point of this part is.
    fn slot_of(&self, id: &PointId) -> Option<u32>;
    /// The id of the point in a slot.
    fn id(&self, slot: u32) -> PointId;
    /// The payload of the point in a slot.
    fn payload(&self, slot: u32) -> Cow<'_, Payload>;
    /// Which slots have the vector of this name.
    fn vector_slots(&self, name: &str) -> Option<&Bits>;
}

/// A filter ready to judge the slots of a part. Threads may share it.
pub(crate) struct Matcher<'p> {
    part: &'p dyn FilterPart,
    tree: Clauses<Branch<'p>>,
    bounds: OnceLock<Bounds>,
    exact: OnceLock<Option<Bits>>,
}

enum Branch<'p> {
    Leaf(Leaf<'p>),
    Filter(Clauses<Branch<'p>>),
}

/// One condition, and what is known about it without a payload.
struct Leaf<'p> {
    node: &'p Node<'p>,
    source: Source<'p>,
    bounds: OnceLock<Bounds>,
    /// The share of some rows that passed.
    sampled: OnceLock<f64>,
}

/// Who knows a condition's answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// The ids or vectors of the part, by a set of slots.
    Set,
    /// An index, up to a few doubts.
    Index,
    /// The id of each row.
    Id,
    /// An index rules out some rows, the payload decides.
    IndexAndPayload,
    /// Each payload.
    Payload,
}

struct Source<'p> {
    by: By,
    index: Option<&'p FieldIndex>,
}

/// How one condition of a filter is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// The payload path, or the kind of the condition.
    pub condition: String,
    /// `set`, `index`, `id`, `index and payload` or `payload`.
    pub answered_by: &'static str,
    /// How many rows of the part are expected to pass.
    pub expected: usize,
}

/// A row whose payload is read at most once.
struct Row<'p> {
    part: &'p dyn FilterPart,
    slot: u32,
    payload: OnceCell<Cow<'p, Payload>>,
}

impl Row<'_> {
    fn payload(&self) -> &Payload {
        self.payload.get_or_init(|| self.part.payload(self.slot))
    }
}

impl<'p> Matcher<'p> {
    pub(crate) fn new(filter: &'p Prepared<'p>, part: &'p dyn FilterPart) -> Self {
        let tree = branches(&filter.clauses, part);
        Self { part, tree, bounds: OnceLock::new(), exact: OnceLock::new() }
    }

    /// Whether the point in a slot matches.
    pub(crate) fn check(&self, slot: u32) -> bool {
        let bounds = self.bounds();
        bounds.sure.get(slot) || bounds.doubts(slot) && self.look(slot)
    }

    /// The matching slots, if they can be told without reading many payloads.
    pub(crate) fn exact_slots(&self) -> Option<&Bits> {
        let exact = || {
            let (mut unknown, mut reads) = (false, false);
            each_leaf(&self.tree, &mut |leaf| {
                unknown |= leaf.source.by >= By::IndexAndPayload;
                reads |= leaf.source.by == By::Index && leaf.bounds(self.part).possible.is_some();
            });
            let bounds = self.bounds();
            if unknown && bounds.possible.is_some() {
                return None;
            }
            let mut exact = bounds.sure.clone();
            if let Some(possible) = &bounds.possible {
                if reads && possible.count() - exact.count() > MOST_READ {
                    return None;
                }
                for slot in possible.iter().filter(|slot| !bounds.sure.get(*slot)) {
                    exact.set(slot, self.look(slot));
                }
            }
            Some(exact)
        };
        self.exact.get_or_init(exact).as_ref()
    }

    /// The matching slots in order, where an index has a list of few that hold all
    /// of them. No set of all slots is made then.
    pub(crate) fn listed(&self) -> Option<Vec<u32>> {
        let Clauses { must, should, must_not, min_should } = &self.tree;
        let list = must.iter().filter_map(Branch::listed).min_by_key(|list| list.len())?;
        let len = self.part.len();
        if list.len() > (len / LISTED) as usize {
            return None;
        }
        let alone = must.len() == 1 && should.is_empty() && must_not.is_empty() && min_should.is_none();
        let matches = |slot: &u32| *slot < len && (alone || self.look(*slot));
        Some(list.iter().copied().filter(matches).collect())
    }

    /// Slots among which all matches are; `None` if that rules out no slot.
    pub(crate) fn candidates(&self) -> Option<&Bits> {
        let possible = self.bounds().possible();
        (possible.count() < self.part.len() as usize).then_some(possible)
    }

    /// How each condition is answered, in the order of the filter but for
    /// those that are asked first.
    pub(crate) fn describe(&self) -> Vec<Explained> {
        self.sample();
        let mut all = Vec::new();
        each_leaf(&self.tree, &mut |leaf| {
            let condition = match leaf.node {
                Node::Field(field) => field.key.to_string(),
                Node::HasId(_) => "has_id".to_owned(),
                Node::HasVector(name) => format!("has_vector {name}").trim_end().to_owned(),
                Node::Slice(_) => "slice".to_owned(),
                Node::Nested(nested) => format!("nested {}", nested.key),
                Node::Filter(_) => "filter".to_owned(),
            };
            let answered_by = match leaf.source.by {
                By::Set => "set",
                By::Index => "index",
                By::Id => "id",
                By::IndexAndPayload => "index and payload",
                By::Payload => "payload",
            };
            all.push(Explained { condition, answered_by, expected: leaf.estimate(self.part).expected });
        });
        all
    }

    fn bounds(&self) -> &Bounds {
        self.bounds.get_or_init(|| of_branches(&self.tree, self.part))
    }

    /// The verdict on a row that the sets leave open.
    fn look(&self, slot: u32) -> bool {
        let row = Row { part: self.part, slot, payload: OnceCell::new() };
        self.tree.holds(&|branch: &Branch<'_>| branch.holds(&row))
    }
}

fn branches<'p>(clauses: &'p Clauses<Node<'p>>, part: &'p dyn FilterPart) -> Clauses<Branch<'p>> {
    let mut tree = clauses.map(&mut |node| match node {
        Node::Filter(clauses) => Branch::Filter(branches(clauses, part)),
        node => Branch::Leaf(Leaf {
            node,
            source: source(node, part),
            bounds: OnceLock::new(),
            sampled: OnceLock::new(),
        }),
    });
    // What needs no payload is asked first: it may settle the matter.
    for nodes in [&mut tree.must, &mut tree.should, &mut tree.must_not] {
        nodes.sort_by_key(Branch::cost);
    }
    tree
}

fn index_of<'p>(field: &Field<'_>, part: &'p dyn FilterPart) -> Option<&'p FieldIndex> {
    index_at(&field.key, part)
}

fn index_at<'p>(key: &Path, part: &'p dyn FilterPart) -> Option<&'p FieldIndex> {
    part.field_index(key).filter(|index| index.rows() == part.len())
}

fn source<'p>(node: &Node<'_>, part: &'p dyn FilterPart) -> Source<'p> {
    let (by, index) = match node {
        Node::HasId(_) | Node::HasVector(_) => (By::Set, None),
        Node::Slice(_) => (By::Id, None),
        Node::Nested(nested) => (nested::source(nested, part), None),
        Node::Field(field) => match index_of(field, part) {
            Some(index) => {
                let known = field.checks.iter().filter(|check| index.knows(check)).count();
                let all = known == field.checks.len();
                let by = if all {
                    By::Index
                } else if known > 0 {
                    By::IndexAndPayload
                } else {
                    By::Payload
                };
                (by, Some(index))
            }
            None => (By::Payload, None),
        },
        Node::Filter(_) => (By::Payload, None),
    };
    Source { by, index }
}

fn each_leaf<'t, 'p>(tree: &'t Clauses<Branch<'p>>, see: &mut dyn FnMut(&'t Leaf<'p>)) {
    let some = tree.min_should.iter().flat_map(|(_, branches)| branches);
    for branch in tree.must.iter().chain(&tree.should).chain(&tree.must_not).chain(some) {
        match branch {
            Branch::Leaf(leaf) => see(leaf),
            Branch::Filter(tree) => each_leaf(tree, see),
        }
    }
}

impl Branch<'_> {
    fn cost(&self) -> By {
        match self {
            Self::Leaf(leaf) => leaf.source.by,
            Self::Filter(tree) => {
                let mut most = By::Set;
                each_leaf(tree, &mut |leaf| most = most.max(leaf.source.by));
                most
            }
        }
    }

    /// All slots that pass, if an index has them as a list.
    fn listed(&self) -> Option<&[u32]> {
        let Self::Leaf(Leaf { node: Node::Field(field), source: Source { by: By::Index, index }, .. }) = self
        else {
            return None;
        };
        let [check] = &*field.checks else { return None };
        index.as_ref()?.listed(check)
    }

    fn holds(&self, row: &Row<'_>) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.holds(row),
            Self::Filter(tree) => tree.holds(&|branch: &Branch<'_>| branch.holds(row)),
        }
    }
}

impl Leaf<'_> {
    fn holds(&self, row: &Row<'_>) -> bool {
        let bounds = self.bounds(row.part);
        bounds.sure.get(row.slot) || bounds.doubts(row.slot) && self.decide(row)
    }

    /// The verdict without any index.
    fn decide(&self, row: &Row<'_>) -> bool {
        match self.node {
            Node::Field(field) => field.holds(row.payload()),
            Node::Nested(nested) => nested.holds(row.payload()),
            Node::Slice(slice) => slice.contains(row.part.id(row.slot)),
            // Sets have no doubts, and a filter is no leaf.
            Node::HasId(_) | Node::HasVector(_) | Node::Filter(_) => false,
        }
    }

    fn bounds(&self, part: &dyn FilterPart) -> &Bounds {
        self.bounds.get_or_init(|| match self.node {
            Node::Field(field) => self.bounds_of_field(field, part.len()),
            Node::Nested(nested) => nested::bounds(nested, part),
            Node::HasId(ids) => Bounds::exactly(ids.iter().filter_map(|id| part.slot_of(id)).collect()),
            Node::HasVector(name) => Bounds::exactly(part.vector_slots(name).cloned().unwrap_or_default()),
            Node::Slice(_) | Node::Filter(_) => Bounds::unknown(part.len()),
        })
    }

    fn bounds_of_field(&self, field: &Field<'_>, len: u32) -> Bounds {
        let (Some(index), true) = (self.source.index, self.source.by != By::Payload) else {
            return Bounds::unknown(len);
        };
        let mut bounds = Bounds::exactly(Bits::default());
        for check in &field.checks {
            bounds.or(&index.answer(check).map_or_else(|| Bounds::unknown(len), Bounds::from));
        }
        bounds
    }
}

#[cfg(test)]
mod tests;
