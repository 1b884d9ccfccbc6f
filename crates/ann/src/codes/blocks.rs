//! One bit a value, of the neighbours of a position, beside the position.
//!
//! A neighbour x of the position c is stored as the signs w (each a half, or
//! minus a half) of its residual r = x - c, and two numbers that correct what
//! signs alone get wrong (RaBitQ, Gao and Long 2024). With the distance to c,
//! which is measured, the product <q, r> is estimated as A <q, w> with
//! A = |r|^2 / <w, r>: the length along r comes out right, and what is left is
//! nearly orthogonal to q after a random rotation.
//!
//! By cosine and dot the part of q along c is known, so that only the rest is
//! estimated: <q, x> is about <q, c> (1 + E) + A <q, w> with
//! E = (<c, r> - A <c, w>) / |c|^2. By Euclid |q - x|^2 is about
//! |q - c|^2 + F - 2 A <q, w> with F = |r|^2 + 2 A <c, w>.
//!
//! The codes of 32 neighbours lie so that one instruction looks up four values
//! of all 32 (FastScan; SymphonyQG, Gou and others 2025), in blocks of whole
//! lines:
//!
//! ```text
//! 32 links          u32; unused room names the position itself
//! 32 shares         f32, -A or -2 A; not a number in unused room
//! 32 corrections    f32, E or F
//! codes             16 bytes for each four values, see simd::place
//! ```
//!
//! All of it is made from codes of one byte a value, so it follows from the
//! links and those.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::borrow::Cow;

use rayon::prelude::*;

use super::int8::{Int8, OFFSET};
use crate::Metric;
use crate::array::{Array, Line};
use crate::links::Links;
use crate::pages;
use crate::prefetch::prefetch_all;
use crate::simd::{GROUP, LINE, Simd, Task, place, run};

/// Lines of the links, and of each kind of numbers.
const LINES_OF_NUMBERS: usize = GROUP * 4 / LINE;
/// Lines before the codes.
const HEAD: usize = 3 * LINES_OF_NUMBERS;
/// Values that a table is for.
const PER_TABLE: usize = 4;
/// Entries of a table.
const ENTRIES: usize = 1 << PER_TABLE;
/// Codes asked for ahead of the one being measured.
const AHEAD: usize = 8;
/// The largest entry, but for rounding.
const TOP: f32 = 254.0;

/// The codes of the neighbours of every position.
#[derive(Clone, PartialEq)]
pub(crate) struct Blocks {
    lines: Array<Line>,
    shape: BlockShape,
}

/// How large blocks are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BlockShape {
    /// Values of a code.
    pub(crate) width: usize,
    /// Blocks of each position.
    pub(crate) groups: usize,
}

impl BlockShape {
    /// Room for so many links.
    pub(crate) fn of(width: usize, links: usize) -> Self {
        Self { width, groups: links.div_ceil(GROUP) }
    }

    /// Lines of one block.
    fn block(self) -> usize {
        HEAD + self.width * GROUP / 8 / LINE
    }

    /// Lines of all blocks of a position.
    pub(crate) fn lines(self) -> usize {
        self.groups * self.block()
    }
}

/// One block.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) links: &'a [u32; GROUP],
    shares: &'a [f32; GROUP],
    corrections: &'a [f32; GROUP],
    codes: &'a [Line],
}

impl Blocks {
    /// Blocks as they lie in a file; the array has the length that the shape says.
    pub(crate) fn from_parts(shape: BlockShape, lines: Array<Line>) -> Self {
        if cfg!(target_endian = "little") {
            return Self { lines, shape };
        }
        Self { lines: in_order(&lines, shape).into(), shape }
    }

    /// The lines as they lie in a file.
    pub(crate) fn in_file_order(&self) -> Cow<'_, [Line]> {
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(&self.lines);
        }
        Cow::Owned(in_order(&self.lines, self.shape))
    }

    /// Whether all links lead to one of `len` positions.
    pub(crate) fn links_are_below(&self, len: u32) -> bool {
        let mut blocks = self.lines.chunks_exact(self.shape.block());
        let known = |links: &[Line]| bytemuck::cast_slice::<Line, u32>(links).iter().all(|&link| link < len);
        blocks.all(|block| known(&block[..LINES_OF_NUMBERS]))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Blocks of the positions of `codes` with their links. Room that is left is
    /// filled with the nearest of those that the neighbours are linked with.
    pub(crate) fn encode(codes: &Int8, links: Links<'_>) -> Self {
        let shape = BlockShape::of(codes.lines_per_code() * LINE, links.stride());
        let len = links.positions() * shape.lines();
        let mut lines = pages::with_capacity(len);
        lines.resize(len, Line([0; LINE]));
        let positions = lines.par_chunks_exact_mut(shape.lines()).enumerate().with_min_len(64);
        positions.for_each_init(Around::default, |around, (position, lines)| {
            run(Encode { codes, links, shape, position: position as u32, around, lines });
        });
        Self { lines: lines.into(), shape }
    }

    /// The blocks, to be read often: looking into them checks nothing again.
    pub(crate) fn view(&self) -> BlockView<'_> {
        BlockView { lines: &self.lines, per_position: self.shape.lines(), per_block: self.shape.block() }
    }
}

/// Lines whose numbers are turned between the order of this machine and that of
/// a file.
fn in_order(lines: &[Line], shape: BlockShape) -> Vec<Line> {
    let mut lines = lines.to_vec();
    for block in lines.chunks_exact_mut(shape.block()) {
        let numbers: &mut [u32] = bytemuck::cast_slice_mut(&mut block[..HEAD]);
        numbers.iter_mut().for_each(|number| *number = number.to_le());
    }
    lines
}

#[derive(Clone, Copy)]
pub(crate) struct BlockView<'a> {
    lines: &'a [Line],
    per_position: usize,
    per_block: usize,
}

impl<'a> BlockView<'a> {
    #[inline(always)]
    fn of(self, position: u32) -> &'a [Line] {
        &self.lines[position as usize * self.per_position..][..self.per_position]
    }

    #[inline(always)]
    pub(crate) fn blocks(self, position: u32) -> impl Iterator<Item = Block<'a>> {
        self.of(position).chunks_exact(self.per_block).map(|lines| {
            let (head, codes) = lines.split_at(HEAD);
            let numbers = |at: usize| &head[LINES_OF_NUMBERS * at..][..LINES_OF_NUMBERS];
            Block {
                links: whole(bytemuck::cast_slice(numbers(0))),
                shares: whole(bytemuck::cast_slice(numbers(1))),
                corrections: whole(bytemuck::cast_slice(numbers(2))),
                codes,
            }
        })
    }

    /// Asks for the first lines of the blocks of a position, and gives the others: as
    /// many for each block as [`Tables::estimate`] asks for while it looks into one.
    #[inline(always)]
    pub(crate) fn prefetch(self, position: u32) -> impl Iterator<Item = &'a [Line]> {
        let per_block = self.per_block - HEAD;
        let (now, later) = self.of(position).split_at(self.per_position / self.per_block * HEAD);
        prefetch_all(now);
        later.chunks_exact(per_block)
    }
}

#[inline(always)]
fn whole<T>(numbers: &[T]) -> &[T; GROUP] {
    numbers.first_chunk().expect("the lines hold as many numbers as a group has codes")
}

/// Writes the blocks of one position.
struct Encode<'a> {
    codes: &'a Int8,
    links: Links<'a>,
    shape: BlockShape,
    position: u32,
    around: &'a mut Around,
    lines: &'a mut [Line],
}

/// Memory for the neighbours of a position.
#[derive(Default)]
struct Around {
    neighbors: Vec<u32>,
    met: Vec<u32>,
    /// Those of the neighbours that are no neighbours, by their distance.
    behind: Vec<(u64, u32)>,
}

impl Task for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { codes, links, shape, position, around, lines } = self;
        around.fill(codes, links, position, shape.groups * GROUP);
        for (group, lines) in lines.chunks_exact_mut(shape.block()).enumerate() {
            let from = around.neighbors.len().min(group * GROUP);
            let to = around.neighbors.len().min(from + GROUP);
            encode_block(codes, position, &around.neighbors[from..to], lines);
        }
    }
}

impl Around {
    /// Finds the neighbours of a position, as many as there is room for.
    #[inline(always)]
    fn fill(&mut self, codes: &Int8, links: Links<'_>, position: u32, room: usize) {
        let Self { neighbors, met, behind } = self;
        neighbors.clear();
        neighbors.extend(links.of(position));
        met.clear();
        neighbors.iter().for_each(|&neighbor| met.extend(links.of(neighbor)));
        met.sort_unstable();
        met.dedup();
        behind.clear();
        let (code, all) = (codes.code(position), &**met);
        // A loop of its own: a closure given to `extend` loses the instructions.
        for (at, &met) in all.iter().enumerate() {
            if let Some(&ahead) = all.get(at + AHEAD) {
                prefetch_all(codes.code(ahead));
            }
            if met != position && !neighbors.contains(&met) {
                behind.push((apart(code, codes.code(met)), met));
            }
        }
        let left = room - neighbors.len();
        if left > 0 && left < behind.len() {
            behind.select_nth_unstable(left);
        }
        behind.truncate(left);
        behind.sort_unstable();
        neighbors.extend(behind.iter().map(|&(_, met)| met));
    }
}

/// Writes one block.
#[inline(always)]
fn encode_block(codes: &Int8, position: u32, neighbors: &[u32], lines: &mut [Line]) {
    let (head, planes) = lines.split_at_mut(HEAD);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(planes);
    let numbers: &mut [u32] = bytemuck::cast_slice_mut(head);
    let (links, factors) = numbers.split_at_mut(GROUP);
    let (shares, corrections) = factors.split_at_mut(GROUP);
    let centre = codes.code(position);
    for code in 0..GROUP {
        let link = neighbors.get(code).copied();
        links[code] = link.unwrap_or(position);
        let (share, correction) = match link {
            Some(link) => encode_one(codes, (centre, codes.code(link)), code, bytes),
            None => (f32::NAN, 0.0),
        };
        shares[code] = share.to_bits();
        corrections[code] = correction.to_bits();
    }
}

/// Writes the signs of one neighbour; gives its share and correction.
#[inline(always)]
fn encode_one(codes: &Int8, (centre, neighbor): (&[u8], &[u8]), code: usize, bytes: &mut [u8]) -> (f32, f32) {
    let (byte, shift) = place(code);
    let values = neighbor.as_chunks::<PER_TABLE>().0.iter().zip(centre.as_chunks::<PER_TABLE>().0);
    for ((x, c), names) in values.zip(bytes.as_chunks_mut::<16>().0) {
        let signs = (0..PER_TABLE).fold(0, |signs, at| signs | u8::from(x[at] >= c[at]) << at);
        names[byte] |= signs << shift;
    }
    let Sums { square, wr, cw, cr, cc } = Sums::of(centre, neighbor);
    if square == 0.0 {
        return (0.0, 0.0);
    }
    // The signs are halves, so both sums with them are half as large; residual
    // and position count in steps of one part in `scale`.
    let (scale, factor) = (f64::from(codes.shape().scale), 2.0 * square / wr);
    if codes.metric() == Metric::Euclid {
        let correction = (square + factor * cw) / (scale * scale);
        return ((-2.0 * factor / scale) as f32, correction as f32);
    }
    let correction = if cc == 0.0 { 0.0 } else { (cr - factor * cw / 2.0) / cc };
    ((-factor / scale) as f32, correction as f32)
}

/// Of a position c, the residual r and its signs w, which are 1 or -1 here.
#[derive(Default)]
struct Sums {
    /// |r|^2
    square: f64,
    /// <w, r>
    wr: f64,
    /// <c, w>
    cw: f64,
    /// <c, r>
    cr: f64,
    /// |c|^2
    cc: f64,
}

impl Sums {
    #[inline(always)]
    fn of(centre: &[u8], neighbor: &[u8]) -> Self {
        let mut all = Self::default();
        // So many products fit 32 bits.
        for (x, c) in neighbor.chunks(1024).zip(centre.chunks(1024)) {
            let mut sums = [0i32; 5];
            for (&x, &c) in x.iter().zip(c) {
                let (r, c) = (i32::from(x) - i32::from(c), i32::from(c) - OFFSET);
                sums[0] += r * r;
                sums[1] += r.abs();
                sums[2] += if r >= 0 { c } else { -c };
                sums[3] += c * r;
                sums[4] += c * c;
            }
            let [square, wr, cw, cr, cc] = sums.map(f64::from);
            all.square += square;
            all.wr += wr;
            all.cw += cw;
            all.cr += cr;
            all.cc += cc;
        }
        all
    }
}

/// How far apart two codes are, squared.
#[inline(always)]
fn apart(a: &[u8], b: &[u8]) -> u64 {
    let mut sum = 0;
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let mut part = 0;
        for (&a, &b) in a.iter().zip(b) {
            let step = i32::from(a) - i32::from(b);
            part += step * step;
        }
        sum += part as u64;
    }
    sum
}

/// The tables of a query.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    lines: Vec<Line>,
    /// What one in a sum of entries is of <q, w>.
    unit: f32,
    /// What <q, w> is where the sum is 0.
    base: f32,
}

impl Tables {
    /// Makes the tables of a query, which lies where codes lie.
    #[inline(always)]
    pub(crate) fn fill<S: Simd>(&mut self, query: &[f32]) {
        let groups = query.as_chunks::<PER_TABLE>().0;
        let size =
            |group: &[f32; PER_TABLE]| (group[0].abs() + group[1].abs()) + (group[2].abs() + group[3].abs());
        let (largest, all) = groups
            .iter()
            .map(size)
            .fold((0f32, 0f32), |(largest, all), size| (largest.max(size), all + size));
        // An entry is the sum of the values with their signs, made positive.
        let scale = if largest > 0.0 { TOP / 2.0 / largest } else { 0.0 };
        self.lines.resize(groups.len() * ENTRIES / LINE, Line([0; LINE]));
        let tables = bytemuck::cast_slice_mut::<Line, [u8; ENTRIES]>(&mut self.lines);
        for (table, group) in tables.iter_mut().zip(groups) {
            *table = S::table(group.map(|value| value * scale), size(group) * scale + 0.5);
        }
        // The signs stand for halves.
        self.unit = if scale > 0.0 { 0.5 / scale } else { 0.0 };
        self.base = -0.5 * all;
    }

    /// About the distances from the query to the neighbours in a block, whose
    /// position is at `distance`; not a number in unused room. Asks for the lines of
    /// `later` on the way.
    #[inline(always)]
    pub(crate) fn estimate<S: Simd>(
        &self,
        block: Block<'_>,
        (distance, euclid): (f32, bool),
        later: &[Line],
    ) -> [f32; GROUP] {
        let sums = S::look_up_all(block.codes, &self.lines, later);
        let times = if euclid { 1.0 } else { distance };
        let mut estimates = [0.0; GROUP];
        for (at, estimate) in estimates.iter_mut().enumerate() {
            let product = sums[at] * self.unit + self.base;
            *estimate = distance + times * block.corrections[at] + block.shares[at] * product;
        }
        estimates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatRows;
    use crate::codes::Int8Buffer;
    use crate::graph::NONE;
    use crate::simd::{Level, run_with};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    struct Estimates<'a> {
        codes: &'a Int8,
        blocks: &'a Blocks,
        query: &'a [f32],
    }

    impl Task for Estimates<'_> {
        /// For each position its links and estimates.
        type Output = Vec<(u32, u32, f32)>;

        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            let (mut buffer, mut tables, mut all) = (Int8Buffer::default(), Tables::default(), Vec::new());
            let query = self.codes.query(self.query, &mut buffer);
            tables.fill::<S>(query.placed);
            for position in 0..(self.codes.lines().len() / self.codes.lines_per_code()) as u32 {
                let distance = query.distance::<S>(position);
                for block in self.blocks.view().blocks(position) {
                    let euclid = self.codes.metric() == Metric::Euclid;
                    let estimates = tables.estimate::<S>(block, (distance, euclid), &[]);
                    all.extend((0..GROUP).map(|at| (position, block.links[at], estimates[at])));
                }
            }
            all
        }
    }

    /// Ten rows around one place in every dimension, each linked with all others.
    #[test]
    fn estimates_are_near_the_distance_in_every_dimension_by_every_metric() {
        let mut random = StdRng::seed_from_u64(12);
        let links: Vec<u32> = (0..10)
            .flat_map(|at| (0..10).map(move |to| if to < 9 { (at + to + 1) % 10 } else { NONE }))
            .collect();
        for dim in (16..=1100).step_by(12) {
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid] {
                let mut around = |centre: &[f32]| -> Vec<f32> {
                    let mut row: Vec<f32> =
                        centre.iter().map(|x| x + random.random_range(-1.0f32..1.0)).collect();
                    metric.prepare(&mut row);
                    row
                };
                let centre = around(&vec![0.0; dim]);
                let values: Vec<f32> = (0..10).flat_map(|_| around(&centre)).collect();
                let query = around(&centre);
                let rows = FlatRows::new(dim, &values).expect("whole rows");
                let codes = Int8::encode(metric, &rows, &(0..10).collect::<Vec<_>>());
                let blocks = Blocks::encode(&codes, Links::wide(&links, 10));
                let portable =
                    run_with(Level::Portable, Estimates { codes: &codes, blocks: &blocks, query: &query });
                let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
                for &(position, link, estimate) in &portable {
                    if position == link {
                        assert!(estimate.is_nan(), "unused room is nobody's");
                        continue;
                    }
                    let distance = metric.distance(&query, rows.values(link));
                    // RaBitQ's bound on what one bit gets wrong, five times its deviation.
                    let apart = Metric::Euclid.distance(rows.values(position), rows.values(link)).sqrt();
                    let bound = 5.0 * length(&query).max(1.0) * apart / (dim as f32).sqrt() * 2.0;
                    assert!(
                        (estimate - distance).abs() < bound,
                        "{metric:?} {dim}: {estimate} of {distance}"
                    );
                }
                assert_eq!(portable.iter().filter(|one| !one.2.is_nan()).count(), 90);
                for level in Level::all() {
                    let got = run_with(level, Estimates { codes: &codes, blocks: &blocks, query: &query });
                    let same = |(a, b): (&(u32, u32, f32), &(u32, u32, f32))| {
                        a.1 == b.1
                            && (a.2.is_nan() && b.2.is_nan() || (a.2 - b.2).abs() <= 1e-3 * (1.0 + b.2.abs()))
                    };
                    assert!(got.iter().zip(&portable).all(same), "{metric:?} {dim} {}", level.name());
                }
            }
        }
    }
}
