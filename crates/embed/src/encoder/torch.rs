//! A file that torch saved: an archive with a pickled dictionary, and the numbers of
//! each tensor beside it.
//!
//! No code of it is run, and what it says of places and sizes is checked against the
//! bytes that are there. A tensor that is told in a way not known here is as good as
//! missing, and the reason is kept for whoever asks for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;

use super::pickle::{At, Object, Objects};

/// The dictionary in the archive, behind the name of its folder.
const PICKLE: &str = "data.pkl";

/// Bytes of a dictionary at most; that of a model of a thousand tensors has 0.1 MB.
const LARGEST: u64 = 4 << 20;

/// Dimensions of a tensor at most.
const DIMENSIONS: usize = 8;

pub(super) struct TorchFile {
    path: PathBuf,
    tensors: HashMap<String, Stored>,
    /// Why other tensors cannot be read.
    faults: HashMap<String, String>,
}

/// Where the numbers of a tensor are.
struct Stored {
    entry: String,
    kind: DType,
    /// How many numbers are before it.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

type Loaded<T> = Result<T, String>;

impl TorchFile {
    /// Reads the dictionary of a file; an error is the reason why that does not go.
    pub(super) fn open(path: &Path) -> Loaded<TorchFile> {
        let mut archive = archive(path)?;
        let name = archive.file_names().filter_map(Result::ok).find(|name| name.ends_with(PICKLE));
        let Some(name) = name.map(std::borrow::Cow::into_owned) else {
            return Err(format!("it has no {PICKLE}; a file saved by torch before 1.6 is to be saved again"));
        };
        let entry = archive.by_name(&name).map_err(said)?;
        let mut bytes = Vec::new();
        entry.take(LARGEST + 1).read_to_end(&mut bytes).map_err(said)?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("its {PICKLE} has more than {} MiB", LARGEST >> 20));
        }
        let folder = &name[..name.len() - PICKLE.len()];
        let objects = Objects::read(&bytes)?;
        let Object::Dict(entries) = objects.get(objects.root()) else {
            return Err("it is no dictionary of tensors".into());
        };
        let (mut tensors, mut faults) = (HashMap::new(), HashMap::new());
        for &(key, value) in entries {
            let Some(name) = objects.text(key) else { continue };
            match tensor_of(&objects, value, folder) {
                Some(Ok(tensor)) => drop(tensors.insert(name.to_owned(), tensor)),
                Some(Err(fault)) => drop(faults.insert(name.to_owned(), fault)),
                None => {}
            }
        }
        Ok(TorchFile { path: path.to_owned(), tensors, faults })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Why a tensor that is there cannot be read, if that is so.
    pub(super) fn fault(&self, name: &str) -> Option<&str> {
        self.faults.get(name).map(String::as_str)
    }

    /// The shape of a tensor, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// The numbers of a tensor.
    pub(super) fn load(&self, name: &str) -> Loaded<Tensor> {
        let stored = self.tensors.get(name).ok_or("it is not there")?;
        let mut archive = archive(&self.path)?;
        let entry = archive.by_name(&stored.entry).map_err(|_| format!("it has no {}", stored.entry))?;
        stored.read(entry)
    }
}

impl Stored {
    fn read(&self, entry: impl Read) -> Loaded<Tensor> {
        let size = self.kind.size_in_bytes();
        let numbers = self.shape.iter().try_fold(1usize, |all, &count| all.checked_mul(count));
        let bytes = numbers.and_then(|numbers| numbers.checked_mul(size));
        let before = self.offset.checked_mul(size);
        let (Some(bytes), Some(before)) = (bytes, before) else {
            return Err(format!("it cannot have the shape {:?}", self.shape));
        };
        let mut entry = entry;
        let skipped =
            std::io::copy(&mut (&mut entry).take(before as u64), &mut std::io::sink()).map_err(said)?;
        // Grows with what is there, not with what the shape says.
        let mut data = Vec::new();
        entry.take(bytes as u64).read_to_end(&mut data).map_err(said)?;
        if skipped < before as u64 || data.len() < bytes {
            let there = skipped + data.len() as u64;
            return Err(format!(
                "{} has {there} bytes, its shape needs {}",
                self.entry,
                before.saturating_add(bytes)
            ));
        }
        let made = |shape: &[usize]| Tensor::from_raw_buffer(&data, self.kind, shape, &Device::Cpu);
        if self.is_in_order(self.shape.iter().rev().zip(self.strides.iter().rev())) {
            return made(&self.shape).map_err(said);
        }
        if self.is_in_order(self.shape.iter().zip(&self.strides)) {
            // Saved transposed.
            let shape: Vec<usize> = self.shape.iter().rev().copied().collect();
            let order: Vec<usize> = (0..shape.len()).rev().collect();
            return made(&shape).and_then(|made| made.permute(order)?.contiguous()).map_err(said);
        }
        Err(format!("its numbers are not in order (strides {:?})", self.strides))
    }

    /// Whether each dimension goes through the numbers as those before it say.
    fn is_in_order<'a>(&self, mut dimensions: impl Iterator<Item = (&'a usize, &'a usize)>) -> bool {
        let mut step = 1usize;
        self.shape.len() == self.strides.len()
            && dimensions.all(|(&count, &stride)| {
                let fits = count == 1 || stride == step;
                step = step.saturating_mul(count);
                fits
            })
    }
}

/// What an entry of the dictionary says of a tensor; nothing if it is something else.
fn tensor_of(objects: &Objects, at: At, folder: &str) -> Option<Loaded<Stored>> {
    let Object::Call { callable, arguments } = *objects.get(at) else { return None };
    let (mut callable, mut arguments) = (callable, arguments);
    if objects.is_class(callable, "torch._utils", "_rebuild_parameter") {
        let Object::Call { callable: of, arguments: with } =
            *objects.get(*objects.tuple(arguments)?.first()?)
        else {
            return None;
        };
        (callable, arguments) = (of, with);
    } else if objects.is_class(callable, "torch._tensor", "_rebuild_from_type_v2") {
        let [of, _, with, ..] = *objects.tuple(arguments)? else { return None };
        (callable, arguments) = (of, with);
    }
    let is_tensor = objects.is_class(callable, "torch._utils", "_rebuild_tensor_v2");
    is_tensor.then(|| stored(objects, arguments, folder))
}

/// The arguments of a tensor: storage, offset, shape, strides and what does not matter.
fn stored(objects: &Objects, arguments: At, folder: &str) -> Loaded<Stored> {
    let read = || {
        let [storage, offset, shape, strides, ..] = *objects.tuple(arguments)? else { return None };
        let Object::Stored(storage) = *objects.get(storage) else { return None };
        // The word "storage", its class, its name, where it was, its length.
        let [_, class, name, ..] = *objects.tuple(storage)? else { return None };
        let Object::Class(_, class) = objects.get(class) else { return None };
        let counts =
            |at| objects.tuple(at)?.iter().map(|&at| objects.count(at)).collect::<Option<Vec<usize>>>();
        let (shape, strides) = (counts(shape)?, counts(strides)?);
        Some((class, objects.text(name)?, objects.count(offset)?, shape, strides))
    };
    let (class, name, offset, shape, strides) = read().ok_or("it is described in a way that is not known")?;
    if shape.len() > DIMENSIONS || shape.len() != strides.len() {
        return Err(format!("it cannot have {} dimensions and {} strides", shape.len(), strides.len()));
    }
    let kind = match class.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "ByteStorage" => DType::U8,
        "LongStorage" => DType::I64,
        other => return Err(format!("numbers of the kind {other} are not known")),
    };
    Ok(Stored { entry: format!("{folder}data/{name}"), kind, offset, shape, strides })
}

fn archive(path: &Path) -> Loaded<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(said)?;
    ZipArchive::new(BufReader::new(file)).map_err(said)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::TempDir;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// A file with this dictionary and these numbers of a tensor.
    fn file(pickle: &[u8], numbers: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pytorch_model.bin");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in [("archive/data.pkl", pickle), ("archive/data/0", numbers)] {
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        (folder, path)
    }

    fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    fn tuple(numbers: &[i32]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| [b"J".as_slice(), &number.to_le_bytes()].concat());
        [vec![b'('], numbers.collect(), vec![b't']].concat()
    }

    /// The dictionary of one tensor `w`, as torch writes it.
    fn one(shape: &[i32], strides: &[i32], offset: i32) -> Vec<u8> {
        let storage =
            [b"(".to_vec(), text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu")];
        [
            b"\x80\x02}(".to_vec(),
            text("w"),
            b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            storage.concat(),
            b"K\x06tQ".to_vec(),
            [b"J".as_slice(), &offset.to_le_bytes()].concat(),
            tuple(shape),
            tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtRu.".to_vec(),
        ]
        .concat()
    }

    fn numbers() -> Vec<u8> {
        (0..6u8).flat_map(|number| f32::from(number).to_le_bytes()).collect()
    }

    fn loaded(shape: &[i32], strides: &[i32], offset: i32) -> Loaded<Vec<Vec<f32>>> {
        let (_folder, path) = file(&one(shape, strides, offset), &numbers());
        let file = TorchFile::open(&path)?;
        assert_eq!(file.shape("w").map(<[usize]>::len), Some(shape.len()));
        file.load("w")?.to_vec2().map_err(said)
    }

    #[test]
    fn a_tensor_is_read_in_order_transposed_and_from_within_its_storage() {
        assert_eq!(loaded(&[2, 3], &[3, 1], 0).unwrap(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
        assert_eq!(loaded(&[3, 2], &[1, 3], 0).unwrap(), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
        assert_eq!(loaded(&[2, 2], &[2, 1], 2).unwrap(), [[2.0, 3.0], [4.0, 5.0]]);
        assert_eq!(loaded(&[1, 6], &[77, 1], 0).unwrap(), [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]);
    }

    #[test]
    fn sizes_that_the_file_does_not_have_are_an_error_and_take_no_memory() {
        let huge = i32::MAX;
        let much = loaded(&[huge, huge], &[huge, 1], 0).unwrap_err();
        assert!(much.contains("has 24 bytes"), "{much}");
        let end = loaded(&[2, 3], &[3, 1], 1).unwrap_err();
        assert!(end.contains("archive/data/0 has 24 bytes, its shape needs 28"), "{end}");
        assert!(loaded(&[2, 3], &[3, 1], huge).unwrap_err().contains("has 24 bytes"));
        assert!(loaded(&[2, 2], &[3, 1], 0).unwrap_err().contains("not in order"));

        let (_folder, path) = file(&one(&[huge; 8], &[1; 8], 0), &numbers());
        let wide = TorchFile::open(&path).unwrap().load("w").unwrap_err();
        assert!(wide.contains("cannot have the shape"), "{wide}");
    }

    #[test]
    fn a_tensor_that_is_told_otherwise_is_kept_with_its_fault() {
        for (shape, strides) in [(&[2, 3][..], &[3][..]), (&[-2, 3], &[3, 1]), (&[1; 9], &[1; 9])] {
            let (_folder, path) = file(&one(shape, strides, 0), &numbers());
            let file = TorchFile::open(&path).unwrap();
            assert!(file.shape("w").is_none() && file.fault("w").is_some(), "{shape:?}");
        }
        // Fewer arguments than a tensor has.
        let few = [b"}(".to_vec(), text("w"), b"ctorch._utils\n_rebuild_tensor_v2\n)Ru.".to_vec()].concat();
        let (_folder, path) = file(&few, &numbers());
        assert!(TorchFile::open(&path).unwrap().fault("w").unwrap().contains("not known"));
    }

    #[test]
    fn crafted_pickles_are_errors_and_end_soon() {
        let refused = |pickle: &[u8]| {
            let (_folder, path) = file(pickle, &numbers());
            TorchFile::open(&path).err().expect("it was opened")
        };
        // A text of 4 GiB, of which nothing is there.
        assert!(refused(b"X\xff\xff\xff\xff").contains("ends too early"));
        // Each tuple has the one before it twice: unpacked, 2 to the power of 10,000.
        let doubled = [b")".to_vec(), b"q\x00h\x00h\x00\x86".repeat(10_000), b".".to_vec()].concat();
        assert!(refused(&doubled).contains("no dictionary"));
        // Tuples in tuples, and a list that has itself.
        assert!(
            refused(&[b")".to_vec(), b"\x85".repeat(1_000_000), b".".to_vec()].concat())
                .contains("no dictionary")
        );
        assert!(refused(b"]q\x00h\x00a.").contains("no dictionary"));
        assert!(refused(&b"N".repeat(5 << 20)).contains("more than 4 MiB"));
        for pickle in
            [&b"."[..], b"R", b"t", b"a", b"u", b"(Nu", b"h\x01", b"\x8a\xff", b"cos", b"b", b"(.", b"\xff"]
        {
            assert!(refused(pickle).contains("pickle"), "{pickle:?}");
        }
        // A class is its name; nothing is called.
        assert!(refused(b"cos\nsystem\n(X\x04\x00\x00\x00truetR.").contains("no dictionary"));
        let whole = one(&[2, 3], &[3, 1], 0);
        for len in 0..whole.len() {
            refused(&whole[..len]);
        }
    }

    #[test]
    fn random_changes_of_a_dictionary_never_panic() {
        let whole = one(&[2, 3], &[3, 1], 0);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let mut changed = whole.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            let (_folder, path) = file(&changed, &numbers());
            if let Ok(file) = TorchFile::open(&path) {
                file.names().for_each(|name| drop(file.load(name)));
            }
        }
    }
}
