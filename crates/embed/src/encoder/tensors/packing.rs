//! Where the texts of a batch are: one after the other, and for what looks at a
//! whole text, side by side with others of about the same length.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::super::tokens::Sequence;
use super::linear::indices;

/// Rows that may be added to a text, and the part of its length that may be, to put
/// it beside a longer one.
const PADDING: (usize, usize) = (8, 4);

pub(super) struct Packing {
    pub(super) tokens: usize,
    pub(super) groups: Vec<Group>,
}

/// Texts that follow each other and are about as long.
pub(super) struct Group {
    /// The row of the first token.
    pub(super) start: usize,
    pub(super) lengths: Vec<usize>,
    pub(super) longest: usize,
}

impl Packing {
    /// The places of texts that are not empty; batches have the long ones first.
    pub(super) fn new(texts: &[&Sequence]) -> Packing {
        let mut packing = Packing { tokens: 0, groups: Vec::new() };
        for text in texts {
            let (length, start) = (text.len(), packing.tokens);
            packing.tokens += length;
            match packing.groups.last_mut() {
                Some(group) if group.takes(length) => group.lengths.push(length),
                _ => packing.groups.push(Group { start, lengths: vec![length], longest: length }),
            }
        }
        packing
    }

    /// The rows of each text.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.groups.iter().flat_map(Group::ranges)
    }
}

impl Group {
    fn takes(&self, length: usize) -> bool {
        let (rows, part) = PADDING;
        length <= self.longest && self.longest - length <= rows.max(self.longest / part)
    }

    /// The texts.
    pub(super) fn count(&self) -> usize {
        self.lengths.len()
    }

    /// The rows of all of them.
    pub(super) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Whether all are of one length.
    pub(super) fn is_even(&self) -> bool {
        self.lengths.iter().all(|length| *length == self.longest)
    }

    /// The rows of each text.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.lengths.iter().scan(self.start, |start, length| {
            let range = *start..*start + length;
            *start = range.end;
            Some(range)
        })
    }

    /// Puts rows of the batch side by side: text, token, value. A shorter text ends
    /// with its last row again and again, so that nothing there is not a number.
    pub(super) fn side_by_side(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let shape = (self.count(), self.longest, rows.dim(1)?);
        if self.is_even() {
            return rows.narrow(0, self.start, self.tokens())?.reshape(shape);
        }
        let text = |range: Range<usize>| {
            (0..self.longest).map(move |at| (range.start + at.min(range.len() - 1)) as u32)
        };
        let from = indices(self.ranges().flat_map(text).collect(), rows.device())?;
        rows.contiguous()?.index_select(&from, 0)?.reshape(shape)
    }

    /// The rows of `side_by_side`, without those that were added, one after the
    /// other.
    pub(super) fn one_by_one(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let rows = rows.reshape((self.count() * self.longest, ()))?;
        if self.is_even() {
            return Ok(rows);
        }
        let text = |(text, length): (usize, &usize)| {
            let first = text * self.longest;
            (first..first + length).map(|row| row as u32)
        };
        let from = self.lengths.iter().enumerate().flat_map(text).collect();
        rows.index_select(&indices(from, rows.device())?, 0)
    }
}

/// One tensor of those of all groups.
pub(super) fn joined(parts: &[Tensor]) -> candle_core::Result<Tensor> {
    match parts {
        [one] => Ok(one.clone()),
        parts => Tensor::cat(parts, 0),
    }
}

/// A matrix of so many rows of values made on this side.
pub(super) fn matrix(
    values: Vec<f32>,
    shape: (usize, usize, usize),
    device: &Device,
) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape, device)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::super::tokens::Sequence;
    use super::{Packing, joined};

    #[test]
    fn texts_of_about_one_length_go_together_and_come_back_as_they_were() {
        let lengths = [100, 99, 76, 74, 60, 12, 12, 12, 5, 4, 1];
        let texts: Vec<Sequence> = lengths.iter().map(|&length| Sequence::one(vec![0; length])).collect();
        let packing = Packing::new(&texts.iter().collect::<Vec<_>>());
        let groups: Vec<&[usize]> = packing.groups.iter().map(|group| &group.lengths[..]).collect();
        assert_eq!(groups, [&lengths[..3], &lengths[3..5], &lengths[5..10], &lengths[10..]]);
        assert_eq!(packing.tokens, lengths.iter().sum::<usize>());
        assert_eq!(packing.ranges().map(|range| range.len()).collect::<Vec<_>>(), lengths);

        let rows = Tensor::arange(0u32, 3 * packing.tokens as u32, &Device::Cpu).expect("numbers");
        let rows = rows.reshape((packing.tokens, 3)).expect("as many");
        let back: Vec<Tensor> = packing
            .groups
            .iter()
            .map(|group| group.one_by_one(&group.side_by_side(&rows).expect("rows")).expect("rows"))
            .collect();
        let back = joined(&back).expect("of one width");
        assert_eq!(back.to_vec2::<u32>().expect("rows"), rows.to_vec2::<u32>().expect("rows"));
    }

    #[test]
    fn a_longer_text_after_a_shorter_one_begins_a_group() {
        let texts = [3, 40, 39].map(|length| Sequence::one(vec![0; length]));
        assert_eq!(Packing::new(&texts.iter().collect::<Vec<_>>()).groups.len(), 2);
    }
}
