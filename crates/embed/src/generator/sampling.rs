//! Which token comes next: the likeliest, or one drawn by chance.

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling as Drawn};
use candle_transformers::utils::apply_repeat_penalty;

use super::compute;
use crate::{Error, Result};

/// Tokens at the end that count as a repetition.
const REPEATED: usize = 64;

/// How a text is continued.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens that are written at most.
    pub max_tokens: usize,
    /// Freedom, 0 to 2. At 0 the likeliest token is taken; the text is then the
    /// same every time.
    pub temperature: f32,
    /// Draw among the likeliest tokens that together have this probability. 0 to
    /// 1; 1 is all.
    pub top_p: f32,
    /// Draw among so many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// What makes a token less likely that is among the last 64: 1 does nothing,
    /// larger more.
    pub repetition_penalty: f32,
    /// Where chance begins; the same seed draws the same.
    pub seed: u64,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            max_tokens: 512,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl Sampling {
    /// Checks each value.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<()> {
        let check = |option, value: f32, fits: bool, want| {
            if fits { Ok(()) } else { Err(Error::Option { option, value: value.to_string(), want }) }
        };
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Option { option: "stop", value: "an empty text".into(), want: "a text" });
        }
        check("max_tokens", self.max_tokens as f32, self.max_tokens > 0, "1 or more")?;
        check("temperature", self.temperature, (0.0..=2.0).contains(&self.temperature), "from 0 to 2")?;
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1")?;
        let penalty = self.repetition_penalty;
        check("repetition_penalty", penalty, (0.1..=10.0).contains(&penalty), "from 0.1 to 10, 1 is off")
    }
}

/// Takes one token after the other.
pub(super) struct Sampler {
    draw: LogitsProcessor,
    penalty: f32,
}

impl Sampler {
    pub(super) fn new(sampling: &Sampling) -> Sampler {
        let (k, p) = (sampling.top_k, f64::from(sampling.top_p));
        let temperature = f64::from(sampling.temperature);
        let drawn = match (sampling.temperature > 0.0, k > 0, sampling.top_p < 1.0) {
            (false, _, _) => Drawn::ArgMax,
            (true, false, false) => Drawn::All { temperature },
            (true, true, false) => Drawn::TopK { k, temperature },
            (true, false, true) => Drawn::TopP { p, temperature },
            (true, true, true) => Drawn::TopKThenTopP { k, p, temperature },
        };
        let draw = LogitsProcessor::from_sampling(sampling.seed, drawn);
        Sampler { draw, penalty: sampling.repetition_penalty }
    }

    /// The token after `tokens`, by the scores of all.
    pub(super) fn next(&mut self, scores: &Tensor, tokens: &[u32]) -> Result<u32> {
        let finite = scores.to_vec1::<f32>().map_err(compute)?.iter().all(|score| score.is_finite());
        if !finite {
            let reason = "it gave scores that are not finite, its weights are damaged".to_owned();
            return Err(Error::Compute { reason });
        }
        let recent = &tokens[tokens.len().saturating_sub(REPEATED)..];
        let draw = |scores: &Tensor, draw: &mut LogitsProcessor| draw.sample(scores);
        let drawn = if self.penalty == 1.0 {
            draw(scores, &mut self.draw)
        } else {
            apply_repeat_penalty(scores, self.penalty, recent)
                .and_then(|scores| draw(&scores, &mut self.draw))
        };
        drawn.map_err(compute)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn scores(scores: &[f32]) -> Tensor {
        Tensor::new(scores, &Device::Cpu).unwrap()
    }

    fn drawn(sampling: &Sampling, of: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..200).map(|_| sampler.next(&scores(of), &[]).unwrap()).collect()
    }

    #[test]
    fn without_temperature_the_likeliest_is_taken_unless_it_is_a_repetition() {
        let of = [1.0, 4.0, 3.0];
        assert_eq!(Sampler::new(&Sampling::default()).next(&scores(&of), &[]).unwrap(), 1);
        let penalty = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(Sampler::new(&penalty).next(&scores(&of), &[1]).unwrap(), 2);
    }

    #[test]
    fn a_seed_draws_the_same_and_the_limits_hold() {
        let warm = Sampling { temperature: 1.0, seed: 7, ..Sampling::default() };
        let of = [2.0, 1.9, 1.8, -1.0];
        assert_eq!(drawn(&warm, &of), drawn(&warm, &of));
        let kinds = |sampling: &Sampling| {
            let mut kinds = drawn(sampling, &of);
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        assert!(kinds(&warm).len() >= 3);
        assert_eq!(kinds(&Sampling { top_k: 2, ..warm.clone() }), [0, 1]);
        assert_eq!(kinds(&Sampling { top_p: 0.1, ..warm.clone() }), [0]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error() {
        let error = Sampler::new(&Sampling::default()).next(&scores(&[f32::NAN, 1.0]), &[]).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        let check = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        assert!(check(Sampling { top_p: 0.0, ..Sampling::default() }).contains("`top_p` is 0"));
        assert!(check(Sampling { temperature: f32::NAN, ..Sampling::default() }).contains("temperature"));
        assert!(check(Sampling { max_tokens: 0, ..Sampling::default() }).contains("max_tokens"));
        assert!(check(Sampling { stop: vec![String::new()], ..Sampling::default() }).contains("`stop`"));
        assert!(Sampling::default().check().is_ok());
    }
}
