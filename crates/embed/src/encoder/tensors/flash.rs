//! Attention that knows where texts begin, on an NVIDIA GPU (FlashAttention-2):
//! nothing is put side by side, and no scores are in memory.

use candle_core::{DType, Tensor};
use candle_flash_attn::flash_attn_varlen_windowed;

use super::super::device::Place;
use super::super::reach::{Heads, Reach};
use super::super::tokens::Sequence;
use super::linear::indices;

/// The widest heads for which it is compiled.
const WIDEST: usize = 256;

/// Where the texts of a batch begin.
pub(super) struct Flash {
    heads: Heads,
    /// The row of each text's first token, and the number of rows.
    starts: Tensor,
    longest: usize,
    /// The same for the tokens that are seen, and which these are; nothing if all
    /// are.
    seen: Option<(Tensor, Tensor, usize)>,
}

impl Flash {
    /// Nothing where it cannot be used: it wants short floats, heads of certain
    /// sizes, and a GPU of NVIDIA's.
    pub(super) fn new(
        heads: Heads,
        texts: &[&Sequence],
        place: &Place,
    ) -> candle_core::Result<Option<Flash>> {
        let fits = heads.dim.is_multiple_of(8) && heads.dim <= WIDEST;
        if !fits || place.dtype == DType::F32 || !place.device.is_cuda() {
            return Ok(None);
        }
        let starts = |lengths: &mut dyn Iterator<Item = usize>| {
            let mut starts = vec![0];
            let mut start = 0;
            for length in lengths {
                start += length as u32;
                starts.push(start);
            }
            indices(starts, &place.device)
        };
        let seen = if texts.iter().any(|text| text.unseen > 0) {
            let mut rows = Vec::new();
            let mut start = 0;
            for text in texts {
                rows.extend(start..start + text.seen() as u32);
                start += text.len() as u32;
            }
            let longest = texts.iter().map(|text| text.seen()).max().unwrap_or(0);
            let starts = starts(&mut texts.iter().map(|text| text.seen()))?;
            Some((indices(rows, &place.device)?, starts, longest))
        } else {
            None
        };
        Ok(Some(Flash {
            heads,
            starts: starts(&mut texts.iter().map(|text| text.len()))?,
            longest: texts.iter().map(|text| text.len()).max().unwrap_or(0),
            seen,
        }))
    }

    /// Whether it can look so far: with fewer keys than queries its windows would be
    /// counted from the end.
    pub(super) fn sees(&self, reach: Reach) -> bool {
        let all = reach.before >= self.longest && reach.after >= self.longest;
        all || self.seen.is_none()
    }

    /// As `Attention::forward`.
    pub(super) fn attend(&self, qkv: &Tensor, reach: Reach) -> candle_core::Result<Tensor> {
        let Heads { queries, keys, dim } = self.heads;
        let heads = qkv.reshape((qkv.dim(0)?, queries + 2 * keys, dim))?;
        let query = heads.narrow(1, 0, queries)?;
        let (others, starts, longest) = match &self.seen {
            None => (heads.clone(), &self.starts, self.longest),
            Some((rows, starts, longest)) => (heads.contiguous()?.index_select(rows, 0)?, starts, *longest),
        };
        let window = |tokens: usize| (tokens < self.longest).then_some(tokens);
        flash_attn_varlen_windowed(
            &query,
            &others.narrow(1, queries, keys)?,
            &others.narrow(1, queries + keys, keys)?,
            &self.starts,
            starts,
            self.longest,
            longest,
            // Queries are scaled already.
            1.0,
            window(reach.before),
            window(reach.after),
        )?
        .flatten_from(1)
    }
}
