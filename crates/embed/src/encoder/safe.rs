//! A safetensors file whose tensors are read one at a time.
//!
//! They are read, not mapped: each page of a mapping that was looked at counts as
//! memory of the process, and a model would be there twice while it loads.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// Bytes of the length of the head, with which a file begins.
const LENGTH: usize = 8;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The values of a tensor, row by row, as the file has them if that is shorter
/// than f32.
pub(super) enum Values {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

impl Values {
    pub(super) fn into_f32(self) -> Vec<f32> {
        match self {
            Values::F32(values) => values,
            Values::Bf16(values) => values.to_f32_vec(),
            Values::F16(values) => values.to_f32_vec(),
        }
    }
}

pub(super) struct SafeFile {
    file: File,
    metadata: Metadata,
    /// Where the first tensor starts.
    start: u64,
}

impl SafeFile {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub(super) fn open(path: &Path) -> Result<SafeFile, String> {
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        let mut length = [0; LENGTH];
        file.read_exact(&mut length).map_err(|_| "it has no head".to_owned())?;
        let start = u64::from_le_bytes(length).checked_add(LENGTH as u64).filter(|start| *start <= size);
        let start = start.ok_or("its head is longer than the file")?;
        let mut head = vec![0; (start - LENGTH as u64) as usize];
        file.read_exact(&mut head).map_err(|error| error.to_string())?;
        let metadata: Metadata =
            serde_json::from_slice(&head).map_err(|error| format!("its head is not valid: {error}"))?;
        let whole = start + metadata.data_len() as u64;
        if whole != size {
            return Err(format!("it has {size} bytes, its head says {whole}"));
        }
        Ok(SafeFile { file, metadata, start })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.tensors().into_keys().collect()
    }

    /// The shape of a tensor, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.metadata.info(name)?.shape.clone())
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// In words, why they cannot be had.
    pub(super) fn values(&self, name: &str) -> Result<Values, String> {
        let info = self.metadata.info(name).ok_or("it is not there")?;
        let (from, to) = info.data_offsets;
        let count = info.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let bytes = count.and_then(|count| count.checked_mul(info.dtype.bitsize() / 8));
        if to > self.metadata.data_len() || bytes != to.checked_sub(from) {
            return Err("its place does not fit its shape".to_owned());
        }
        let place = (from, to - from);
        Ok(match info.dtype {
            Dtype::F32 => Values::F32(self.read(place, |[a, b, c, d]| f32::from_le_bytes([a, b, c, d]))?),
            Dtype::BF16 => Values::Bf16(self.read(place, |[a, b]| bf16::from_le_bytes([a, b]))?),
            Dtype::F16 => Values::F16(self.read(place, |[a, b]| f16::from_le_bytes([a, b]))?),
            Dtype::F64 => Values::F32(self.read(place, |bytes: [u8; 8]| f64::from_le_bytes(bytes) as f32)?),
            other => return Err(format!("its values are {other}, weights are F64, F32, F16 or BF16")),
        })
    }

    fn read<const SIZE: usize, T>(
        &self,
        (from, bytes): (usize, usize),
        of: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, String> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64)).map_err(|error| error.to_string())?;
        let mut values = Vec::with_capacity(bytes / SIZE);
        let mut piece = vec![0; bytes.min(PIECE)];
        let mut left = bytes;
        while left > 0 {
            let piece = &mut piece[..left.min(PIECE)];
            file.read_exact(piece).map_err(|error| error.to_string())?;
            values.extend(piece.as_chunks().0.iter().map(|bytes| of(*bytes)));
            left -= piece.len();
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use half::{bf16, f16};
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::{SafeFile, Values};

    #[test]
    fn tensors_of_all_kinds_are_read_and_others_refused() {
        let numbers: Vec<f32> = (0..600_000).map(|at| (at % 257) as f32 - 128.0).collect();
        let of = |bytes: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|x| bytes(*x)).collect::<Vec<u8>>();
        let kinds = [
            ("double", Dtype::F64, of(&|x| f64::from(x).to_le_bytes().to_vec())),
            ("single", Dtype::F32, of(&|x| x.to_le_bytes().to_vec())),
            ("brain", Dtype::BF16, of(&|x| bf16::from_f32(x).to_le_bytes().to_vec())),
            ("half", Dtype::F16, of(&|x| f16::from_f32(x).to_le_bytes().to_vec())),
            ("whole", Dtype::I32, of(&|x| (x as i32).to_le_bytes().to_vec())),
        ];
        let views = kinds
            .iter()
            .map(|(name, kind, bytes)| (*name, TensorView::new(*kind, vec![600, 1000], bytes).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        fs::write(&path, &bytes).unwrap();
        let tensors = SafeFile::open(&path).unwrap();
        for name in ["double", "single", "brain", "half"] {
            assert_eq!(tensors.shape(name).unwrap(), [600, 1000]);
            assert!(tensors.values(name).unwrap().into_f32() == numbers, "{name}");
        }
        assert!(matches!(tensors.values("brain"), Ok(Values::Bf16(_))));
        assert!(tensors.values("whole").err().unwrap().contains("I32"));
        assert!(tensors.values("none").is_err() && tensors.shape("none").is_none());
        for cut in [0, 7, 8, 100, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(SafeFile::open(&path).is_err(), "{cut}");
        }
        fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        assert!(SafeFile::open(&path).is_err());
    }
}
