//! When the operations were made that are in the log but not in the catalogue.
//!
//! Replayed, such an operation asks which points were there at its time. So what
//! a merge leaves out for having disappeared must have done so before that.

use std::collections::VecDeque;

/// Operations made within this time are remembered as one.
const RUN_MS: u64 = 1000;

#[derive(Default)]
pub(crate) struct Clocks {
    runs: VecDeque<Run>,
}

struct Run {
    /// The oldest time of its operations, milliseconds since 1970.
    at_ms: u64,
    last_seq: u64,
}

impl Clocks {
    /// Notes an operation; seqs grow, times mostly do.
    pub(crate) fn note(&mut self, seq: u64, at_ms: u64) {
        match self.runs.back_mut() {
            Some(run) if (run.at_ms..run.at_ms.saturating_add(RUN_MS)).contains(&at_ms) => {
                run.last_seq = seq;
            }
            _ => self.runs.push_back(Run { at_ms, last_seq: seq }),
        }
    }

    /// The oldest time of an operation after `seq`, up to a second too old;
    /// `None` if there is no such operation.
    pub(crate) fn oldest_after(&self, seq: u64) -> Option<u64> {
        self.runs.iter().filter(|run| run.last_seq > seq).map(|run| run.at_ms).min()
    }

    /// Forgets operations up to `seq`.
    pub(crate) fn forget(&mut self, seq: u64) {
        while self.runs.front().is_some_and(|run| run.last_seq <= seq) {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_time_after_a_seq_is_never_too_new() {
        let times = [5_000, 5_400, 5_999, 6_000, 5_900, 9_000, 9_100, 100];
        let mut clocks = Clocks::default();
        for (seq, at_ms) in (1..).zip(times) {
            clocks.note(seq, at_ms);
        }
        assert_eq!(clocks.oldest_after(8), None);
        for forgotten in 0..8 {
            clocks.forget(forgotten);
            for seq in forgotten..8 {
                let oldest = *times[seq as usize..].iter().min().unwrap();
                let told = clocks.oldest_after(seq).unwrap();
                assert!(told <= oldest && told + RUN_MS > oldest, "after {seq}: {told} of {oldest}");
            }
        }
        assert!(clocks.runs.len() < times.len());
    }
}
