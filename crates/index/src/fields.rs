//! The index of one payload field of one segment: made once, then mapped.
//!
//! An index answers a check with the slots that pass, those that may pass, and
//! so rules out the rest; it also counts, orders and estimates. It knows which
//! rows are null or empty and how many values they have. The slots of deleted
//! rows are among the answers. What a check means is in `filter/prepared`, how
//! the answers are combined in `plan`.
//!
//! All this is about entries. Mostly an entry is a row; where each object of an
//! array counts for itself (`elements`), each of them is one, and `owners` has
//! the row of each. Which entry passes is known besides then, for conditions on
//! several fields of one object.
//!
//! Damaged bytes give errors or wrong answers, never a panic: the caller has
//! checked their sum.

pub(crate) mod encode;
mod hits;
mod places;
mod postings;
mod sections;
mod texts;

use std::cmp::Ordering;
use std::ops::Range;

use uuid::Uuid;

use self::hits::{Hits, Other};
use self::places::Places;
use self::postings::{Column, Postings, Words};
use self::sections::{Numbers, Reader};
pub(crate) use self::texts::Texts;
use crate::bits::Bits;
use crate::bytes::Bytes;
use crate::filter::Test;
use crate::filter::geo::Area;
use crate::filter::prepared::Check;
use crate::filter::tokens::{How, Tokens};
use crate::schema::{FieldKind, FieldOptions, FieldSchema};

/// A value that points are ordered by; date-times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OrderValue {
    /// An integer or a date-time.
    Int(i64),
    /// A number.
    Float(f64),
}

impl OrderValue {
    /// The order of numbers, across both kinds.
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        let float = |value: &Self| match value {
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
        };
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (a, b) => float(a).total_cmp(&float(b)),
        }
    }
}

/// A value that points are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetValue {
    /// A string or a UUID.
    Keyword(String),
    /// An integer.
    Integer(i64),
    /// true or false.
    Bool(bool),
}

/// How many rows pass, without looking at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// No fewer.
    pub(crate) min: usize,
    /// About so many.
    pub(crate) expected: usize,
    /// No more.
    pub(crate) max: usize,
}

/// The slots that pass a check, and others that the payload decides about.
/// All others fail.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) sure: Bits,
    pub(crate) doubt: Bits,
}

/// An open index.
pub(crate) struct FieldIndex {
    kind: FieldKind,
    rows: u32,
    points: u32,
    /// The slot of each entry, ascending, where entries are not rows.
    owners: Option<Numbers<u32>>,
    /// A bit for each entry with a value that is not null or an empty array.
    filled: Numbers<u64>,
    null: Numbers<u32>,
    /// Entries with a value of another kind.
    other: Numbers<u32>,
    /// By how many values a value counts as.
    counts: Column<i64>,
    values: Values,
}

enum Values {
    Keywords(Words),
    Numbers(Column<i64>),
    Uuids(Column<[u64; 2]>),
    Places(Places),
    Texts(Texts),
}

/// Floats in their order; both zeros are one key.
fn key_of_float(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

fn float_of_key(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64)
}

fn key_of_uuid(uuid: &Uuid) -> [u64; 2] {
    let (high, low) = uuid.as_u64_pair();
    [high, low]
}

impl FieldIndex {
    /// Opens an index that was made for this schema.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn open(schema: &FieldSchema, bytes: &Bytes) -> Result<Self, String> {
        let (header, mut file) = Reader::open(bytes)?;
        let kind = schema.kind();
        if header.kind != kind as u32 {
            return Err(format!("the field index is not one of kind {kind}"));
        }
        let nested = schema.common.nested.is_some();
        let owners = nested.then(|| file.numbers::<u32>()).transpose()?;
        let entries = owners.as_ref().map_or(header.rows as usize, |owners| owners.len());
        let (filled, null, other) = (file.numbers::<u64>()?, file.numbers()?, file.numbers()?);
        if filled.len() != entries.div_ceil(64) || header.points > header.rows {
            return Err("the field index has another number of rows than it says".to_owned());
        }
        let counts = Column::read(&mut file)?;
        let values = match &schema.options {
            FieldOptions::Keyword(_) => Values::Keywords(Words::read(&mut file)?),
            FieldOptions::Uuid(_) => Values::Uuids(Column::read(&mut file)?),
            FieldOptions::Geo => Values::Places(Places::read(&mut file)?),
            FieldOptions::Text(options) => Values::Texts(Texts::read(&mut file, options.keeps_positions())?),
            FieldOptions::Integer(_)
            | FieldOptions::Float(_)
            | FieldOptions::Bool
            | FieldOptions::Datetime(_) => Values::Numbers(Column::read(&mut file)?),
        };
        let (rows, points) = (header.rows, header.points);
        Ok(Self { kind, rows, points, owners, filled, null, other, counts, values })
    }

    /// How many rows the segment has.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// How many rows have a value of the index's kind.
    pub(crate) fn points(&self) -> usize {
        self.points as usize
    }

    /// The words of a field of texts.
    pub(crate) fn texts(&self) -> Option<&Texts> {
        match &self.values {
            Values::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// The slot of each entry, ascending, where entries are not rows.
    pub(crate) fn owners(&self) -> Option<&[u32]> {
        self.owners.as_deref()
    }

    pub(crate) fn entries(&self) -> u32 {
        self.owners().map_or(self.rows, |owners| owners.len() as u32)
    }

    fn slot_of(&self, entry: u32) -> u32 {
        self.owners().map_or(entry, |owners| owners.get(entry as usize).copied().unwrap_or(u32::MAX))
    }

    /// The slots of entries.
    pub(crate) fn slots_of(&self, entries: &Bits) -> Bits {
        entries.iter().map(|entry| self.slot_of(entry)).filter(|slot| *slot < self.rows).collect()
    }

    /// The slots that pass, exactly but for the doubtful ones; `None` if this
    /// index says nothing about the check.
    pub(crate) fn answer(&self, check: &Check<'_>) -> Option<Answer> {
        let entries = self.entries_that_pass(check)?;
        if self.owners.is_none() {
            return Some(entries);
        }
        Some(Answer { sure: self.slots_of(&entries.sure), doubt: self.slots_of(&entries.doubt) })
    }

    /// The same, entry by entry.
    pub(crate) fn entries_that_pass(&self, check: &Check<'_>) -> Option<Answer> {
        let (mut answer, entries) = (Answer::default(), self.entries());
        match check {
            Check::Plain(Test::IsEmpty(wanted)) => {
                let filled = Bits::from_words(&self.filled, entries);
                answer.sure = if *wanted { filled.not(entries) } else { filled };
            }
            Check::Plain(Test::IsNull(wanted)) => {
                answer.sure.insert_all(&self.null, entries);
                if !wanted {
                    answer.sure = answer.sure.not(entries);
                }
            }
            Check::Plain(Test::ValuesCount(_)) => {
                self.collect(&self.counts.postings, &self.counted(check), &mut answer);
            }
            _ => match &self.values {
                Values::Places(places) => {
                    places.each_in(area_of(check)?, |entry| answer.sure.insert_all(&[entry], entries));
                }
                Values::Texts(texts) => match check {
                    Check::Tokens(tokens) => {
                        let (passing, doubt) = texts.slots(tokens, entries);
                        *(if doubt { &mut answer.doubt } else { &mut answer.sure }) = passing;
                    }
                    _ => return None,
                },
                _ => {
                    let (postings, hits) = self.hits(check, true)?;
                    self.collect(postings, &hits, &mut answer);
                }
            },
        }
        Some(answer)
    }

    /// The slots that pass, in order, where they are one list of the index.
    pub(crate) fn listed(&self, check: &Check<'_>) -> Option<&[u32]> {
        if self.owners.is_some()
            || matches!(check, Check::Plain(Test::IsEmpty(_) | Test::IsNull(_) | Test::ValuesCount(_)))
        {
            return None;
        }
        let (postings, hits) = self.hits(check, false)?;
        match (&*hits.sure, &*hits.doubt, hits.other) {
            ([keys], [], Other::Fail) if keys.len() <= 1 => Some(postings.slots(keys.clone())),
            _ => None,
        }
    }

    /// Whether this index says anything about the check.
    pub(crate) fn knows(&self, check: &Check<'_>) -> bool {
        match (check, &self.values) {
            (Check::Plain(Test::IsEmpty(_) | Test::IsNull(_) | Test::ValuesCount(_)), _) => true,
            (_, Values::Places(_)) => area_of(check).is_some(),
            (_, Values::Texts(_)) => matches!(check, Check::Tokens(_)),
            // Only a look at every key is missing from the estimate then.
            (Check::Plain(test), Values::Keywords(_)) if test.is_about_strings() => true,
            _ => self.hits(check, false).is_some(),
        }
    }

    /// The keys of the values that pass.
    fn hits(&self, check: &Check<'_>, scan: bool) -> Option<(&Postings, Hits)> {
        Some(match &self.values {
            Values::Keywords(words) => (&words.postings, hits::keywords(words, check, scan)?),
            Values::Numbers(column) => (&column.postings, hits::numbers(column, self.kind, check)?),
            Values::Uuids(column) => (&column.postings, hits::uuids(column, check)?),
            Values::Places(_) | Values::Texts(_) => return None,
        })
    }

    /// The keys of the counts that pass.
    fn counted(&self, check: &Check<'_>) -> Hits {
        let Check::Plain(Test::ValuesCount(range)) = check else {
            return Hits::default();
        };
        let keys = self
            .counts
            .between(|key| range.starts_after(&(key as f64)), |key| range.ends_before(&(key as f64)));
        Hits { sure: vec![keys], ..Hits::default() }
    }

    fn collect(&self, postings: &Postings, hits: &Hits, answer: &mut Answer) {
        let all = self.entries();
        hits.sure.iter().for_each(|keys| answer.sure.insert_all(postings.slots(keys.clone()), all));
        hits.doubt.iter().for_each(|keys| answer.doubt.insert_all(postings.slots(keys.clone()), all));
        match hits.other {
            Other::Fail => {}
            Other::Pass => answer.sure.insert_all(&self.other, all),
            Other::Doubt => answer.doubt.insert_all(&self.other, all),
        }
    }

    /// How many rows pass, from counts alone; `None` if they say nothing.
    pub(crate) fn estimate(&self, check: &Check<'_>) -> Option<Estimate> {
        let entries = self.estimate_entries(check)?;
        if self.owners.is_none() {
            return Some(entries);
        }
        // All that pass may be of one row.
        let max = entries.max.min(self.rows as usize);
        let min = entries.min.min(1).min(max);
        Some(Estimate { min, expected: entries.expected.clamp(min, max), max })
    }

    fn estimate_entries(&self, check: &Check<'_>) -> Option<Estimate> {
        let rows = self.entries() as usize;
        match check {
            Check::Plain(Test::IsEmpty(wanted)) => {
                let filled: usize = self.filled.iter().map(|word| word.count_ones() as usize).sum();
                Some(Estimate::exactly(if *wanted { rows.saturating_sub(filled) } else { filled }))
            }
            Check::Plain(Test::IsNull(wanted)) => {
                let null = self.null.len();
                Some(Estimate::exactly(if *wanted { null } else { rows.saturating_sub(null) }))
            }
            Check::Plain(Test::ValuesCount(_)) => {
                Some(self.estimate_of(&self.counts.postings, &self.counted(check)))
            }
            _ => match &self.values {
                Values::Places(places) => {
                    let max = places.at_most(area_of(check)?).min(self.points());
                    Some(Estimate { min: 0, expected: max * 3 / 4, max })
                }
                Values::Texts(texts) => match check {
                    Check::Tokens(tokens) => Some(self.estimate_of_words(texts, tokens)),
                    _ => None,
                },
                _ => {
                    let (postings, hits) = self.hits(check, false)?;
                    Some(self.estimate_of(postings, &hits))
                }
            },
        }
    }

    fn estimate_of(&self, postings: &Postings, hits: &Hits) -> Estimate {
        let rows = self.entries() as usize;
        let count = |keys: &[Range<usize>]| -> usize {
            keys.iter().map(|keys| postings.places(keys.clone()).len()).sum()
        };
        // A row with several values may have been counted several times.
        let single = postings.entries() <= self.points();
        let one_key = hits.sure.iter().map(ExactSizeIterator::len).sum::<usize>() == 1;
        let (sure, mut doubt) = (count(&hits.sure), count(&hits.doubt));
        if hits.other != Other::Fail {
            doubt += self.other.len();
        }
        let max = (sure + doubt).min(rows);
        let min = (if single || one_key { sure } else { usize::from(sure > 0) }).min(max);
        let expected = if hits.other == Other::Pass { sure + doubt } else { sure + doubt / 2 };
        Estimate { min, expected: expected.clamp(min, max), max }
    }

    fn estimate_of_words(&self, texts: &Texts, tokens: &Tokens<'_>) -> Estimate {
        let (counts, points) = (texts.counts(tokens), self.points());
        let shares = counts.iter().map(|count| (*count as f64 / points.max(1) as f64).min(1.0));
        let (max, share) = match tokens.how {
            How::Any => {
                (counts.iter().sum::<usize>(), 1.0 - shares.map(|share| 1.0 - share).product::<f64>())
            }
            _ => (counts.iter().copied().min().unwrap_or(0), shares.product()),
        };
        let max = max.min(points);
        Estimate { min: 0, expected: ((share * points as f64) as usize).min(max), max }
    }

    /// The slots in the order of their values, from `start_from` on; a row with
    /// several values comes once for each. `None` if this index has no order.
    pub(crate) fn ordered(
        &self,
        descending: bool,
        start_from: Option<OrderValue>,
    ) -> Option<impl Iterator<Item = (OrderValue, u32)> + '_> {
        let Values::Numbers(column) = &self.values else {
            return None;
        };
        let value: fn(i64) -> OrderValue = match self.kind {
            FieldKind::Integer | FieldKind::Datetime => OrderValue::Int,
            FieldKind::Float => |key| OrderValue::Float(float_of_key(key)),
            _ => return None,
        };
        let keys = column.keys();
        let range = match start_from {
            None => 0..keys.len(),
            Some(from) if descending => 0..keys.partition_point(|key| value(*key).total_cmp(&from).is_le()),
            Some(from) => keys.partition_point(|key| value(*key).total_cmp(&from).is_lt())..keys.len(),
        };
        let (start, end) = (range.start, range.end);
        let places = range.map(move |place| if descending { start + (end - 1 - place) } else { place });
        let rows = self.rows;
        Some(places.flat_map(move |place| {
            let slots = column.postings.of(place).iter().map(|entry| self.slot_of(*entry));
            let mut last = None;
            let slots = slots.filter(move |slot| *slot < rows && last.replace(*slot) != Some(*slot));
            slots.map(move |slot| (value(keys[place]), slot))
        }))
    }

    /// How many of `among` have each value, in the order of values; `None` if
    /// the values of this index are not counted.
    pub(crate) fn facet(&self, among: &Bits) -> Option<Vec<(FacetValue, usize)>> {
        let counted = |postings: &Postings, value: &dyn Fn(usize) -> FacetValue| {
            let counts = (0..postings.keys()).filter_map(|key| {
                let slots = postings.of(key).iter().map(|entry| self.slot_of(*entry));
                let mut last = None;
                let count =
                    slots.filter(|slot| among.get(*slot) && last.replace(*slot) != Some(*slot)).count();
                (count > 0).then(|| (value(key), count))
            });
            counts.collect()
        };
        Some(match &self.values {
            Values::Keywords(words) => counted(&words.postings, &|key| {
                FacetValue::Keyword(String::from_utf8_lossy(words.word(key)).into_owned())
            }),
            Values::Uuids(column) => counted(&column.postings, &|key| {
                let [high, low] = column.keys()[key];
                FacetValue::Keyword(Uuid::from_u64_pair(high, low).hyphenated().to_string())
            }),
            Values::Numbers(column) => match self.kind {
                FieldKind::Integer => {
                    counted(&column.postings, &|key| FacetValue::Integer(column.keys()[key]))
                }
                FieldKind::Bool => {
                    counted(&column.postings, &|key| FacetValue::Bool(column.keys()[key] != 0))
                }
                _ => return None,
            },
            Values::Places(_) | Values::Texts(_) => return None,
        })
    }
}

fn area_of<'c>(check: &'c Check<'_>) -> Option<Area<'c>> {
    match check {
        Check::Plain(test) => test.area(),
        _ => None,
    }
}

impl Estimate {
    pub(crate) fn exactly(count: usize) -> Self {
        Self { min: count, expected: count, max: count }
    }
}

#[cfg(test)]
mod tests;
