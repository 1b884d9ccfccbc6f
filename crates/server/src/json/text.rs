//! A body on its way in. Its vectors are read while the rest is still being
//! sent, so that a long body takes little longer to read than to receive.

use std::ops::Range;

use axum::body::Bytes;
use memchr::memchr;
use parking_lot::Mutex;

use super::number::{nearest_f32, take_several, white};

/// A body, and the vectors that were read ahead.
pub(crate) enum Text {
    /// It came in one piece.
    Whole(Bytes),
    Collected(Box<Collected>),
}

impl Text {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Collected(collected) => &collected.0.bytes,
        }
    }

    pub(super) fn ahead(&self) -> &Ahead {
        static NOTHING: Ahead = Ahead { numbers: Vec::new(), spans: Vec::new(), at: 0, open: None };
        match self {
            Self::Whole(_) => &NOTHING,
            Self::Collected(collected) => &collected.0.ahead,
        }
    }
}

/// A body from several pieces. Its memory is used again for another: fresh
/// memory of this size comes from the system, which clears it first.
pub(crate) struct Collected(Buffers);

#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    ahead: Ahead,
}

/// Memory that waits for the next body, which is not more than that of this
/// many bodies of this size.
static SPARE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());
const MAX_SPARE: usize = 4;
const MAX_SPARE_BYTES: usize = 4 << 20;

impl Collected {
    /// For a body of about so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut buffers = SPARE.lock().pop().unwrap_or_default();
        buffers.bytes.reserve_exact(bytes);
        Self(buffers)
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.0.bytes.extend_from_slice(piece);
        self.0.ahead.read(&self.0.bytes);
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        let mut buffers = std::mem::take(&mut self.0);
        buffers.bytes.clear();
        buffers.ahead.clear();
        let bytes = buffers.bytes.capacity() + buffers.ahead.numbers.capacity() * size_of::<f32>();
        let mut spare = SPARE.lock();
        if bytes <= MAX_SPARE_BYTES && spare.len() < MAX_SPARE {
            spare.push(buffers);
        }
    }
}

/// The arrays of numbers in a text, as far as it is here. Some may stand in a
/// string or mean something else: whoever reads the text asks for those that
/// are vectors.
#[derive(Default)]
pub(super) struct Ahead {
    numbers: Vec<f32>,
    /// In their order.
    spans: Vec<Span>,
    /// What is before was looked at.
    at: usize,
    /// Where an array began that has not ended, and its first number.
    open: Option<(usize, usize)>,
}

struct Span {
    text: Range<usize>,
    numbers: Range<usize>,
}

/// Shorter arrays are as quickly read as found again.
const MIN_NUMBERS: usize = 16;

/// A number that is cut off at the end of what is here looks like none; it is
/// looked at again when there is more.
const MAX_CUT: usize = 40;

impl Ahead {
    fn clear(&mut self) {
        self.numbers.clear();
        self.spans.clear();
        (self.at, self.open) = (0, None);
    }

    /// The numbers of the array that begins at a place, and where it ends.
    pub(super) fn array(&self, start: usize) -> Option<(&[f32], usize)> {
        let found = self.spans.binary_search_by_key(&start, |span| span.text.start).ok()?;
        let Span { text, numbers } = &self.spans[found];
        Some((&self.numbers[numbers.clone()], text.end))
    }

    /// Goes on with a text that has become longer.
    fn read(&mut self, text: &[u8]) {
        while self.step(text).is_some() {}
    }

    /// Reads the next number, or finds the next array; nothing if there must be
    /// more text for it.
    fn step(&mut self, text: &[u8]) -> Option<()> {
        let Some((start, first)) = self.open else {
            let Some(found) = memchr(b'[', &text[self.at..]) else {
                self.at = text.len();
                return None;
            };
            self.at += found;
            let inside = after_white(text, self.at + 1)?;
            if matches!(text[inside], b'-' | b'0'..=b'9') {
                self.open = Some((self.at, self.numbers.len()));
                self.at = inside;
            } else {
                self.at += 1;
            }
            return Some(());
        };
        self.at = take_several(text, self.at, &mut self.numbers);
        let number = after_white(text, self.at)?;
        let Some((value, length)) = nearest_f32(&text[number..]) else {
            if text.len() - number < MAX_CUT {
                return None;
            }
            self.give_up(number, first);
            return Some(());
        };
        let next = after_white(text, number + length)?;
        self.at = next + 1;
        match text[next] {
            b',' => self.numbers.push(value),
            b']' => {
                self.numbers.push(value);
                self.open = None;
                if self.numbers.len() - first < MIN_NUMBERS {
                    self.numbers.truncate(first);
                } else {
                    self.spans.push(Span { text: start..self.at, numbers: first..self.numbers.len() });
                }
            }
            _ => self.give_up(next, first),
        }
        Some(())
    }

    /// It was no array of numbers. Before `at` no other one begins.
    fn give_up(&mut self, at: usize, first: usize) {
        self.numbers.truncate(first);
        (self.at, self.open) = (at, None);
    }
}

/// Where the next byte is that is not white.
fn after_white(text: &[u8], at: usize) -> Option<usize> {
    let at = at + white(text.get(at..)?);
    (at < text.len()).then_some(at)
}
