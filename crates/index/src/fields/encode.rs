//! How a field index is made, point by point.

use std::collections::HashMap;

use serde_json::Value;

use super::places::Places;
use super::postings::{Column, Postings, Words};
use super::sections::{Header, Writer};
use super::texts::Texts;
use super::{key_of_float, key_of_uuid};
use crate::elements::Elements;
use crate::error::Result;
use crate::filter::geo::GeoPoint;
use crate::filter::prepared::{count, flat, is_empty};
use crate::filter::time;
use crate::path::Path;
use crate::point::Payload;
use crate::schema::{FieldKind, FieldOptions, FieldSchema};
use crate::text::Analyzer;

/// Takes the values of one field of each row and writes its index. Where each
/// object of an array counts for itself, it takes those of each object.
pub(crate) struct FieldEncoder {
    kind: FieldKind,
    rows: u32,
    points: u32,
    /// The last slot that was counted as a point.
    counted: Option<u32>,
    /// The slot of each entry, where entries are not rows.
    owners: Option<Vec<u32>>,
    filled: Vec<u64>,
    null: Vec<u32>,
    other: Vec<u32>,
    counts: Vec<(i64, u32)>,
    taken: Taken,
}

/// The values that the index is made of.
enum Taken {
    Keywords(Interned),
    Numbers(Vec<(i64, u32)>),
    Uuids(Vec<([u64; 2], u32)>),
    Places(Vec<(GeoPoint, u32)>),
    Texts { analyzer: Box<Analyzer>, with_positions: bool, words: Interned },
}

/// Strings by number, and which slot has which, at which position.
#[derive(Default)]
struct Interned {
    numbers: HashMap<String, u32>,
    /// Word, slot and position.
    entries: Vec<(u32, u32, u32)>,
    /// Where the entries of the row begin that is being taken.
    row: usize,
}

impl FieldEncoder {
    /// An index of `rows` rows, none of which has a value yet.
    pub(crate) fn new(schema: &FieldSchema, rows: u32) -> Result<Self> {
        let taken = match &schema.options {
            FieldOptions::Keyword(_) => Taken::Keywords(Interned::default()),
            FieldOptions::Uuid(_) => Taken::Uuids(Vec::new()),
            FieldOptions::Geo => Taken::Places(Vec::new()),
            FieldOptions::Text(options) => Taken::Texts {
                analyzer: Box::new(Analyzer::new(options)?),
                with_positions: options.keeps_positions(),
                words: Interned::default(),
            },
            FieldOptions::Integer(_)
            | FieldOptions::Float(_)
            | FieldOptions::Bool
            | FieldOptions::Datetime(_) => Taken::Numbers(Vec::new()),
        };
        let owners = schema.common.nested.as_ref().map(|_| Vec::new());
        let filled = vec![0; if owners.is_some() { 0 } else { (rows as usize).div_ceil(64) }];
        let (null, other, counts) = (Vec::new(), Vec::new(), Vec::new());
        let kind = schema.kind();
        Ok(Self { kind, rows, points: 0, counted: None, owners, filled, null, other, counts, taken })
    }

    /// Takes what a payload has at the field's path, each row once and in order.
    pub(crate) fn add_payload(
        &mut self,
        slot: u32,
        path: &Path,
        elements: Option<&Elements>,
        payload: &Payload,
    ) {
        match elements {
            Some(elements) => elements.each(payload).for_each(|values| self.add(slot, &values)),
            None => self.add(slot, &path.values(payload)),
        }
    }

    /// Takes the values of one row, each row once, or those of each object of it.
    /// Rows without a value need not come, objects must.
    pub(crate) fn add(&mut self, slot: u32, values: &[&Value]) {
        debug_assert!(slot < self.rows, "slot {slot} is beyond the {} rows", self.rows);
        let entry = self.entry(slot);
        if values.iter().any(|value| !is_empty(value)) {
            self.filled[entry as usize / 64] |= 1 << (entry % 64);
        }
        if values.iter().any(|value| value.is_null()) {
            self.null.push(entry);
        }
        self.counts.extend(values.iter().map(|value| (count(value) as i64, entry)));
        let (mut indexed, mut other) = (false, false);
        let mut position = 0;
        for value in flat(values).filter(|value| !value.is_null()) {
            if self.taken.take(self.kind, entry, value, &mut position) {
                indexed = true;
            } else {
                other = true;
            }
        }
        if let Taken::Keywords(words) | Taken::Texts { words, .. } = &mut self.taken {
            words.end_row();
        }
        if indexed && self.counted.replace(slot) != Some(slot) {
            self.points += 1;
        }
        if other {
            self.other.push(entry);
        }
    }

    /// The entry of a row, or the next one that it gets.
    fn entry(&mut self, slot: u32) -> u32 {
        let Some(owners) = &mut self.owners else { return slot };
        let entry = owners.len() as u32;
        owners.push(slot);
        self.filled.resize(owners.len().div_ceil(64), 0);
        entry
    }

    /// The bytes of the index.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.null.sort_unstable();
        self.other.sort_unstable();
        let mut file = Writer::default();
        if let Some(owners) = &self.owners {
            file.add(owners);
        }
        file.add(&self.filled);
        file.add(&self.null);
        file.add(&self.other);
        Column::write(self.counts, &mut file);
        match self.taken {
            Taken::Keywords(words) => drop(words.write(false, &mut file)),
            Taken::Numbers(entries) => Column::write(entries, &mut file),
            Taken::Uuids(entries) => Column::write(entries, &mut file),
            Taken::Places(entries) => Places::write(entries, &mut file),
            Taken::Texts { with_positions, words, .. } => {
                let positions = words.write(with_positions, &mut file);
                Texts::write_positions(&positions, &mut file);
            }
        }
        file.finish(Header { kind: self.kind as u32, rows: self.rows, points: self.points })
    }
}

impl Taken {
    /// Takes one value; false if the index is not made of such values.
    fn take(&mut self, kind: FieldKind, slot: u32, value: &Value, position: &mut u32) -> bool {
        match self {
            Self::Keywords(words) => value.as_str().map(|text| words.add(text, slot, 0)).is_some(),
            Self::Numbers(entries) => number(kind, value).map(|key| entries.push((key, slot))).is_some(),
            Self::Uuids(entries) => {
                let uuid = value.as_str().and_then(|text| uuid::Uuid::parse_str(text).ok());
                uuid.map(|uuid| entries.push((key_of_uuid(&uuid), slot))).is_some()
            }
            Self::Places(entries) => GeoPoint::of(value).map(|place| entries.push((place, slot))).is_some(),
            Self::Texts { analyzer, with_positions, words } => {
                let Some(text) = value.as_str() else {
                    return false;
                };
                analyzer.each_document_token(text, |token| {
                    words.add(token, slot, if *with_positions { *position } else { 0 });
                    *position = position.saturating_add(1);
                });
                *position = position.saturating_add(1);
                true
            }
        }
    }
}

fn number(kind: FieldKind, value: &Value) -> Option<i64> {
    match kind {
        FieldKind::Integer => value.as_i64(),
        FieldKind::Float => value.as_f64().map(key_of_float),
        FieldKind::Bool => value.as_bool().map(i64::from),
        FieldKind::Datetime => time::micros(value.as_str()?),
        _ => None,
    }
}

impl Interned {
    fn add(&mut self, word: &str, slot: u32, position: u32) {
        let number = match self.numbers.get(word) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(word.to_owned(), number);
                number
            }
        };
        self.entries.push((number, slot, position));
    }

    /// Without positions, words that a long text repeats are kept once.
    fn end_row(&mut self) {
        let mut row = self.entries.split_off(self.row);
        row.sort_unstable();
        row.dedup();
        self.entries.append(&mut row);
        self.row = self.entries.len();
    }

    /// Writes words and slots, and returns the positions if they are kept.
    fn write(mut self, with_positions: bool, file: &mut Writer) -> Vec<u32> {
        let mut words: Vec<(String, u32)> = self.numbers.into_iter().collect();
        words.sort_unstable();
        let mut ranks = vec![0; words.len()];
        for (rank, (_, number)) in (0u32..).zip(&words) {
            ranks[*number as usize] = rank;
        }
        for entry in &mut self.entries {
            entry.0 = ranks[entry.0 as usize];
        }
        self.entries.sort_unstable();
        Words::write(&words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(), file);
        let slots: Vec<(u32, u32)> = self.entries.iter().map(|(word, slot, _)| (*word, *slot)).collect();
        Postings::write(&slots, file);
        if with_positions {
            self.entries.iter().map(|(.., position)| *position).collect()
        } else {
            Vec::new()
        }
    }
}
