//! The tensors of a `model.safetensors` file.
//!
//! The file is mapped while the model loads: each tensor is copied out as f32
//! (from f16 and bf16 too), then the mapping goes.

use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

pub(super) const FILE: &str = "model.safetensors";

pub(super) struct Weights {
    path: PathBuf,
    file: MmapedSafetensors,
    prefix: String,
}

impl Weights {
    pub(super) fn open(folder: &Path) -> Result<Weights> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::MissingFile { folder: folder.into(), file: FILE.into() });
        }
        // SAFETY: the mapping is read only while this value lives, that is
        // while the model loads. Files of the store are never changed in
        // place: a new one is renamed over the old one, which stays mapped.
        #[allow(unsafe_code)]
        let file = unsafe { MmapedSafetensors::new(&path) }
            .map_err(|error| Error::Weights { path: path.clone(), reason: plain(error) })?;
        Ok(Weights { path, file, prefix: String::new() })
    }

    /// Looks for all tensors under `prefix`, if that is where `probe` is:
    /// files saved from a model with a head carry the name of the body.
    pub(super) fn under(mut self, prefix: &str, probe: &str) -> Weights {
        let prefixed = format!("{prefix}.{probe}");
        if self.file.get(probe).is_err() && self.file.get(&prefixed).is_ok() {
            self.prefix = format!("{prefix}.");
        }
        self
    }

    /// The tensor `name` as f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`].
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.raw(name, shape)?.to_dtype(DType::F32).map_err(|error| self.damaged(name, error))
    }

    /// The tensor `name` as the file has it.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub(super) fn raw(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        // Checkpoints converted from TensorFlow have these names for a norm.
        let older =
            full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let Some((full, view)) = [full.clone(), older]
            .into_iter()
            .find_map(|name| self.file.get(&name).ok().map(|view| (name, view)))
        else {
            return Err(Error::MissingTensor { path: self.path.clone(), tensor: full });
        };
        if view.shape() != shape {
            return Err(Error::TensorShape {
                path: self.path.clone(),
                got: format!("{:?}", view.shape()),
                want: format!("{shape:?}"),
                tensor: full,
            });
        }
        self.file.load(&full, &Device::Cpu).map_err(|error| self.damaged(&full, error))
    }

    fn damaged(&self, name: &str, error: candle_core::Error) -> Error {
        Error::Weights { path: self.path.clone(), reason: format!("tensor {name}: {}", plain(error)) }
    }

    /// The values of the tensor `name`, row by row.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.get(name, shape)?;
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(compute)
    }
}

/// An error of the engine while it computed.
pub(super) fn compute(error: candle_core::Error) -> Error {
    Error::Compute { reason: plain(error) }
}

/// The message without the backtrace the engine appends.
fn plain(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } | candle_core::Error::WithPath { inner, .. } => {
            plain(*inner)
        }
        other => other.to_string(),
    }
}
