//! Language models out of `golden/generator.json`, written as GGUF files.

// Each test uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_embed::{Cancel, Error, Generated, Generator, GeneratorOptions, Prompt, Sampling};
use candle_core::quantized::gguf_file::{self, Value as Field};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::common::values;

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) tokenizers: BTreeMap<String, Map<String, Value>>,
    pub(crate) cases: Vec<Case>,
    pub(crate) tokenized: Vec<Tokenized>,
}

#[derive(Deserialize, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) tokenizer: String,
    pub(crate) fields: Map<String, Value>,
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
    /// Tensors whose numbers are not those of the formula.
    pub(crate) given: BTreeMap<String, Vec<f32>>,
    pub(crate) ids: Vec<u32>,
    pub(crate) logits: String,
    /// What llama.cpp finds likeliest after the ids.
    #[serde(default)]
    pub(crate) continued: Vec<u32>,
}

/// Texts and their ids by llama.cpp, with these fields of a tokenizer.
#[derive(Deserialize)]
pub(crate) struct Tokenized {
    pub(crate) tokenizer: String,
    pub(crate) fields: Map<String, Value>,
    pub(crate) texts: Vec<String>,
    pub(crate) ids: Vec<Vec<u32>>,
}

pub(crate) fn golden() -> Golden {
    serde_json::from_str(include_str!("../../golden/generator.json")).expect("the fixture is JSON")
}

pub(crate) fn case(name: &str) -> Case {
    let mut golden = golden();
    let at = golden.cases.iter().position(|case| case.name == name).expect("the fixture has the case");
    let mut case = golden.cases.swap_remove(at);
    case.fields.extend(golden.tokenizers.remove(&case.tokenizer).expect("the tokenizer of the case"));
    case
}

impl Case {
    pub(crate) fn set(mut self, field: &str, value: impl Into<Value>) -> Case {
        self.fields.insert(field.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, field: &str) -> Case {
        assert!(self.fields.shift_remove(field).is_some(), "no field {field}");
        self
    }

    /// Gives all tables another number of tokens.
    pub(crate) fn with_rows(mut self, rows: usize) -> Case {
        let old = self.tensors["token_embd.weight"][0];
        for shape in self.tensors.values_mut() {
            shape.iter_mut().filter(|size| **size == old).for_each(|size| *size = rows);
        }
        self
    }

    pub(crate) fn logits(&self) -> Vec<Vec<f32>> {
        let bytes = STANDARD.decode(&self.logits).expect("base64");
        let numbers: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        numbers.chunks(numbers.len() / self.ids.len()).map(<[f32]>::to_vec).collect()
    }

    /// Writes the file, its matrices in this precision.
    pub(crate) fn write(&self, path: &Path, kind: GgmlDType) {
        self.write_with(path, |name, shape| {
            let kind = if shape.len() == 2 { kind } else { GgmlDType::F32 };
            tensor(values(name, shape.iter().product()), shape, kind)
        });
    }

    /// Writes the file; `made` gives the tensors but those whose numbers are given.
    pub(crate) fn write_with(&self, path: &Path, made: impl Fn(&str, &[usize]) -> QTensor) {
        let fields: Vec<(String, Field)> =
            self.fields.iter().map(|(name, value)| (name.clone(), field(value))).collect();
        let mut tensors: Vec<(String, QTensor)> =
            self.tensors.iter().map(|(name, shape)| (name.clone(), made(name, shape))).collect();
        for (name, numbers) in &self.given {
            tensors.push((name.clone(), tensor(numbers.clone(), &[numbers.len()], GgmlDType::F32)));
        }
        let fields: Vec<(&str, &Field)> = fields.iter().map(|(name, value)| (&name[..], value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, value)| (&name[..], value)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &fields, &tensors).unwrap();
    }

    /// The same four times as wide, so that rows are whole blocks of 256.
    pub(crate) fn wide(mut self) -> Case {
        let wider = |size: usize| match size {
            64 => 256,
            32 => 128,
            96 | 128 => 512,
            192 => 1024,
            other => other,
        };
        self.tensors.values_mut().flatten().for_each(|size| *size = wider(*size));
        let architecture = self.fields["general.architecture"].as_str().unwrap().to_owned();
        for (name, value) in [
            ("embedding_length", 256),
            ("feed_forward_length", 512),
            ("attention.key_length", 64),
            ("attention.value_length", 64),
            ("rope.dimension_count", 64),
        ] {
            self = self.set(&format!("{architecture}.{name}"), value);
        }
        self
    }

    pub(crate) fn file_of(&self, kind: GgmlDType) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        self.write(&path, kind);
        (folder, path)
    }

    pub(crate) fn load(&self) -> Generator {
        self.load_with(&GeneratorOptions::default()).unwrap()
    }

    pub(crate) fn load_with(&self, options: &GeneratorOptions) -> Result<Generator, Error> {
        let (_folder, path) = self.file_of(GgmlDType::F32);
        Generator::load(&path, options)
    }

    pub(crate) fn refused(&self) -> String {
        match self.load_with(&GeneratorOptions::default()) {
            Ok(_) => panic!("{} was loaded", self.name),
            Err(error) => error.to_string(),
        }
    }
}

pub(crate) fn tensor(numbers: Vec<f32>, shape: &[usize], kind: GgmlDType) -> QTensor {
    let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, kind).unwrap()
}

pub(crate) fn field(value: &Value) -> Field {
    match value {
        Value::Bool(flag) => Field::Bool(*flag),
        Value::String(text) => Field::String(text.clone()),
        Value::Number(number) if number.is_f64() => Field::F32(number.as_f64().unwrap() as f32),
        Value::Number(number) => Field::U32(number.as_u64().unwrap() as u32),
        Value::Array(values) => Field::Array(values.iter().map(field).collect()),
        other => panic!("no field of a GGUF file: {other}"),
    }
}

pub(crate) fn furthest(got: &[Vec<f32>], want: &[Vec<f32>]) -> f32 {
    assert_eq!(got.len(), want.len());
    let rows = got.iter().zip(want);
    rows.flat_map(|(got, want)| {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).map(|(got, want)| (got - want).abs())
    })
    .fold(0.0, f32::max)
}

pub(crate) fn likeliest(scores: &[f32]) -> u32 {
    let all = scores.iter().zip(0..);
    all.fold((f32::MIN, 0), |best, (&score, id)| if score > best.0 { (score, id) } else { best }).1
}

pub(crate) fn greedy(count: usize) -> Sampling {
    Sampling { max_tokens: count, ..Sampling::default() }
}

pub(crate) fn generate(generator: &Generator, prompt: Prompt<'_>, sampling: &Sampling) -> Generated {
    generator.generate(prompt, sampling, &Cancel::new(), &mut |_| ControlFlow::Continue(())).unwrap()
}
