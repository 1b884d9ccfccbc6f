//! The tensors of a `model.safetensors` file, or of one that torch saved.
//!
//! The file is open while the model loads: each tensor is copied out as f32
//! (from f16 and bf16 too). Of a file by torch no code is run: only the tensors
//! of a plain dictionary are known.

use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

pub(super) const FILE: &str = "model.safetensors";

/// The file of a model that was never saved as safetensors.
pub(crate) const TORCH_FILE: &str = "pytorch_model.bin";

pub(super) struct Weights {
    path: PathBuf,
    file: File,
    prefix: String,
}

enum File {
    Mapped(MmapedSafetensors),
    Torch(PthTensors),
}

impl Weights {
    /// The weights of a model folder.
    pub(super) fn open(folder: &Path) -> Result<Weights> {
        Weights::first(folder, &[FILE, TORCH_FILE])
    }

    /// The first of these files that is there.
    ///
    /// # Errors
    /// [`Error::MissingFile`] with the first name, if there is none.
    pub(super) fn first(folder: &Path, names: &[&str]) -> Result<Weights> {
        let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
            return Err(Error::MissingFile { folder: folder.into(), file: names[0].into() });
        };
        let file = if path.extension().is_some_and(|end| end == "safetensors") {
            // SAFETY: the mapping is read only while this value lives, that is
            // while the model loads. Files of the store are never changed in
            // place: a new one is renamed over the old one, which stays mapped.
            #[allow(unsafe_code)]
            unsafe { MmapedSafetensors::new(&path) }.map(File::Mapped)
        } else {
            PthTensors::new(&path, None).map(File::Torch)
        };
        let file = file.map_err(|error| Error::Weights { path: path.clone(), reason: plain(error) })?;
        Ok(Weights { path, file, prefix: String::new() })
    }

    /// The shape of the tensor `name`, if there is one.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file.shape(&format!("{}{name}", self.prefix))
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Looks for all tensors under `prefix`, if that is where `probe` is:
    /// files saved from a model with a head carry the name of the body.
    pub(super) fn under(mut self, prefix: &str, probe: &str) -> Weights {
        let prefixed = format!("{prefix}.{probe}");
        if self.file.shape(probe).is_none() && self.file.shape(&prefixed).is_some() {
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
        let Some((full, got)) = [full.clone(), older]
            .into_iter()
            .find_map(|name| self.file.shape(&name).map(|shape| (name, shape)))
        else {
            return Err(Error::MissingTensor { path: self.path.clone(), tensor: full });
        };
        if got != shape {
            return Err(Error::TensorShape {
                path: self.path.clone(),
                got: format!("{got:?}"),
                want: format!("{shape:?}"),
                tensor: full,
            });
        }
        self.file.load(&full).map_err(|error| self.damaged(&full, error))
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

impl File {
    /// The shape of a tensor, if it is there.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            File::Mapped(file) => file.get(name).ok().map(|view| view.shape().to_vec()),
            File::Torch(file) => file.tensor_infos().get(name).map(|info| info.layout.dims().to_vec()),
        }
    }

    fn load(&self, name: &str) -> candle_core::Result<Tensor> {
        match self {
            File::Mapped(file) => file.load(name, &Device::Cpu),
            File::Torch(file) => match file.get(name)? {
                Some(tensor) => Ok(tensor),
                None => candle_core::bail!("it is not there"),
            },
        }
    }
}

/// An error of the engine while it computed.
pub(super) fn compute(error: candle_core::Error) -> Error {
    Error::Compute { reason: plain(error) }
}

/// The message without the backtrace the engine appends.
pub(super) fn plain(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } | candle_core::Error::WithPath { inner, .. } => {
            plain(*inner)
        }
        other => other.to_string(),
    }
}
