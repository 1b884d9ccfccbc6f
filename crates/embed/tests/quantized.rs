//! Language models whose weights have few bits, beside the same weights as floats, and
//! files that say what cannot be.

mod common;
#[path = "common/gguf.rs"]
mod gguf;

use std::fs;
use std::path::Path;

use cairn_embed::{Error, Generator, GeneratorOptions};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};

use common::values;
use gguf::{Case, case, tensor};

const KINDS: [GgmlDType; 12] = [
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::F16,
    GgmlDType::BF16,
];

/// Matrices keep the size of what goes through them, as those of trained models do: a
/// uniform number from -0.5 to 0.5 has the deviation 0.29, times 4 / sqrt(inputs).
fn numbers(name: &str, shape: &[usize]) -> Vec<f32> {
    let mut numbers = values(name, shape.iter().product());
    if let [_, inputs] = *shape {
        let scale = 4.0 / (inputs as f32).sqrt();
        numbers.iter_mut().for_each(|number| *number *= scale);
    }
    numbers
}

/// The scores by weights of `kind`, and those by the very same numbers as floats.
fn both(case: &Case, kind: impl Fn(&str) -> GgmlDType, ids: &[u32]) -> [Vec<Vec<f32>>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let packed = |name: &str, shape: &[usize]| {
        let kind = if shape.len() == 2 { kind(name) } else { GgmlDType::F32 };
        tensor(numbers(name, shape), shape, kind)
    };
    let unpacked = |name: &str, shape: &[usize]| {
        let floats = packed(name, shape).dequantize(&Device::Cpu).unwrap();
        QTensor::quantize(&floats, GgmlDType::F32).unwrap()
    };
    let scores = |path: &Path| {
        let generator = Generator::load(path, &GeneratorOptions::default()).unwrap();
        generator.scores(ids).unwrap()
    };
    let (few, floats) = (folder.path().join("few.gguf"), folder.path().join("floats.gguf"));
    case.write_with(&few, packed);
    case.write_with(&floats, unpacked);
    assert!(fs::metadata(&few).unwrap().len() < fs::metadata(&floats).unwrap().len());
    [scores(&few), scores(&floats)]
}

/// The mean error, as a part of the deviation of what is right.
fn off(got: &[Vec<f32>], want: &[Vec<f32>]) -> f32 {
    let (got, want) = (got.concat(), want.concat());
    assert_eq!(got.len(), want.len());
    let error: f32 = got.iter().zip(&want).map(|(got, want)| (got - want).powi(2)).sum();
    let mean = want.iter().sum::<f32>() / want.len() as f32;
    let spread: f32 = want.iter().map(|want| (want - mean).powi(2)).sum();
    (error / spread).sqrt()
}

/// Inputs of a product are rounded to 8 bits in blocks of up to 256. The largest of so
/// many is 2.8 deviations on average, a step 2.8 / 127 of them, and the error of
/// rounding 0.29 of a step: 0.0064 of what comes out. In two layers a score has nine
/// products behind it, whose errors do not know of each other: 0.0064 * sqrt(9) = 0.019.
/// Norms and softmax neither amplify nor damp them much. Twice as much is allowed: 0.0294
/// was seen, of Q3K.
const ROUNDED: f32 = 0.038;

/// Rounding of 32-bit sums.
const EXACT: f32 = 1e-4;

#[test]
fn weights_of_few_bits_give_the_scores_of_the_same_weights_as_floats() {
    for name in ["llama", "qwen2", "phi3 windowed"] {
        let case = case(name).wide();
        // So many that they go through tiles, or by unpacked weights, the second time.
        for ids in [case.ids.clone(), case.ids.repeat(3)] {
            for kind in KINDS {
                let [got, want] = both(&case, |_| kind, &ids);
                let off = off(&got, &want);
                let allowed = if matches!(kind, GgmlDType::F16 | GgmlDType::BF16) { EXACT } else { ROUNDED };
                assert!(off < allowed, "{name}, {kind:?}, {} tokens: off by {off}", ids.len());
            }
        }
    }
}

#[test]
fn files_that_mix_types_as_q4_k_m_does_are_read_tensor_by_tensor() {
    let case = case("llama").wide();
    let kind = |name: &str| match name {
        name if name.contains("attn_v") || name.contains("ffn_down") || name == "output.weight" => {
            GgmlDType::Q6K
        }
        "token_embd.weight" => GgmlDType::Q8_0,
        _ => GgmlDType::Q4K,
    };
    let [got, want] = both(&case, kind, &case.ids);
    assert!(off(&got, &want) < ROUNDED, "off by {}", off(&got, &want));
}

/// A file with the bytes that say what a tensor is.
struct Written {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Written {
    fn new(case: &Case, kind: GgmlDType) -> Written {
        let (folder, path) = case.file_of(kind);
        let bytes = fs::read(path).unwrap();
        Written { folder, bytes }
    }

    /// Where the description of a tensor begins, behind its name.
    fn entry(&self, tensor: &str) -> usize {
        let name = [&(tensor.len() as u64).to_le_bytes(), tensor.as_bytes()].concat();
        let found = self.bytes.windows(name.len()).position(|window| window == name);
        found.expect("the file has the tensor") + name.len()
    }

    /// The file with other bytes there: what loading it says.
    fn with(&self, at: usize, bytes: &[u8]) -> Result<(), String> {
        let mut changed = self.bytes.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        self.load(&changed)
    }

    fn load(&self, bytes: &[u8]) -> Result<(), String> {
        let path = self.folder.path().join("changed.gguf");
        fs::write(&path, bytes).unwrap();
        match Generator::load(&path, &GeneratorOptions::default()) {
            Ok(_) => Ok(()),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("changed.gguf"), "{said}");
                Err(said)
            }
        }
    }
}

/// Of a tensor of two dimensions: how many there are, both, its type, its place.
const DIMENSIONS: usize = 0;
const ROW: usize = 4;
const TYPE: usize = 20;
const OFFSET: usize = 24;

#[test]
fn types_that_do_not_run_are_named_with_their_tensor() {
    const TENSOR: &str = "blk.1.ffn_down.weight";
    let file = Written::new(&case("llama").wide(), GgmlDType::Q4K);
    let entry = file.entry(TENSOR);
    for (number, name) in [(23u32, "IQ4_XS"), (20, "IQ4_NL"), (16, "IQ2_XXS"), (35, "TQ2_0"), (39, "MXFP4")] {
        let said = file.with(entry + TYPE, &number.to_le_bytes()).unwrap_err();
        assert!(said.contains(TENSOR) && said.contains(name), "{said}");
        assert!(said.contains("Q4_0") && said.contains("Q2_K to Q6_K"), "{said}");
    }
    let said = file.with(entry + TYPE, &9999u32.to_le_bytes()).unwrap_err();
    assert!(said.contains(TENSOR) && said.contains("number 9999"), "{said}");
    assert_eq!(file.with(entry + TYPE, &12u32.to_le_bytes()), Ok(()));
}

#[test]
fn sizes_that_cannot_be_are_errors_that_name_the_tensor() {
    const TENSOR: &str = "blk.0.attn_q.weight";
    let file = Written::new(&case("llama").wide(), GgmlDType::Q4K);
    let entry = file.entry(TENSOR);
    let refused = |at: usize, bytes: &[u8], words: &str| {
        let said = file.with(entry + at, bytes).unwrap_err();
        assert!(said.contains(TENSOR) && said.contains(words), "{said}");
    };
    refused(DIMENSIONS, &9u32.to_le_bytes(), "9 dimensions");
    refused(ROW, &u64::MAX.to_le_bytes(), "cannot have the shape");
    refused(ROW, &(1u64 << 40).to_le_bytes(), "cannot have the shape");
    refused(ROW, &(1u64 << 24).to_le_bytes(), "cut short");
    refused(ROW, &255u64.to_le_bytes(), "rows of 255 numbers, Q4_K needs a multiple of 256");
    refused(OFFSET, &u64::MAX.to_le_bytes(), "cut short");
    // Counts and lengths at the beginning, behind the version.
    for at in [8, 16, 24] {
        for number in [u64::MAX, 1 << 40, 1 << 29] {
            file.with(at, &number.to_le_bytes()).unwrap_err();
        }
    }
    let narrow = Written::new(&case("llama"), GgmlDType::F32);
    let said = narrow.with(narrow.entry(TENSOR) + TYPE, &12u32.to_le_bytes()).unwrap_err();
    assert!(said.contains("rows of 64 numbers, Q4_K needs a multiple of 256"), "{said}");
    for alignment in [0u32, 3, 48] {
        let file = Written::new(&case("llama").set("general.alignment", alignment), GgmlDType::F32);
        let said = file.load(&file.bytes).unwrap_err();
        assert!(said.contains("general.alignment") && said.contains("power of two"), "{said}");
    }
}

#[test]
fn files_cut_anywhere_in_their_tables_are_said_to_be_cut() {
    let file = Written::new(&case("qwen2").wide(), GgmlDType::Q6K);
    let tables = file.entry("token_embd.weight");
    for len in (24..tables).step_by(211) {
        let said = file.load(&file.bytes[..len]).unwrap_err();
        assert!(said.contains("cut short"), "{len}: {said}");
    }
    let said = file.load(&file.bytes[..file.bytes.len() - 1000]).unwrap_err();
    assert!(said.contains("cut short") && said.contains("tensor `"), "{said}");
}

#[test]
fn random_changes_of_the_tables_never_panic() {
    let file = Written::new(&case("llama"), GgmlDType::Q8_0);
    let tables = file.entry("token_embd.weight") + OFFSET;
    // Fields of tokens are most of the tables; what is behind them describes tensors.
    let behind = file.entry("blk.0.attn_k.weight");
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..400 {
        let mut changed = file.bytes.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(if round % 2 == 0 { 0..tables } else { behind..tables });
            changed[at] = random.u8(..);
        }
        let _ = file.load(&changed);
    }
}

#[test]
fn weights_without_numbers_are_refused_by_what_they_are() {
    let (folder, path) = case("llama").file_of(GgmlDType::F32);
    let bytes = fs::read(&path).unwrap();
    let other = folder.path().join("other.gguf");
    fs::write(&other, [b"GGML", &bytes[4..]].concat()).unwrap();
    let refused = Generator::load(&other, &GeneratorOptions::default());
    assert!(matches!(refused.err(), Some(Error::Gguf { .. })));
}
