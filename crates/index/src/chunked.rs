//! An append-only list that is cheap to take a picture of.
//!
//! Items lie in chunks. A clone shares them all; appending copies the last
//! chunk only while a clone looks at it.

use std::sync::Arc;

/// Items per chunk, in multiples of the stride.
pub(crate) const CHUNK: usize = 256;

/// A list of `T`, `stride` of which belong together and lie side by side.
#[derive(Clone)]
pub(crate) struct Chunked<T> {
    stride: usize,
    full: Arc<Vec<Arc<Vec<T>>>>,
    tail: Arc<Vec<T>>,
}

impl<T: Clone> Chunked<T> {
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, full: Arc::default(), tail: Arc::default() }
    }

    /// Groups of `stride` items.
    pub(crate) fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.len() / self.stride
    }

    /// Appends a group.
    pub(crate) fn push(&mut self, group: impl IntoIterator<Item = T>) {
        let tail = Arc::make_mut(&mut self.tail);
        if tail.capacity() == 0 {
            tail.reserve_exact(CHUNK * self.stride);
        }
        tail.extend(group);
        debug_assert!(tail.len().is_multiple_of(self.stride), "groups are whole");
        if tail.len() == CHUNK * self.stride {
            let full = std::mem::take(&mut self.tail);
            Arc::make_mut(&mut self.full).push(full);
        }
    }

    /// The group at `index`.
    pub(crate) fn get(&self, index: usize) -> &[T] {
        let chunk = self.full.get(index / CHUNK).unwrap_or(&self.tail);
        let at = index % CHUNK * self.stride;
        &chunk[at..at + self.stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_stays_as_it_was_while_the_list_grows() {
        let mut list = Chunked::new(2);
        let mut pictures = Vec::new();
        for number in 0..1000usize {
            if number % 37 == 0 {
                pictures.push((number, list.clone()));
            }
            list.push([number, number + 1]);
        }
        pictures.push((1000, list));
        for (len, picture) in pictures {
            assert_eq!(picture.len(), len);
            assert!((0..len).all(|number| picture.get(number) == [number, number + 1]));
        }
    }
}
