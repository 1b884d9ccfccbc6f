//! Where a model runs: on the processor, or on a GPU.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device as Opened};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::native::Precision;
use super::weights::plain;
use super::{Backend, EncoderOptions};
use crate::{Error, Result};

/// Where a model runs; as a text `auto`, `cpu`, `cuda`, `cuda:1` or `metal`.
///
/// ```
/// use cairn_embed::Device;
///
/// assert_eq!("cuda".parse::<Device>()?, Device::Cuda(0));
/// assert_eq!(Device::Cuda(1).to_string(), "cuda:1");
/// # Ok::<(), cairn_embed::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// A GPU if this build can use one and one is there, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number, from 0 on; in builds with the feature `cuda`.
    Cuda(usize),
    /// Apple's GPU; in builds with the feature `metal`.
    Metal,
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => out.write_str("auto"),
            Device::Cpu => out.write_str("cpu"),
            Device::Cuda(number) => write!(out, "cuda:{number}"),
            Device::Metal => out.write_str("metal"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device> {
        let numbered = || text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "metal" => Ok(Device::Metal),
            _ => numbered().map(Device::Cuda).ok_or_else(|| Error::Option {
                option: "device",
                value: text.to_owned(),
                want: "auto, cpu, cuda, cuda:N or metal",
            }),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(text: String) -> Result<Device> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

/// A device of the engine that was opened for a model, and what its numbers are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) name: Device,
    pub(super) device: Opened,
    pub(super) dtype: DType,
}

impl Place {
    /// Where the options put a model with such a configuration; nothing if it runs
    /// by the processor's own kernels.
    ///
    /// # Errors
    /// [`Error::Device`] if a GPU is asked for that cannot be used;
    /// [`Error::Option`] if another option does not go with it.
    pub(super) fn choose(options: &EncoderOptions, config: &Config) -> Result<Option<Place>> {
        let Some((name, device)) = chosen(options)? else {
            return if options.precision == Precision::F16 {
                Err(precision("f16", "auto, f32, bf16 or int8 on a processor, f16 is for GPUs"))
            } else {
                Ok(None)
            };
        };
        Ok(Some(Place { dtype: dtype(options.precision, &device, config)?, name, device }))
    }

    /// What the numbers are called.
    pub(super) fn precision(&self) -> Precision {
        match self.dtype {
            DType::F16 => Precision::F16,
            DType::BF16 => Precision::Bf16,
            _ => Precision::F32,
        }
    }

    /// Whether the device is none of the processor's memory.
    pub(super) fn is_gpu(&self) -> bool {
        !self.device.is_cpu()
    }

    /// An error of the engine; `what` tells what memory was needed for, if it was
    /// lack of that.
    pub(super) fn error(&self, error: candle_core::Error, what: impl FnOnce() -> String) -> Error {
        let reason = plain(error);
        if is_out_of_memory(&reason) {
            Error::DeviceMemory { device: self.name.to_string(), what: what(), reason }
        } else {
            Error::Compute { reason: format!("on device {}: {reason}", self.name) }
        }
    }
}

/// How CUDA, cuBLAS and Metal say that there is no memory left.
fn is_out_of_memory(reason: &str) -> bool {
    let signs = ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED", "InsufficientMemory", "OutOfMemory"];
    signs.iter().any(|sign| reason.contains(sign))
}

fn chosen(options: &EncoderOptions) -> Result<Option<(Device, Opened)>> {
    let tensors = options.backend == Backend::Tensors;
    let on_processor = || tensors.then_some((Device::Cpu, Opened::Cpu));
    let plain = matches!(options.backend, Backend::Native | Backend::Tensors);
    match options.device {
        Device::Cpu => Ok(on_processor()),
        Device::Auto if !plain || options.precision == Precision::Int8 => Ok(on_processor()),
        Device::Auto => Ok(best().or_else(on_processor)),
        Device::Cuda(_) | Device::Metal if !plain => Err(Error::Option {
            option: "backend",
            value: if options.backend == Backend::Stock { "stock" } else { "packed" }.into(),
            want: "native or tensors with a GPU as the device",
        }),
        name => Ok(Some((name, open(name)?))),
    }
}

/// The GPU that `auto` takes, if this build can use one and one is there.
fn best() -> Option<(Device, Opened)> {
    let cuda = cfg!(feature = "cuda").then_some(Device::Cuda(0));
    let metal = cfg!(feature = "metal").then_some(Device::Metal);
    cuda.into_iter().chain(metal).find_map(|name| match open(name) {
        Ok(device) => Some((name, device)),
        Err(error) => {
            tracing::info!("models run on the processor: {error}");
            None
        }
    })
}

/// Opens a GPU, with a stream of its own for the model.
fn open(name: Device) -> Result<Opened> {
    let opened = match name {
        Device::Cuda(number) => Opened::new_cuda_with_stream(number),
        Device::Metal => Opened::new_metal(0),
        Device::Auto | Device::Cpu => Ok(Opened::Cpu),
    };
    let feature = if name == Device::Metal { "metal" } else { "cuda" };
    opened.map_err(|error| {
        let reason = match error {
            candle_core::Error::NotCompiledWithCudaSupport
            | candle_core::Error::NotCompiledWithMetalSupport => format!(
                "this build has no support for it: build with `cargo build --release --features {feature}`"
            ),
            error => format!("its driver says: {}", plain(error)),
        };
        Error::Device { device: name.to_string(), reason }
    })
}

fn dtype(wanted: Precision, device: &Opened, config: &Config) -> Result<DType> {
    match wanted {
        Precision::F32 => Ok(DType::F32),
        Precision::F16 => Ok(DType::F16),
        Precision::Bf16 => Ok(DType::BF16),
        Precision::Int8 => Err(precision("int8", "auto, f32, f16 or bf16 by tensors, as on a GPU")),
        Precision::Auto if device.is_cpu() => Ok(DType::F32),
        // What is normed after each step stays small, and f16 has three bits more
        // than bf16. Where norms come first, states grow from layer to layer, in
        // published decoders beyond 65504, which is where f16 ends.
        Precision::Auto if config.style.norm_first => Ok(DType::BF16),
        Precision::Auto => Ok(DType::F16),
    }
}

fn precision(value: &str, want: &'static str) -> Error {
    Error::Option { option: "precision", value: value.into(), want }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device as Opened};

    use super::{Device, Place};
    use crate::Error;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::Metal] {
            assert_eq!(device.to_string().parse::<Device>().expect("a device"), device);
        }
        assert_eq!("cuda".parse::<Device>().expect("a device"), Device::Cuda(0));
        for wrong in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "metal:1"] {
            let error = wrong.parse::<Device>().expect_err("refused").to_string();
            assert!(error.contains("cuda:N") && error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn lack_of_memory_is_told_from_other_errors() {
        let place = Place { name: Device::Cuda(1), device: Opened::Cpu, dtype: DType::F16 };
        let error = |text: &str| {
            let cause: Box<dyn std::error::Error + Send + Sync> = text.into();
            place.error(candle_core::Error::Cuda(cause), || "a batch of 9 texts".into())
        };
        for text in [
            r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#,
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
        ] {
            let found = error(text);
            assert!(matches!(found, Error::DeviceMemory { .. }), "{found}");
            let found = found.to_string();
            assert!(found.contains("cuda:1") && found.contains("9 texts") && found.contains(text), "{found}");
        }
        let found = error(r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access")"#);
        assert!(matches!(found, Error::Compute { .. }), "{found}");
    }
}
