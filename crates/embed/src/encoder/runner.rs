//! A batch of token ids to vectors, on the thread that calls.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::native::{Native, Precision};
use super::pooling::Pooling;
use super::stock::Stock;
use super::transformer::Transformer;
use crate::{Error, Result};

pub(super) enum Model {
    Native(Native),
    Packed(Transformer),
    Stock(Stock),
}

impl Model {
    fn hidden(&self) -> usize {
        match self {
            Model::Native(model) => model.hidden(),
            Model::Packed(model) => model.hidden(),
            Model::Stock(model) => model.hidden(),
        }
    }
}

/// A model with what becomes of its states.
pub(super) struct Runner {
    model: Model,
    pooling: Pooling,
    /// All threads, for models whose products use more than one.
    wide: Option<ThreadPool>,
}

impl Runner {
    pub(super) fn new(model: Model, pooling: Pooling, threads: usize) -> Result<Runner> {
        let wide = match model {
            Model::Native(_) => None,
            Model::Packed(_) | Model::Stock(_) => Some(pool(threads)?),
        };
        Ok(Runner { model, pooling, wide })
    }

    /// The dimensions of a vector.
    pub(super) fn dim(&self) -> usize {
        self.pooling.dim(self.model.hidden())
    }

    pub(super) fn precision(&self) -> Precision {
        match &self.model {
            Model::Native(model) => model.precision(),
            Model::Packed(_) | Model::Stock(_) => Precision::F32,
        }
    }

    /// Runs what would spread its products over all threads on one.
    pub(super) fn on_one_thread(&self, work: impl FnOnce() + Send) {
        match self.wide.as_ref().and_then(|_| pool(1).ok()) {
            Some(one) => one.install(work),
            None => work(),
        }
    }

    /// Lets products spread over all threads, if the model's can.
    pub(super) fn on_all_threads(&self, work: impl FnOnce() + Send) {
        match &self.wide {
            Some(all) => all.install(work),
            None => work(),
        }
    }

    /// The vectors of a batch: positions in `ids`. `going` is asked now and
    /// then whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `going` says no; [`Error::NotFinite`].
    pub(super) fn vectors(
        &self,
        ids: &[Vec<u32>],
        batch: &[usize],
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<&[u32]> = batch.iter().map(|&text| &ids[text][..]).collect();
        // A tokenizer without special tokens makes nothing of an empty text.
        if texts.iter().all(|ids| ids.is_empty()) {
            return Ok(vec![vec![0.0; self.dim()]; batch.len()]);
        }
        let pool = |states: &[f32]| self.pool(states, batch, &texts);
        match &self.model {
            Model::Native(model) => model.forward(&texts, going, pool).unwrap_or(Err(Error::Cancelled)),
            Model::Packed(model) => pool(&model.forward(&texts)?),
            Model::Stock(model) => pool(&model.forward(&texts)?),
        }
    }

    fn pool(&self, states: &[f32], batch: &[usize], texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let hidden = self.model.hidden();
        let mut rest = states;
        let mut vectors = Vec::with_capacity(batch.len());
        for (&text, ids) in batch.iter().zip(texts) {
            let (rows, others) = rest.split_at(ids.len() * hidden);
            rest = others;
            if ids.is_empty() {
                vectors.push(vec![0.0; self.dim()]);
                continue;
            }
            let vector = self.pooling.apply(rows, hidden);
            if !vector.iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite { text });
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

pub(super) fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("embed-wide-{thread}"))
        .build()
        .map_err(|error| Error::Compute { reason: error.to_string() })
}
