//! What readers of foreign input must keep to, whatever the input is.
//!
//! A [`Target`] takes any bytes and panics when something that must hold does
//! not. Two things run them: the test `short`, over the corpus and a fixed number
//! of inputs made from it, and the programs under `targets/`, for as long as one
//! likes, where libFuzzer looks for inputs that reach new code
//! (`cargo xtask fuzz`).

mod body;
mod filter;
mod material;
mod mutate;
mod number;
mod path;
mod points;
mod query;
mod service;

use std::path::{Path, PathBuf};

pub use mutate::mutated;

#[doc(hidden)]
#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;

/// A reader, and what must hold of what it reads.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of its corpus.
    pub name: &'static str,
    /// Takes one input; panics when something does not hold.
    pub check: fn(&[u8]),
    /// Words that its inputs are made of, in the form libFuzzer reads.
    pub dictionary: &'static str,
    /// Inputs that the test `short` makes from the corpus.
    pub short_inputs: usize,
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "path",
        check: path::check,
        dictionary: include_str!("../dictionaries/path.dict"),
        short_inputs: 20_000,
    },
    Target {
        name: "filter",
        check: filter::check,
        dictionary: include_str!("../dictionaries/json.dict"),
        short_inputs: 6_000,
    },
    Target {
        name: "query",
        check: query::check,
        dictionary: include_str!("../dictionaries/json.dict"),
        short_inputs: 3_000,
    },
    Target {
        name: "number",
        check: number::check,
        dictionary: include_str!("../dictionaries/number.dict"),
        short_inputs: 50_000,
    },
    Target {
        name: "body",
        check: body::check,
        dictionary: include_str!("../dictionaries/json.dict"),
        short_inputs: 6_000,
    },
    Target {
        name: "points",
        check: points::check,
        dictionary: include_str!("../dictionaries/json.dict"),
        short_inputs: 600,
    },
];

impl Target {
    /// The target of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Self {
        let found = TARGETS.into_iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("there is no target {name}"))
    }

    /// The folder of inputs that are known to be worth trying.
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }

    /// The inputs of the corpus, by the names of their files.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn seeds(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.corpus();
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut seeds: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("a folder that was opened can be listed").path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name, std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            })
            .collect();
        seeds.sort();
        seeds
    }

    /// The words of the dictionary.
    ///
    /// # Panics
    /// When a line of it is none of libFuzzer's form.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let lines = self.dictionary.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(word).collect()
    }
}

/// A line such as `"\x22must\x22"`.
fn word(line: &str) -> Vec<u8> {
    let quoted = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
    let mut rest = quoted.unwrap_or_else(|| panic!("{line} is no word in quotes")).as_bytes();
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        match rest {
            [b'x', digits @ ..] if digits.len() >= 2 => {
                let digits = std::str::from_utf8(&digits[..2]).expect("a dictionary is ASCII");
                word.push(u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{line}: \\x{digits}")));
                rest = &rest[3..];
            }
            [escaped @ (b'\\' | b'"'), after @ ..] => {
                word.push(*escaped);
                rest = after;
            }
            _ => panic!("{line} has an escape that libFuzzer does not know"),
        }
    }
    word
}

/// The program that libFuzzer runs a target in.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        use $crate::libfuzzer_sys;

        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            static CHECK: std::sync::LazyLock<fn(&[u8])> =
                std::sync::LazyLock::new(|| $crate::Target::named($name).check);
            CHECK(input);
        });

        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            static MATERIAL: std::sync::LazyLock<$crate::Material> =
                std::sync::LazyLock::new(|| $crate::Material::of(&$crate::Target::named($name)));
            // Half of the changes know nothing of JSON: libFuzzer's own look for
            // what is compared with.
            if seed % 2 == 0 {
                return $crate::libfuzzer_sys::fuzzer_mutate(data, size, max_size);
            }
            let made = $crate::mutated(&data[..size], &MATERIAL, u64::from(seed));
            let length = made.len().min(max_size);
            data[..length].copy_from_slice(&made[..length]);
            length
        });
    };
}

pub use material::Material;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_libfuzzer_reads_them() {
        assert_eq!(word(r#""a\x5b\"\\""#), b"a[\"\\");
        for target in TARGETS {
            assert!(target.words().len() > 5, "{}", target.name);
            assert!(target.seeds().len() > 5, "{}", target.name);
        }
    }
}
