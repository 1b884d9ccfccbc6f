//! The tensors of a `model.safetensors` file, or of one that torch saved.
//!
//! The file is open while the model loads: each tensor is read when it is asked
//! for, and made f32. Of a file by torch no code is run: only the tensors of a plain
//! dictionary are known.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::safe::{SafeFile, Values};
use super::torch::TorchFile;
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
    Safe(SafeFile),
    Torch(TorchFile),
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
            SafeFile::open(&path).map(File::Safe)
        } else {
            TorchFile::open(&path).map(File::Torch)
        };
        let file = file.map_err(|reason| Error::Weights { path: path.clone(), reason })?;
        Ok(Weights { path, file, prefix: String::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
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

    /// The values of the tensor `name`, row by row, as the file has them.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`].
    pub(super) fn as_kept(&self, name: &str, shape: &[usize]) -> Result<Values> {
        let full = format!("{}{name}", self.prefix);
        // Checkpoints converted from TensorFlow have these names for a norm.
        let older =
            full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let Some((full, got)) = [full.clone(), older]
            .into_iter()
            .find_map(|name| self.file.shape(&name).map(|shape| (name, shape)))
        else {
            if let File::Torch(file) = &self.file
                && let Some(fault) = file.fault(&full)
            {
                return Err(self.damaged(&full, fault));
            }
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
        self.file.values(&full).map_err(|reason| self.damaged(&full, &reason))
    }

    /// All tensors of the file by their names, as f32.
    pub(super) fn all(&self) -> Result<Vec<(String, Tensor)>> {
        let load = |name: String| match self.file.tensor(&name) {
            Ok(tensor) => Ok((name, tensor)),
            Err(reason) => Err(self.damaged(&name, &reason)),
        };
        self.file.names().into_iter().map(load).collect()
    }

    fn damaged(&self, name: &str, reason: &str) -> Error {
        Error::Weights { path: self.path.clone(), reason: format!("tensor {name}: {reason}") }
    }

    /// The values of the tensor `name` as f32, row by row.
    ///
    /// # Errors
    /// Those of [`Weights::as_kept`].
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.as_kept(name, shape).map(Values::into_f32)
    }
}

impl File {
    /// The shape of a tensor, if it is there.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            File::Safe(file) => file.shape(name),
            File::Torch(file) => file.shape(name).map(<[usize]>::to_vec),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            File::Safe(file) => file.names(),
            File::Torch(file) => file.names().map(str::to_owned).collect(),
        }
    }

    /// The values of a tensor, or the reason why they cannot be read.
    fn values(&self, name: &str) -> std::result::Result<Values, String> {
        match self {
            File::Safe(file) => file.values(name),
            File::Torch(file) => flat(&file.load(name)?).map_err(plain),
        }
    }

    fn tensor(&self, name: &str) -> std::result::Result<Tensor, String> {
        let shape = self.shape(name).ok_or("it is not there")?;
        Tensor::from_vec(self.values(name)?.into_f32(), shape, &Device::Cpu).map_err(plain)
    }
}

fn flat(tensor: &Tensor) -> candle_core::Result<Values> {
    let tensor = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::BF16 => tensor.to_vec1().map(Values::Bf16),
        DType::F16 => tensor.to_vec1().map(Values::F16),
        _ => tensor.to_dtype(DType::F32)?.to_vec1().map(Values::F32),
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
