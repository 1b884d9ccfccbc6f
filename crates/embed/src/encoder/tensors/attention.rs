//! Multi-head attention of each text over itself, on a device.
//!
//! Texts of a group are side by side; what a token does not see gets a penalty
//! beside which no score matters. Queries are taken so many at a time that the
//! scores have a bounded size, however long a text is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Tensor};
use candle_nn::{ops, rotary_emb};

use super::super::device::Place;
use super::super::reach::{Heads, Reach};
use super::super::relative::Relative;
use super::super::rotary::BatchTurns;
use super::super::tokens::Sequence;
use super::linear::{failed, put};
use super::packing::{Group, Packing, joined};
use crate::Result;

/// Scores that are in memory together, but for those of a single query: 256 MiB in
/// 16 bits.
const SCORES: usize = 1 << 27;

/// Added to the score of what is not seen. Two of them and a score fit into f16,
/// and their exponential is 0 in any precision.
const UNSEEN: f64 = -3e4;

pub(super) struct Attention {
    heads: Heads,
    dtype: DType,
    /// Scores that are in memory together.
    scores: usize,
    /// What is added to scores for the distance of two tokens: head, query, key, for
    /// a text of the greatest length.
    relative: Option<Tensor>,
}

/// The rotations of a batch.
pub(super) struct Turns {
    kinds: Vec<Turned>,
    /// Which of them a layer has.
    layers: Vec<Option<usize>>,
}

/// A cosine and a sine for each token and each half column.
pub(super) struct Turned {
    cos: Tensor,
    sin: Tensor,
}

/// What is not seen in a batch.
pub(super) struct Masks<'a> {
    place: &'a Place,
    packing: &'a Packing,
    groups: Vec<Mask<'a>>,
    #[cfg(feature = "flash-attn")]
    flash: Option<super::flash::Flash>,
}

/// What is not seen in a group.
struct Mask<'a> {
    texts: &'a [&'a Sequence],
    /// Text, 1, 1, key: the keys that no query sees.
    keys: Option<Tensor>,
    /// 1, 1, query, key, of all queries, for the reaches that were asked for.
    patterns: RefCell<HashMap<(usize, usize), Tensor>>,
}

impl Turns {
    pub(super) fn layer(&self, layer: usize) -> Option<&Turned> {
        self.layers[layer].map(|kind| &self.kinds[kind])
    }
}

impl Turned {
    /// Turns the heads of each token: token, head, column.
    pub(super) fn apply(&self, heads: &Tensor) -> candle_core::Result<Tensor> {
        rotary_emb::rope_thd(&heads.unsqueeze(0)?.contiguous()?, &self.cos, &self.sin)?.squeeze(0)
    }
}

impl Attention {
    pub(super) fn new(heads: Heads, relative: Option<&Relative>, place: &Place) -> Result<Attention> {
        let relative = relative.map(|relative| {
            let most = relative.most();
            let row = |(head, at)| relative.row(head, at, most);
            let all = (0..heads.queries).flat_map(|head| (0..most).map(move |at| (head, at)));
            let values: Vec<f32> = all.flat_map(row).copied().collect();
            put(&values, place, place.dtype)
                .and_then(|values| values.reshape((heads.queries, most, most)))
                .map_err(|error| failed(error, place))
        });
        Ok(Attention { heads, dtype: place.dtype, scores: SCORES, relative: relative.transpose()? })
    }

    /// The rotations for the texts of a batch, on the device.
    pub(super) fn turns(
        &self,
        of: &BatchTurns<'_>,
        layers: usize,
        texts: &[&Sequence],
        place: &Place,
    ) -> candle_core::Result<Turns> {
        let kind = |turns: &Vec<_>| {
            let (mut cos, mut sin) = (Vec::new(), Vec::new());
            for (turns, text) in turns.iter().zip(texts) {
                let turns: &std::sync::Arc<super::super::rotary::Turns> = turns;
                let (of_cos, of_sin) = turns.of_first(text.len());
                cos.extend_from_slice(of_cos);
                sin.extend_from_slice(of_sin);
            }
            let rows = |values: &[f32]| put(values, place, place.dtype)?.reshape(((), self.heads.dim / 2));
            Ok(Turned { cos: rows(&cos)?, sin: rows(&sin)? })
        };
        let kinds = of.kinds().iter().map(kind).collect::<candle_core::Result<_>>()?;
        Ok(Turns { kinds, layers: (0..layers).map(|layer| of.kind(layer)).collect() })
    }

    /// What is not seen in a batch.
    #[cfg_attr(not(feature = "flash-attn"), allow(clippy::unused_self))]
    pub(super) fn masks<'a>(
        &self,
        packing: &'a Packing,
        texts: &'a [&'a Sequence],
        place: &'a Place,
    ) -> candle_core::Result<Masks<'a>> {
        let mut rest = texts;
        let group = |group: &Group| {
            let (texts, others) = rest.split_at(group.count());
            rest = others;
            Mask::new(group, texts, place)
        };
        Ok(Masks {
            groups: packing.groups.iter().map(group).collect::<candle_core::Result<_>>()?,
            #[cfg(feature = "flash-attn")]
            flash: match self.relative {
                None => super::flash::Flash::new(self.heads, texts, place)?,
                Some(_) => None,
            },
            packing,
            place,
        })
    }

    /// softmax(Q Kᵀ) V of each head; `qkv` has a row of the heads' inputs per token,
    /// and the result a row of theirs.
    pub(super) fn forward(
        &self,
        qkv: &Tensor,
        reach: Reach,
        masks: &Masks<'_>,
    ) -> candle_core::Result<Tensor> {
        #[cfg(feature = "flash-attn")]
        if let Some(flash) = masks.flash.as_ref().filter(|flash| flash.sees(reach)) {
            return flash.attend(qkv, reach);
        }
        let groups = masks.packing.groups.iter().zip(&masks.groups);
        let mixed = groups.map(|(group, mask)| self.attend(qkv, reach, (group, mask), masks.place));
        joined(&mixed.collect::<candle_core::Result<Vec<_>>>()?)
    }

    fn attend(
        &self,
        qkv: &Tensor,
        reach: Reach,
        (group, mask): (&Group, &Mask<'_>),
        place: &Place,
    ) -> candle_core::Result<Tensor> {
        let Heads { queries, keys, dim } = self.heads;
        let (texts, longest) = (group.count(), group.longest);
        let rows = group.side_by_side(qkv)?.reshape((texts, longest, queries + 2 * keys, dim))?;
        let part = |from, heads| rows.narrow(2, from, heads)?.transpose(1, 2)?.contiguous();
        let query = part(0, queries)?;
        // Queries that share keys are rows of one product.
        let key = part(queries, keys)?.reshape((texts * keys, longest, dim))?.t()?;
        let value = part(queries + keys, keys)?.reshape((texts * keys, longest, dim))?;
        let step = (self.scores / (texts * queries * longest)).clamp(1, longest);
        let mut mixed = Vec::new();
        for from in (0..longest).step_by(step) {
            let some = from..(from + step).min(longest);
            let together = (texts * keys, self.heads.group() * some.len(), ());
            let scores = query.narrow(2, from, some.len())?.contiguous()?.reshape(together)?.matmul(&key)?;
            let scores = scores.reshape((texts, queries, some.len(), longest))?;
            let scores = self.unseen(scores, reach, some.clone(), (group, mask), place)?;
            let weights = ops::softmax_last_dim(&scores.contiguous()?)?.reshape(together)?;
            mixed.push(weights.matmul(&value)?.reshape((texts, queries, some.len(), dim))?);
        }
        let mixed = if let [one] = &mixed[..] { one.clone() } else { Tensor::cat(&mixed, 2)? };
        let rows = mixed.transpose(1, 2)?.contiguous()?.reshape((texts * longest, queries * dim))?;
        group.one_by_one(&rows)
    }

    /// The scores of some queries with what is added to them.
    fn unseen(
        &self,
        mut scores: Tensor,
        reach: Reach,
        some: Range<usize>,
        (group, mask): (&Group, &Mask<'_>),
        place: &Place,
    ) -> candle_core::Result<Tensor> {
        let longest = group.longest;
        if let Some(relative) = &self.relative {
            let bias = relative.narrow(1, some.start, some.len())?.narrow(2, 0, longest)?;
            scores = scores.broadcast_add(&bias)?;
        }
        let sees_all = reach.before >= longest && reach.after >= longest;
        if !sees_all && mask.texts.iter().any(|text| text.unseen > 0) {
            return scores.broadcast_add(&mask.exact(reach, some, longest, place)?);
        }
        if let Some(keys) = &mask.keys {
            scores = scores.broadcast_add(keys)?;
        }
        if !sees_all {
            scores = scores.broadcast_add(&mask.pattern(reach, some, longest, place)?)?;
        }
        debug_assert_eq!(scores.dtype(), self.dtype);
        Ok(scores)
    }
}

impl<'a> Mask<'a> {
    fn new(group: &Group, texts: &'a [&'a Sequence], place: &Place) -> candle_core::Result<Mask<'a>> {
        let all_seen = group.is_even() && texts.iter().all(|text| text.unseen == 0);
        let keys = (!all_seen).then(|| {
            let text = |text: &&Sequence| {
                let seen = text.seen().max(1);
                (0..group.longest).map(move |key| if key < seen { 0.0 } else { UNSEEN as f32 })
            };
            let values: Vec<f32> = texts.iter().flat_map(text).collect();
            put(&values, place, place.dtype)?.reshape((texts.len(), 1, 1, group.longest))
        });
        Ok(Mask { texts, keys: keys.transpose()?, patterns: RefCell::default() })
    }

    /// The penalties of a window or of what comes later, alike in all texts.
    fn pattern(
        &self,
        reach: Reach,
        some: Range<usize>,
        longest: usize,
        place: &Place,
    ) -> candle_core::Result<Tensor> {
        let made = || -> candle_core::Result<Tensor> {
            let numbers =
                |range: Range<usize>| Tensor::arange(range.start as f32, range.end as f32, &place.device);
            let query = numbers(some.clone())?.unsqueeze(1)?;
            // How far behind the query each key is.
            let behind = numbers(0..longest)?.unsqueeze(0)?.broadcast_sub(&query)?;
            let mut beyond = behind.zeros_like()?;
            if reach.after < longest {
                beyond = (beyond + behind.affine(1.0, -(reach.after as f64))?.relu()?)?;
            }
            if reach.before < longest {
                beyond = (beyond + behind.affine(-1.0, -(reach.before as f64))?.relu()?)?;
            }
            // One step beyond is as far as any: f16 ends soon.
            let penalty = beyond.minimum(1.0)?.affine(UNSEEN, 0.0)?.to_dtype(place.dtype)?;
            penalty.unsqueeze(0)?.unsqueeze(0)
        };
        if some.len() < longest {
            return made();
        }
        let kind = (reach.before, reach.after);
        if let Some(known) = self.patterns.borrow().get(&kind) {
            return Ok(known.clone());
        }
        let pattern = made()?;
        self.patterns.borrow_mut().insert(kind, pattern.clone());
        Ok(pattern)
    }

    /// The penalties of each text by itself: where tokens that nobody sees meet a
    /// window, one may have to look back to what is seen.
    fn exact(
        &self,
        reach: Reach,
        some: Range<usize>,
        longest: usize,
        place: &Place,
    ) -> candle_core::Result<Tensor> {
        let mut values = vec![UNSEEN as f32; self.texts.len() * some.len() * longest];
        let rows = values.chunks_exact_mut(longest);
        let of = self.texts.iter().flat_map(|text| some.clone().map(move |at| (text, at)));
        for (row, (text, at)) in rows.zip(of) {
            let at = at.min(text.len() - 1);
            row[reach.among(text.seen()).of(at, text.len())].fill(0.0);
        }
        put(&values, place, place.dtype)?.reshape((self.texts.len(), 1, some.len(), longest))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device as Opened, Tensor};

    use super::super::super::attend::by_definition;
    use super::super::super::device::{Device, Place};
    use super::super::super::kernels::numbers;
    use super::super::super::reach::{Heads, Reach};
    use super::super::super::tokens::Sequence;
    use super::super::packing::Packing;
    use super::Attention;

    #[test]
    fn attention_is_that_of_the_paper_for_texts_side_by_side_and_any_reach() {
        let place = Place { name: Device::Cpu, device: Opened::Cpu, dtype: DType::F32 };
        let reaches = [Reach::ALL, Reach::BACK, Reach::window(5, 5), Reach::window(3, 0)];
        for (queries, keys, dim) in [(1, 1, 1), (2, 2, 8), (3, 1, 33), (4, 2, 16)] {
            let heads = Heads { queries, keys, dim };
            let mut attention = Attention::new(heads, None, &place).expect("nothing to load");
            for unseen in [0, 3] {
                let text = |length: usize| {
                    let one = Sequence::one(vec![0; length]);
                    Sequence { unseen: if length > 40 { unseen } else { 0 }, ..one }
                };
                let texts = [70, 70, 66, 31, 12, 12, 5, 1].map(text);
                let texts: Vec<&Sequence> = texts.iter().collect();
                let packing = Packing::new(&texts);
                let values = numbers(packing.tokens * heads.wide(), dim);
                let qkv = Tensor::from_slice(&values, (packing.tokens, heads.wide()), &Opened::Cpu);
                let qkv = qkv.expect("as many");
                for (reach, scores) in reaches.iter().flat_map(|reach| [(reach, 1 << 20), (reach, 900)]) {
                    attention.scores = scores;
                    let masks = attention.masks(&packing, &texts, &place).expect("masks");
                    let found = attention.forward(&qkv, *reach, &masks).expect("runs");
                    let found = found.flatten_all().and_then(|found| found.to_vec1::<f32>()).expect("f32");
                    let want = texts.iter().zip(packing.ranges()).flat_map(|(text, range)| {
                        let wide = heads.wide();
                        let rows = &values[range.start * wide..range.end * wide];
                        by_definition(rows, heads, reach.among(text.seen()))
                    });
                    let mut count = 0;
                    for (got, want) in found.iter().zip(want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(error < 2e-4, "{heads:?} {reach:?} {unseen} {scores}: {got} {want}");
                        count += 1;
                    }
                    assert_eq!(count, packing.tokens * heads.out());
                }
            }
        }
    }
}
