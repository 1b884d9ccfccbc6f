//! Models of this machine that run otherwise than the others.

use cairn_embed::{Device, EncoderOptions, Precision};
use serde::{Deserialize, Serialize};

/// How one model runs, where that is not as `models.encoder` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalModel {
    /// The model: a known name or a folder.
    pub name: String,
    /// Where it runs.
    pub device: Option<Device>,
    /// How its numbers are kept.
    pub precision: Option<Precision>,
}

impl LocalModel {
    /// The options of all models with what this one has of its own.
    pub(crate) fn over(&self, all: &EncoderOptions) -> EncoderOptions {
        EncoderOptions {
            device: self.device.unwrap_or(all.device),
            precision: self.precision.unwrap_or(all.precision),
            ..all.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_what_is_said_of_it_and_the_rest_of_all() {
        let all = EncoderOptions { device: Device::Cpu, threads: 3, ..EncoderOptions::default() };
        let local = LocalModel { name: "m".into(), precision: Some(Precision::F16), device: None };
        let found = local.over(&all);
        assert_eq!((found.device, found.precision, found.threads), (Device::Cpu, Precision::F16, 3));
        let local = LocalModel { device: Some(Device::Cuda(1)), ..LocalModel::default() };
        assert_eq!(local.over(&all).device, Device::Cuda(1));
    }
}
