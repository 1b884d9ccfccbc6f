//! What a device has memory for: found out by trying.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::runner::Made;
use super::super::tokens::Sequence;
use crate::{Error, Result};

pub(super) struct Fits {
    /// Tokens of a batch by the options.
    budget: usize,
    /// A batch with more tokens than this had no room.
    tokens: AtomicUsize,
}

impl Fits {
    pub(super) fn new(budget: usize) -> Fits {
        Fits { budget, tokens: AtomicUsize::new(usize::MAX) }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Runs `work` over all texts, or over halves of them and halves of halves, as
    /// there is room.
    ///
    /// # Errors
    /// What `work` says; [`Error::DeviceMemory`] if there is no room for one text.
    pub(super) fn run(
        &self,
        texts: &[&Sequence],
        work: &mut dyn FnMut(&[&Sequence]) -> Result<Vec<Made>>,
    ) -> Result<Vec<Made>> {
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        if texts.len() < 2 || tokens <= self.tokens.load(Ordering::Relaxed) {
            match work(texts) {
                Err(Error::DeviceMemory { device, reason, .. }) if texts.len() > 1 => {
                    tracing::warn!(
                        device,
                        tokens,
                        "a batch had no room and is halved, lower gpu_batch_tokens: {reason}"
                    );
                    self.tokens.fetch_min(tokens / 2, Ordering::Relaxed);
                }
                found => return found,
            }
        }
        let (left, right) = texts.split_at(texts.len() / 2);
        let mut made = self.run(left, work)?;
        made.extend(self.run(right, work)?);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::runner::Made;
    use super::super::super::tokens::Sequence;
    use super::Fits;
    use crate::{Error, Result};

    /// A device with room for so many tokens.
    fn device(room: usize, asked: &mut Vec<usize>) -> impl FnMut(&[&Sequence]) -> Result<Vec<Made>> {
        move |texts| {
            let tokens: usize = texts.iter().map(|text| text.len()).sum();
            asked.push(tokens);
            if tokens > room {
                let (device, what) = ("cuda:0".into(), format!("{tokens} tokens"));
                return Err(Error::DeviceMemory { device, what, reason: "out of memory".into() });
            }
            let made = |text: &&Sequence| Made { vector: vec![text.ids[0] as f32], ..Made::default() };
            Ok(texts.iter().map(made).collect())
        }
    }

    #[test]
    fn a_batch_without_room_is_halved_and_the_next_one_is_not_tried_whole() {
        let texts: Vec<Sequence> = (0..8).map(|id| Sequence::one(vec![id; 10])).collect();
        let texts: Vec<&Sequence> = texts.iter().collect();
        let fits = Fits::new(80);
        for want in [&[80, 40, 20, 20, 20, 20][..], &[20, 20, 20, 20]] {
            let mut asked = Vec::new();
            let made = fits.run(&texts, &mut device(25, &mut asked)).expect("there is room for each");
            let ids: Vec<f32> = made.iter().map(|made| made.vector[0]).collect();
            assert_eq!(ids, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
            assert_eq!(asked, want);
        }
    }

    #[test]
    fn one_text_without_room_is_an_error_and_others_still_run() {
        let [long, short] = [50, 10].map(|length| Sequence::one(vec![3; length]));
        let fits = Fits::new(100);
        let mut asked = Vec::new();
        let error = fits.run(&[&long, &short], &mut device(25, &mut asked)).expect_err("no room");
        assert!(error.to_string().contains("50 tokens"), "{error}");
        assert!(fits.run(&[&short], &mut device(25, &mut asked)).is_ok());
        assert_eq!(asked, [60, 50, 10]);
    }

    #[test]
    fn other_errors_are_not_tried_again() {
        let text = Sequence::one(vec![1; 4]);
        let mut tries = 0;
        let found = Fits::new(8).run(&[&text, &text], &mut |_| {
            tries += 1;
            Err(Error::Cancelled)
        });
        assert!(found.is_err_and(|error| error.is_cancelled()) && tries == 1);
    }
}
