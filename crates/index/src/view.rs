//! A picture of a collection at one seq: what reads work on, without locks.

use std::sync::Arc;

use crate::bits::Bits;
use crate::collection::Page;
use crate::config::CollectionConfig;
use crate::error::Result;
use crate::filter::Filter;
use crate::filter::prepared::Prepared;
use crate::id::PointId;
use crate::part::{Filtered, Part, VectorUids};
use crate::plan::Matcher;
use crate::point::{Parts, Record, Selector, now_ms};
use crate::vector::Vectors;

/// Where a row is: its part's place among the view's parts, and its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) part: u32,
    pub(crate) slot: u32,
}

#[derive(Clone)]
pub(crate) struct View {
    /// The last operation that is seen.
    pub(crate) seq: u64,
    pub(crate) config: Arc<CollectionConfig>,
    pub(crate) uids: Arc<VectorUids>,
    /// Oldest first; the last one grows.
    pub(crate) parts: Vec<Part>,
    /// The clock when the picture was taken.
    pub(crate) now_ms: u64,
}

impl View {
    pub(crate) fn new(
        seq: u64,
        config: Arc<CollectionConfig>,
        uids: Arc<VectorUids>,
        parts: Vec<Part>,
    ) -> Self {
        Self { seq, config, uids, parts, now_ms: now_ms() }
    }

    /// The same picture with the clock as it is now.
    pub(crate) fn now(&self) -> Self {
        Self { now_ms: now_ms(), ..self.clone() }
    }

    pub(crate) fn part(&self, place: Place) -> &Part {
        &self.parts[place.part as usize]
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &Part)> {
        (0u32..).zip(&self.parts)
    }

    pub(crate) fn filtered<'v>(&'v self, part: &'v Part) -> Filtered<'v> {
        Filtered { part, uids: &self.uids, schema: &self.config.payload_indexes }
    }

    /// What a vector's name means now.
    pub(crate) fn uid(&self, name: &str) -> Option<u64> {
        self.uids.get(name).copied()
    }

    /// A filter made ready; `None` for one that lets everything through.
    pub(crate) fn prepare<'f>(&self, filter: Option<&'f Filter>) -> Result<Option<Prepared<'f>>> {
        let filter = filter.filter(|filter| !filter.is_empty());
        filter.map(|filter| Prepared::new(filter, &self.config.payload_indexes)).transpose()
    }

    /// The row of an id, if it is there.
    pub(crate) fn find(&self, id: &PointId) -> Option<Place> {
        self.parts.iter().enumerate().rev().find_map(|(number, part)| {
            let slot = part.find(id).filter(|slot| !part.is_expired(*slot, self.now_ms))?;
            Some(Place { part: number as u32, slot })
        })
    }

    /// Calls `each` with every row that is there and matches, part by part.
    pub(crate) fn each_matching(
        &self,
        filter: Option<&Filter>,
        each: &mut dyn FnMut(Place) -> Result<()>,
    ) -> Result<()> {
        let prepared = self.prepare(filter)?;
        for (number, part) in self.numbered() {
            let each = &mut |slot| each(Place { part: number, slot });
            self.slots_matching(part, prepared.as_ref(), each)?;
        }
        Ok(())
    }

    /// The slots of a part that are there and match.
    pub(crate) fn slots(&self, part: &Part, filter: Option<&Prepared<'_>>) -> Result<Bits> {
        if filter.is_none() && !part.has_expiry() {
            return Ok((*part.marks.live).clone());
        }
        let mut slots = Bits::with_len(part.len());
        self.slots_matching(part, filter, &mut |slot| {
            slots.set(slot, true);
            Ok(())
        })?;
        Ok(slots)
    }

    pub(crate) fn slots_matching(
        &self,
        part: &Part,
        filter: Option<&Prepared<'_>>,
        each: &mut dyn FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let cancel = crate::cancel::current();
        let there = |slot: u32| part.is_there(slot, self.now_ms);
        let Some(filter) = filter else {
            cancel.until(part.marks.live.iter()).filter(|slot| there(*slot)).try_for_each(each)?;
            return cancel.check();
        };
        let filtered = self.filtered(part);
        let matcher = Matcher::new(filter, &filtered);
        if let Some(slots) = matcher.exact_slots() {
            cancel.until(slots.iter()).filter(|slot| there(*slot)).try_for_each(each)?;
            return cancel.check();
        }
        let wanted = |slot: &u32| there(*slot) && matcher.check(*slot);
        match matcher.candidates() {
            Some(slots) => cancel.until(slots.iter()).filter(wanted).try_for_each(each)?,
            None => cancel.until(part.marks.live.iter()).filter(wanted).try_for_each(each)?,
        }
        cancel.check()
    }

    /// Points that are there and match.
    pub(crate) fn count(&self, filter: Option<&Filter>) -> Result<usize> {
        let prepared = self.prepare(filter)?;
        let mut count = 0;
        for part in &self.parts {
            if prepared.is_none() && !part.has_expiry() {
                count += part.marks.live.count();
                continue;
            }
            self.slots_matching(part, prepared.as_ref(), &mut |_| {
                count += 1;
                Ok(())
            })?;
        }
        Ok(count)
    }

    /// Points that are there.
    pub(crate) fn points(&self) -> usize {
        self.count(None).expect("without a filter nothing can fail")
    }

    /// Rows in order of id, from the first that is not below `from`.
    pub(crate) fn scroll(
        &self,
        filter: Option<&Filter>,
        from: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let prepared = self.prepare(filter)?;
        let ordered: Vec<_> = self.parts.iter().map(|part| part.ordered(from)).collect();
        let filtered: Vec<_> = self.parts.iter().map(|part| self.filtered(part)).collect();
        let matchers: Vec<_> =
            filtered.iter().map(|part| prepared.as_ref().map(|filter| Matcher::new(filter, part))).collect();
        // The next row of each part; the smallest id comes first.
        let mut next: Vec<usize> = vec![0; self.parts.len()];
        let mut heads = std::collections::BinaryHeap::new();
        let cancel = crate::cancel::current();
        let advance = |number: usize, next: &mut [usize]| {
            let part = &self.parts[number];
            let rest = ordered[number].get(next[number]..).unwrap_or_default();
            for &slot in cancel.until(rest.iter()) {
                next[number] += 1;
                let wanted = part.is_there(slot, self.now_ms)
                    && matchers[number].as_ref().is_none_or(|matcher| matcher.check(slot));
                if wanted {
                    return Some(std::cmp::Reverse((part.id(slot), number as u32, slot)));
                }
            }
            None
        };
        heads.extend((0..self.parts.len()).filter_map(|number| advance(number, &mut next)));
        let mut places = Vec::new();
        while places.len() < limit
            && let Some(std::cmp::Reverse((_, part, slot))) = heads.pop()
        {
            places.push(Place { part, slot });
            heads.extend(advance(part as usize, &mut next));
        }
        cancel.check()?;
        Ok(places)
    }

    /// A page of records, and the row that the next one begins with.
    pub(crate) fn page(&self, records: Vec<Record>, next: Option<&Place>) -> Page {
        let next = next.map(|place| (self.part(*place), place.slot));
        Page {
            records,
            next: next.map(|(part, slot)| part.id(slot)),
            next_label: next.and_then(|(part, slot)| part.label(slot)),
        }
    }

    pub(crate) fn vectors(&self, place: Place, wanted: &Selector) -> Option<Vectors> {
        if *wanted == Selector::None {
            return None;
        }
        let part = self.part(place);
        let names = self.uids.keys().filter(|name| wanted.wants(name));
        let vector =
            |name: &String| Some((name.clone(), part.vector(place.slot, name, &self.uids)?.into_owned()));
        Some(names.filter_map(vector).collect())
    }

    pub(crate) fn payload(&self, place: Place, wanted: &Selector) -> Result<Option<crate::Payload>> {
        if *wanted == Selector::None {
            return Ok(None);
        }
        Ok(wanted.pick(&*self.part(place).payload(place.slot)?))
    }

    pub(crate) fn record(&self, place: Place, parts: &Parts) -> Result<Record> {
        let part = self.part(place);
        Ok(Record {
            id: part.id(place.slot),
            label: part.label(place.slot),
            version: part.version(place.slot),
            payload: self.payload(place, &parts.payload)?,
            vectors: self.vectors(place, &parts.vectors),
            expiry: part.expiry(place.slot),
        })
    }
}
