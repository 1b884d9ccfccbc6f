//! Which keys of an index pass a check: what both a count and a set of slots
//! are made from.
//!
//! An index holds the values of its own kind. Slots with a value of another
//! kind are listed beside them; whether such a value passes is mostly known
//! from the check, and else left to the payload.

use std::ops::Range;

use uuid::Uuid;

use super::postings::{Column, Words};
use super::{float_of_key, key_of_float, key_of_uuid};
use crate::filter::prepared::Check;
use crate::filter::scalars::Scalars;
use crate::filter::{Test, time};
use crate::schema::FieldKind;

/// Ranges of keys, apart from each other.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// Whose slots pass.
    pub(super) sure: Vec<Range<usize>>,
    /// Whose slots may pass.
    pub(super) doubt: Vec<Range<usize>>,
    pub(super) other: Other,
}

/// What becomes of slots with a value of another kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// None of those values passes.
    #[default]
    Fail,
    /// All of them do.
    Pass,
    /// The payload knows.
    Doubt,
}

impl Hits {
    fn sure(keys: Vec<Range<usize>>, other: Other) -> Self {
        Self { sure: keys, doubt: Vec::new(), other }
    }

    fn only(other: Other) -> Self {
        Self { other, ..Self::default() }
    }

    /// The keys of a list of values. `foreign`: the list has values of another
    /// kind than the index.
    fn one_of(found: impl Iterator<Item = Range<usize>>, foreign: bool) -> Self {
        Self::sure(found.collect(), if foreign { Other::Doubt } else { Other::Fail })
    }

    /// All keys but those of a list.
    fn none_of(found: impl Iterator<Item = Range<usize>>, keys: usize, foreign: bool) -> Self {
        Self::sure(gaps(found, keys), if foreign { Other::Doubt } else { Other::Pass })
    }
}

/// What ascending ranges leave of the keys.
fn gaps(found: impl Iterator<Item = Range<usize>>, keys: usize) -> Vec<Range<usize>> {
    let (mut gaps, mut start) = (Vec::new(), 0);
    for range in found.filter(|range| !range.is_empty()) {
        gaps.push(start..range.start);
        start = range.end;
    }
    gaps.push(start..keys);
    gaps
}

impl Scalars<'_> {
    /// Whether a value is none of a kind of which there are so many.
    fn foreign_to(&self, own: usize) -> bool {
        self.keywords.len() + self.integers.len() + self.bools.len() + self.uuids.len() > own
    }
}

/// The keys of a keyword index that pass. Looking at every key takes long and
/// is done only when `scan` says so.
pub(super) fn keywords(words: &Words, check: &Check<'_>, scan: bool) -> Option<Hits> {
    let found = |list: &Scalars<'_>| list.keywords.iter().map(|word| words.find(word)).collect::<Vec<_>>();
    Some(match check {
        Check::OneOf(list) => Hits::one_of(found(list).into_iter(), list.foreign_to(list.keywords.len())),
        Check::NoneOf(list) => {
            Hits::none_of(found(list).into_iter(), words.len(), list.foreign_to(list.keywords.len()))
        }
        Check::Tokens(_) => return None,
        Check::Plain(Test::Prefix(prefix)) => Hits::sure(vec![words.starting_with(prefix)], Other::Fail),
        Check::Plain(test) if test.is_about_strings() => {
            if !scan {
                return None;
            }
            let passes = |place: &usize| test.passes_string(&String::from_utf8_lossy(words.word(*place)));
            Hits::sure((0..words.len()).filter(passes).map(|place| place..place + 1).collect(), Other::Fail)
        }
        Check::Plain(_) => Hits::only(Other::Doubt),
    })
}

/// The keys of an index of numbers, date-times or bools that pass.
pub(super) fn numbers(column: &Column<i64>, kind: FieldKind, check: &Check<'_>) -> Option<Hits> {
    match kind {
        FieldKind::Integer => integers(column, check),
        FieldKind::Float => floats(column, check),
        FieldKind::Bool => bools(column, check),
        _ => datetimes(column, check),
    }
}

fn integers(column: &Column<i64>, check: &Check<'_>) -> Option<Hits> {
    let found = |list: &Scalars<'_>| list.integers.iter().map(|key| column.find(key)).collect::<Vec<_>>();
    Some(match check {
        Check::OneOf(list) => Hits::one_of(found(list).into_iter(), list.foreign_to(list.integers.len())),
        Check::NoneOf(list) => {
            Hits::none_of(found(list).into_iter(), column.keys().len(), list.foreign_to(list.integers.len()))
        }
        Check::Tokens(_) => return None,
        Check::Plain(Test::Range(range)) => {
            let keys = column
                .between(|key| range.starts_after(&(key as f64)), |key| range.ends_before(&(key as f64)));
            Hits::sure(vec![keys], Other::Doubt)
        }
        Check::Plain(_) => Hits::only(Other::Doubt),
    })
}

fn bools(column: &Column<i64>, check: &Check<'_>) -> Option<Hits> {
    let found =
        |list: &Scalars<'_>| list.bools.iter().map(|key| column.find(&i64::from(*key))).collect::<Vec<_>>();
    Some(match check {
        Check::OneOf(list) => Hits::one_of(found(list).into_iter(), list.foreign_to(list.bools.len())),
        Check::NoneOf(list) => {
            Hits::none_of(found(list).into_iter(), column.keys().len(), list.foreign_to(list.bools.len()))
        }
        Check::Tokens(_) => return None,
        Check::Plain(_) => Hits::only(Other::Doubt),
    })
}

// A stored 1.0 is no integer, but has the key of 1.
fn floats(column: &Column<i64>, check: &Check<'_>) -> Option<Hits> {
    let found = |list: &Scalars<'_>| {
        let mut keys: Vec<i64> = list.integers.iter().map(|key| key_of_float(*key as f64)).collect();
        keys.dedup();
        keys.iter().map(|key| column.find(key)).collect::<Vec<_>>()
    };
    Some(match check {
        Check::OneOf(list) => {
            let hits = Hits::one_of(found(list).into_iter(), list.foreign_to(list.integers.len()));
            Hits { sure: Vec::new(), doubt: hits.sure, other: hits.other }
        }
        Check::NoneOf(list) => {
            let foreign = list.foreign_to(list.integers.len());
            let hits = Hits::none_of(found(list).into_iter(), column.keys().len(), foreign);
            Hits { doubt: found(list), ..hits }
        }
        Check::Tokens(_) => return None,
        Check::Plain(Test::Range(range)) => {
            let keys = column.between(
                |key| range.starts_after(&float_of_key(key)),
                |key| range.ends_before(&float_of_key(key)),
            );
            Hits::sure(vec![keys], Other::Fail)
        }
        Check::Plain(_) => Hits::only(Other::Doubt),
    })
}

// Different texts can mean the same instant.
fn datetimes(column: &Column<i64>, check: &Check<'_>) -> Option<Hits> {
    match check {
        Check::OneOf(list) => {
            let mut keys: Vec<i64> = list.keywords.iter().filter_map(|text| time::micros(text)).collect();
            keys.sort_unstable();
            keys.dedup();
            let doubt = keys.iter().map(|key| column.find(key)).collect();
            Some(Hits { sure: Vec::new(), doubt, other: Other::Doubt })
        }
        Check::Plain(Test::DateRange(range)) => {
            let range = range.micros();
            let keys = column.between(|key| range.starts_after(&key), |key| range.ends_before(&key));
            Some(Hits::sure(vec![keys], Other::Fail))
        }
        Check::Plain(test) if !test.is_about_strings() => Some(Hits::only(Other::Doubt)),
        _ => None,
    }
}

/// The keys of an index of UUIDs that pass.
pub(super) fn uuids(column: &Column<[u64; 2]>, check: &Check<'_>) -> Option<Hits> {
    let found = |list: &Scalars<'_>| {
        list.uuids.iter().map(|uuid: &Uuid| column.find(&key_of_uuid(uuid))).collect::<Vec<_>>()
    };
    match check {
        Check::OneOf(list) => Some(Hits::one_of(found(list).into_iter(), list.foreign_to(list.uuids.len()))),
        Check::NoneOf(list) => {
            let foreign = list.foreign_to(list.uuids.len());
            Some(Hits::none_of(found(list).into_iter(), column.keys().len(), foreign))
        }
        Check::Plain(test) if !test.is_about_strings() => Some(Hits::only(Other::Doubt)),
        _ => None,
    }
}
