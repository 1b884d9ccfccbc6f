//! How much text may be on its way at once.

use parking_lot::{Condvar, Mutex};

/// Bytes that those who read files take, and whoever writes gives back.
pub(super) struct Budget {
    left: Mutex<isize>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: Mutex::new(bytes as isize), freed: Condvar::new() }
    }

    /// Waits until something is left. What is larger than the rest goes all the
    /// same, so that nothing is too large to go at all.
    pub(super) fn take(&self, bytes: usize) {
        let mut left = self.left.lock();
        while *left <= 0 {
            self.freed.wait(&mut left);
        }
        *left -= bytes as isize;
    }

    pub(super) fn give(&self, bytes: usize) {
        *self.left.lock() += bytes as isize;
        self.freed.notify_all();
    }
}
