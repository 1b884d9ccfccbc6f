//! The tables at the beginning of a GGUF file, walked before anything is made of them.
//!
//! What candle cannot read it refuses without saying which tensor it is, and some
//! numbers it takes at their word. Here every tensor is looked at first: its type is
//! one that runs here, its rows are whole blocks, and its bytes are inside the file.
//! A version or a field that this walk does not know is left to candle.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use candle_core::quantized::GgmlDType;

use super::gguf::{MOST, PRECISIONS};
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";

/// The field that says to what multiple tensors begin.
const ALIGNMENT: &str = "general.alignment";

/// How tensors are aligned when the file does not say.
const USUAL_ALIGNMENT: u64 = 32;

/// Dimensions of a tensor at most.
const DIMENSIONS: u32 = 4;

/// Lists in lists at most; no field has any.
const NESTED: u32 = 4;

/// A name at most, in bytes.
const LONGEST: u64 = 1 << 16;

/// Types of values.
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// What a walk ends with.
enum Stop {
    /// The file says something that cannot be.
    Wrong(String),
    /// A tensor of a type that does not run here.
    Type {
        tensor: String,
        name: String,
    },
    /// Something newer; candle says what.
    Unknown,
    Io(std::io::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Io(error)
    }
}

type Walked<T> = std::result::Result<T, Stop>;

struct Walk<'f> {
    file: &'f mut BufReader<File>,
    /// Bytes of the file.
    len: u64,
    at: u64,
    /// Lengths are 4 bytes in version 1, 8 later.
    short: bool,
}

struct Entry {
    name: String,
    /// The longest row first, as the file has them.
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
}

/// Looks at all tensors of a file and leaves it at its beginning.
pub(super) fn check(path: &Path, file: &mut BufReader<File>) -> Result<()> {
    let walked = walk(file);
    file.rewind().map_err(Error::io(path))?;
    let unusable = |reason| Error::Gguf { path: path.into(), reason };
    match walked {
        Ok(()) | Err(Stop::Unknown) => Ok(()),
        Err(Stop::Wrong(reason)) => Err(unusable(reason)),
        Err(Stop::Type { tensor, name }) => Err(Error::Unsupported {
            file: path.display().to_string(),
            field: format!("tensor `{tensor}` of the type"),
            value: name,
            supported: PRECISIONS,
        }),
        Err(Stop::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(unusable("it ends within its tables: it was cut short".into()))
        }
        Err(Stop::Io(error)) => Err(Error::io(path)(error)),
    }
}

fn walk(file: &mut BufReader<File>) -> Walked<()> {
    let len = file.get_ref().metadata()?.len();
    let mut walk = Walk { file, len, at: 0, short: false };
    if walk.bytes::<4>()? != MAGIC {
        return Err(Stop::Unknown);
    }
    match walk.u32()? {
        version @ 1..=3 => walk.short = version == 1,
        _ => return Err(Stop::Unknown),
    }
    let (tensors, fields) = (walk.length()?, walk.length()?);
    let mut alignment = USUAL_ALIGNMENT;
    for _ in 0..fields {
        let name = walk.name()?;
        let kind = walk.u32()?;
        if name == ALIGNMENT {
            alignment = walk.alignment(kind)?;
        } else {
            walk.skip_value(kind, 0)?;
        }
    }
    let mut entries = Vec::new();
    for _ in 0..tensors {
        entries.push(walk.entry()?);
    }
    let data = walk.at.next_multiple_of(alignment);
    entries.iter().try_for_each(|entry| entry.check(data, len))
}

impl Walk<'_> {
    fn bytes<const COUNT: usize>(&mut self) -> Walked<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.file.read_exact(&mut bytes)?;
        self.at += COUNT as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Walked<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Walked<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn length(&mut self) -> Walked<u64> {
        if self.short { self.u32().map(u64::from) } else { self.u64() }
    }

    /// Goes on behind `count` bytes, which must be there.
    fn skip(&mut self, count: u64) -> Walked<()> {
        if count > self.len.saturating_sub(self.at) {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        self.at += count;
        let count = i64::try_from(count).expect("a file has no more bytes than that");
        Ok(self.file.seek_relative(count)?)
    }

    fn name(&mut self) -> Walked<String> {
        let length = self.length()?;
        if length > LONGEST {
            return Err(Stop::Wrong(format!("it has a name of {length} bytes at byte {}", self.at)));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        self.at += length;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    fn skip_value(&mut self, kind: u32, nested: u32) -> Walked<()> {
        match kind {
            TEXT => {
                let length = self.length()?;
                self.skip(length)
            }
            LIST if nested >= NESTED => Err(Stop::Unknown),
            LIST => {
                let (kind, count) = (self.u32()?, self.length()?);
                if let Some(size) = size_of(kind) {
                    return self.skip(count.saturating_mul(size));
                }
                (0..count).try_for_each(|_| self.skip_value(kind, nested + 1))
            }
            kind => self.skip(size_of(kind).ok_or(Stop::Unknown)?),
        }
    }

    fn alignment(&mut self, kind: u32) -> Walked<u64> {
        // Candle reads whole numbers of up to 32 bits here and passes over others.
        let Some(size) = size_of(kind).filter(|_| kind <= 5) else {
            return Err(Stop::Wrong(format!("its field `{ALIGNMENT}` is no whole number of 32 bits")));
        };
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes[..size as usize])?;
        self.at += size;
        match u64::from_le_bytes(bytes) {
            number if number.is_power_of_two() && u32::try_from(number).is_ok() => Ok(number),
            number => {
                Err(Stop::Wrong(format!("its field `{ALIGNMENT}` is {number}, it must be a power of two")))
            }
        }
    }

    fn entry(&mut self) -> Walked<Entry> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if dimensions > DIMENSIONS {
            return Err(Stop::Wrong(format!(
                "tensor `{name}` has {dimensions} dimensions, there are {DIMENSIONS} at most"
            )));
        }
        let shape = (0..dimensions).map(|_| self.length()).collect::<Walked<_>>()?;
        Ok(Entry { name, shape, kind: self.u32()?, offset: self.u64()? })
    }
}

impl Entry {
    /// Tensors begin at `data`, and the file has `len` bytes.
    fn check(&self, data: u64, len: u64) -> Walked<()> {
        let Entry { name, shape, .. } = self;
        let Some(kind) = readable(self.kind) else {
            return Err(Stop::Type { tensor: name.clone(), name: kind_name(self.kind) });
        };
        let wrong = |reason: String| Err(Stop::Wrong(format!("tensor `{name}` {reason}")));
        let by = shape.iter().rev().map(u64::to_string).collect::<Vec<_>>().join(" x ");
        let numbers = shape.iter().try_fold(1u64, |all, &size| all.checked_mul(size));
        let Some(numbers) = numbers.filter(|&numbers| numbers <= MOST as u64) else {
            return wrong(format!("cannot have the shape {by}"));
        };
        let (block, bytes) = (kind.block_size() as u64, kind.type_size() as u64);
        let row = shape.first().copied().unwrap_or(1);
        if row % block != 0 {
            return wrong(format!(
                "has rows of {row} numbers, {} needs a multiple of {block}",
                kind_name(self.kind)
            ));
        }
        let (begin, size) = (data.saturating_add(self.offset), numbers / block * bytes);
        if begin.saturating_add(size) > len {
            let end = begin.saturating_add(size);
            return wrong(format!("ends at byte {end}, the file has {len}: it was cut short, or is none"));
        }
        Ok(())
    }
}

/// Bytes of a value of a type that has always as many.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The type of a tensor, if it runs here.
fn readable(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// What the format calls a type of tensors.
fn kind_name(kind: u32) -> String {
    const NAMES: [(u32, &str); 38] = [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (4, "Q4_2"),
        (5, "Q4_3"),
        (6, "Q5_0"),
        (7, "Q5_1"),
        (8, "Q8_0"),
        (9, "Q8_1"),
        (10, "Q2_K"),
        (11, "Q3_K"),
        (12, "Q4_K"),
        (13, "Q5_K"),
        (14, "Q6_K"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (30, "BF16"),
        (31, "Q4_0_4_4"),
        (32, "Q4_0_4_8"),
        (33, "Q4_0_8_8"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (36, "IQ4_NL_4_4"),
        (39, "MXFP4"),
    ];
    let found = NAMES.iter().find(|(number, _)| *number == kind);
    found.map_or_else(|| format!("number {kind}"), |(_, name)| (*name).to_owned())
}
