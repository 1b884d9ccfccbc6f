//! A GGUF file: what it says about its model, and its tensors.
//!
//! Fields are read by name and kind, tensors by name and shape; what is missing
//! or has another kind or shape is an error that names file and field. What the
//! fields mean is not here; see `config` and `vocabulary`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};

use super::compute;
use super::product::{Product, Threads};
use crate::{Error, Result};

/// How many files a model that was cut into several has.
const SPLIT: &str = "split.count";

/// The types of tensors that run here.
pub(super) const PRECISIONS: &str =
    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K; take a file of the model in one of these";

/// Numbers that a tensor has at most; more would not fit any machine.
pub(super) const MOST: usize = 1 << 40;

pub(super) struct Gguf {
    path: PathBuf,
    content: Content,
    file: BufReader<File>,
    device: Device,
}

impl Gguf {
    /// Reads the tables of a file; tensors are read when they are asked for.
    pub(super) fn open(path: &Path) -> Result<Gguf> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        super::table::check(path, &mut file)?;
        let content = Content::read(&mut file)
            .map_err(|error| Error::Gguf { path: path.into(), reason: super::plain(&error) })?;
        let gguf = Gguf { path: path.into(), content, file, device: Device::Cpu };
        if let Some(count @ 2..) = gguf.optional_count(SPLIT)? {
            let value = count.to_string();
            return Err(gguf.unsupported(
                SPLIT,
                value,
                "a whole file; join the parts with `gguf-split --merge`",
            ));
        }
        Ok(gguf)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn unsupported(&self, field: &str, value: String, supported: &'static str) -> Error {
        let file = self.path.display().to_string();
        Error::Unsupported { file, field: field.into(), value, supported }
    }

    /// A fault of a field: `fault` continues a sentence, as in "is missing".
    pub(super) fn fault(&self, field: &str, fault: impl Into<String>) -> Error {
        Error::GgufField { path: self.path.clone(), field: field.into(), fault: fault.into() }
    }

    fn missing(&self, field: &str) -> Error {
        self.fault(field, "is missing")
    }

    fn get<T>(&self, field: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.content.metadata.get(field) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.fault(field, format!("is no {kind}"))),
        }
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.content.metadata.contains_key(field)
    }

    pub(super) fn text(&self, field: &str) -> Result<&str> {
        self.optional_text(field)?.ok_or_else(|| self.missing(field))
    }

    pub(super) fn optional_text(&self, field: &str) -> Result<Option<&str>> {
        match self.content.metadata.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(field, "is no text")),
        }
    }

    /// A number of things, at least one.
    pub(super) fn count(&self, field: &str) -> Result<usize> {
        match self.optional_count(field)? {
            Some(0) => Err(self.fault(field, "is 0, it must be 1 or more")),
            Some(count) => Ok(count),
            None => Err(self.missing(field)),
        }
    }

    pub(super) fn optional_count(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "number of things", whole)
    }

    pub(super) fn optional_id(&self, field: &str) -> Result<Option<u32>> {
        self.get(field, "token id", |value| whole(value)?.try_into().ok())
    }

    pub(super) fn number(&self, field: &str) -> Result<f64> {
        self.optional_number(field)?.ok_or_else(|| self.missing(field))
    }

    pub(super) fn optional_number(&self, field: &str) -> Result<Option<f64>> {
        let number = |value: &Value| match value {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            other => whole(other).map(|number| number as f64),
        };
        self.get(field, "number", |value| number(value).filter(|number| number.is_finite()))
    }

    pub(super) fn optional_flag(&self, field: &str) -> Result<Option<bool>> {
        self.get(field, "yes or no", |value| match value {
            Value::Bool(flag) => Some(*flag),
            other => whole(other).map(|number| number != 0),
        })
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<&str>> {
        self.list(field, "list of texts", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn numbers(&self, field: &str) -> Result<Vec<f32>> {
        self.list(field, "list of numbers", |value| match value {
            Value::F32(number) => Some(*number),
            _ => None,
        })
    }

    pub(super) fn counts(&self, field: &str) -> Result<Vec<usize>> {
        self.list(field, "list of whole numbers", whole)
    }

    fn list<'a, T>(
        &'a self,
        field: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>> {
        let wrong = || self.fault(field, format!("is no {kind}"));
        match self.content.metadata.get(field) {
            Some(Value::Array(values)) => {
                values.iter().map(read).collect::<Option<Vec<T>>>().ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
            None => Err(self.missing(field)),
        }
    }

    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The shape of a tensor, rows first.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        match self.content.tensor_infos.get(name) {
            Some(info) => Ok(info.shape.dims().to_vec()),
            None => Err(self.unusable(format!("it has no tensor `{name}`"))),
        }
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Gguf { path: self.path.clone(), reason }
    }

    fn tensor(&mut self, name: &str, want: &[usize]) -> Result<QTensor> {
        let got = self.shape(name)?;
        if got != want {
            return Err(self.unusable(format!(
                "tensor `{name}` has the shape {}, its fields say {}",
                by(&got),
                by(want)
            )));
        }
        let numbers = want.iter().try_fold(1, |all: usize, &size| all.checked_mul(size));
        if numbers.is_none_or(|numbers| numbers > MOST) {
            return Err(self.unusable(format!("tensor `{name}` cannot have the shape {}", by(want))));
        }
        let read = self.content.tensor(&mut self.file, name, &self.device);
        read.map_err(|error| self.unusable(format!("tensor `{name}`: {}", super::plain(&error))))
    }

    /// The weights of a product from `inputs` numbers to `outputs`, in the
    /// precision of the file.
    pub(super) fn product(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
        threads: &Threads,
    ) -> Result<Product> {
        let tensor = self.tensor(name, &[outputs, inputs])?;
        Product::new(tensor, threads).map_err(compute)
    }

    /// A tensor of one dimension, as 32-bit floats.
    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        let device = self.device.clone();
        self.tensor(name, &[len])?.dequantize(&device).map_err(compute)
    }

    pub(super) fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<Tensor>> {
        self.has_tensor(name).then(|| self.vector(name, len)).transpose()
    }
}

fn whole(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(number) => Some(number.into()),
        Value::U16(number) => Some(number.into()),
        Value::U32(number) => usize::try_from(number).ok(),
        Value::U64(number) => usize::try_from(number).ok(),
        Value::I8(number) => usize::try_from(number).ok(),
        Value::I16(number) => usize::try_from(number).ok(),
        Value::I32(number) => usize::try_from(number).ok(),
        Value::I64(number) => usize::try_from(number).ok(),
        _ => None,
    }
}

fn by(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}
