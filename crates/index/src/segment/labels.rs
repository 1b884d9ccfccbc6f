//! The strings that ids of a segment were made of.
//!
//! Sections: `label_ends`, u64, where the label of each row ends in `labels`,
//! which holds their text. An empty one is told from none by a bit a row in
//! `labelled`. All three are missing when no row has a label.

use std::sync::Arc;

use super::container::{Container, Writer};
use crate::bits::Bits;
use crate::bytes::Bytes;
use crate::error::Result;

pub(crate) struct Labels {
    labelled: Bits,
    ends: Bytes,
    text: Bytes,
}

pub(crate) fn write(writer: &mut Writer, rows: u32, label: &dyn Fn(u32) -> Option<Arc<str>>) -> Result<()> {
    if (0..rows).all(|row| label(row).is_none()) {
        return Ok(());
    }
    let mut labelled = vec![0u64; (rows as usize).div_ceil(64)];
    let mut ends = Vec::with_capacity(rows as usize);
    let mut end = 0u64;
    writer.begin("labels")?;
    for row in 0..rows {
        if let Some(label) = label(row) {
            writer.write(label.as_bytes())?;
            end += label.len() as u64;
            labelled[row as usize / 64] |= 1 << (row % 64);
        }
        ends.push(end);
    }
    writer.section("label_ends", bytemuck::cast_slice(&ends))?;
    writer.section("labelled", bytemuck::cast_slice(&labelled))
}

impl Labels {
    /// `None` where no row has a label, as in segments of before there were any.
    pub(crate) fn open(container: &Container, rows: usize) -> Result<Option<Self>, String> {
        if !container.has("labels") {
            return Ok(None);
        }
        let labelled = container.section("labelled")?;
        let words = labelled.numbers::<u64>().filter(|words| words.len() == rows.div_ceil(64));
        let labelled = Bits::from_words(words.ok_or("section labelled has another length")?, rows as u32);
        let labels =
            Self { labelled, ends: container.section("label_ends")?, text: container.section("labels")? };
        let ends = labels.ends.numbers::<u64>().unwrap_or_default();
        let text = std::str::from_utf8(&labels.text).map_err(|error| error.to_string())?;
        let fits = ends.len() == rows
            && ends.is_sorted()
            && ends.last().copied().unwrap_or(0) == text.len() as u64
            && ends.iter().all(|end| text.is_char_boundary(*end as usize));
        if fits { Ok(Some(labels)) } else { Err("its labels do not fit its rows".to_owned()) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    pub(crate) fn label(&self, slot: u32) -> Option<&str> {
        if !self.labelled.get(slot) {
            return None;
        }
        let ends = self.ends.numbers::<u64>().expect("checked when opened");
        let start = if slot == 0 { 0 } else { ends[slot as usize - 1] };
        let text = &self.text[start as usize..ends[slot as usize] as usize];
        Some(std::str::from_utf8(text).expect("checked when opened"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(write: impl FnOnce(&mut Writer) -> Result<()>, rows: usize) -> Result<Option<Labels>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.segment");
        let mut writer = Writer::create(&path).unwrap();
        write(&mut writer).unwrap();
        writer.finish("test", serde_json::json!({})).unwrap();
        Labels::open(&Container::open(&path, "test").unwrap(), rows)
    }

    #[test]
    fn each_row_has_its_own_label_an_empty_one_or_none() {
        let given = [Some("gr\u{fc}n"), None, Some(""), Some("b"), None];
        let label = |row: u32| given[row as usize].map(Arc::from);
        let labels = open(|writer| write(writer, 5, &label), 5).unwrap().unwrap();
        assert_eq!(given.len(), 5);
        for (slot, want) in (0u32..).zip(given) {
            assert_eq!(labels.label(slot), want, "{slot}");
        }
        assert!(open(|writer| write(writer, 5, &|_| None), 5).unwrap().is_none());
    }

    #[test]
    fn labels_that_do_not_fit_their_rows_are_refused() {
        let written = |text: &'static str, ends: &'static [u64]| {
            move |writer: &mut Writer| {
                writer.section("labels", text.as_bytes())?;
                writer.section("label_ends", bytemuck::cast_slice(ends))?;
                writer.section("labelled", bytemuck::cast_slice(&[3u64]))
            }
        };
        assert!(open(written("ab", &[1, 2]), 2).is_ok());
        for (text, ends) in [("ab", &[1, 3][..]), ("ab", &[2, 1]), ("ab", &[2]), ("\u{fc}", &[1, 2])] {
            assert!(open(written(text, ends), 2).is_err(), "{text} {ends:?}");
        }
    }
}
