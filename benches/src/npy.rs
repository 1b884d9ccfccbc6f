//! Reads two-dimensional arrays that NumPy wrote, and writes some for it.
//!
//! A `.npy` file is a magic, a version, a length, a Python dict as text, and
//! the values. Little-endian `f2`, `f4` and `i4` in C order are read; the rest
//! is an error that says what it was.

use std::fs::{self, File};
use std::io::{BufWriter, Error, ErrorKind, Result, Write};
use std::path::Path;

use half::f16;

/// Rows of equal length, one behind the other.
#[derive(Debug)]
pub struct Matrix<T> {
    /// Values per row.
    pub columns: usize,
    /// All values.
    pub values: Vec<T>,
}

impl<T> Matrix<T> {
    /// Iterates over the rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.values.chunks_exact(self.columns)
    }
}

/// Reads `f4` values, or `f2` values made wider.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn read_f32(path: &Path) -> Result<Matrix<f32>> {
    let file = fs::read(path)?;
    let (header, data) = split(&file)?;
    let values = match header.kind {
        "<f2" => words(data).map(|word| f16::from_le_bytes(word).to_f32()).collect(),
        "<f4" => words(data).map(f32::from_le_bytes).collect(),
        kind => return Err(invalid(format!("the values are {kind}, not <f2 or <f4"))),
    };
    header.shaped(values)
}

/// Reads `i4` values.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn read_i32(path: &Path) -> Result<Matrix<i32>> {
    let file = fs::read(path)?;
    let (header, data) = split(&file)?;
    if header.kind != "<i4" {
        return Err(invalid(format!("the values are {}, not <i4", header.kind)));
    }
    header.shaped(words(data).map(i32::from_le_bytes).collect())
}

/// Writes `f4` values.
///
/// # Errors
/// If the file cannot be written.
pub fn write_f32(path: &Path, matrix: &Matrix<f32>) -> Result<()> {
    write(path, "<f4", matrix, |value| value.to_le_bytes())
}

/// Writes `i4` values.
///
/// # Errors
/// If the file cannot be written.
pub fn write_i32(path: &Path, matrix: &Matrix<i32>) -> Result<()> {
    write(path, "<i4", matrix, |value| value.to_le_bytes())
}

fn write<T>(path: &Path, kind: &str, matrix: &Matrix<T>, bytes: impl Fn(&T) -> [u8; 4]) -> Result<()> {
    let (rows, columns) = (matrix.rows().len(), matrix.columns);
    let dict = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The values begin at a multiple of 64; ten bytes come before the dict.
    let len = (dict.len() + 11).next_multiple_of(64) - 10;
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(len as u16).to_le_bytes())?;
    writeln!(file, "{dict:<width$}", width = len - 1)?;
    for value in &matrix.values {
        file.write_all(&bytes(value))?;
    }
    file.flush()
}

struct Header<'a> {
    kind: &'a str,
    rows: usize,
    columns: usize,
}

impl Header<'_> {
    fn shaped<T>(&self, values: Vec<T>) -> Result<Matrix<T>> {
        if self.columns == 0 || self.rows.checked_mul(self.columns) != Some(values.len()) {
            let (rows, columns) = (self.rows, self.columns);
            let held = values.len();
            return Err(invalid(format!("{rows} rows of {columns} promised, {held} values held")));
        }
        Ok(Matrix { columns: self.columns, values })
    }
}

/// Takes the header off the data.
fn split(file: &[u8]) -> Result<(Header<'_>, &[u8])> {
    let cut = || invalid("not a whole .npy file".to_owned());
    let rest = file.strip_prefix(b"\x93NUMPY").ok_or_else(cut)?;
    let (len, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u32::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        _ => return Err(cut()),
    };
    let (text, data) = rest.split_at_checked(len as usize).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| cut())?;
    Ok((parse(text).ok_or_else(|| invalid(format!("not understood: {}", text.trim())))?, data))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2000, 384), }`
fn parse(text: &str) -> Option<Header<'_>> {
    let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start());
    let kind = after("'descr':")?.strip_prefix('\'')?.split('\'').next()?;
    if !after("'fortran_order':")?.starts_with("False") {
        return None;
    }
    let (shape, _) = after("'shape':")?.strip_prefix('(')?.split_once(')')?;
    let (rows, columns) = shape.split_once(',')?;
    let columns = columns.trim().trim_end_matches(',');
    Some(Header { kind, rows: rows.trim().parse().ok()?, columns: columns.parse().ok()? })
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.as_chunks().0.iter().copied()
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dict: &str, data: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((dict.len() as u16).to_le_bytes());
        file.extend(dict.bytes());
        file.extend(data);
        file
    }

    #[test]
    fn a_header_is_taken_off_the_values() {
        let file = file("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }\n", &[7; 12]);
        let (header, data) = split(&file).expect("it is whole");
        assert_eq!((header.kind, header.rows, header.columns), ("<f2", 2, 3));
        assert_eq!(data, [7; 12]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a file can be made");
        let matrix = Matrix { columns: 3, values: vec![1.5, 2.0, -3.25, 0.0, 5.0, 6.0] };
        write_f32(file.path(), &matrix).expect("it can be written");
        let read = read_f32(file.path()).expect("it is whole");
        assert_eq!((read.columns, read.values), (3, matrix.values));
        let whole = Matrix { columns: 2, values: vec![-1, 7] };
        write_i32(file.path(), &whole).expect("it can be written");
        assert_eq!(read_i32(file.path()).expect("it is whole").values, whole.values);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let fortran = file("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", &[]);
        let flat = file("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", &[]);
        for bad in [fortran, flat, b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), b"PK".to_vec()] {
            assert!(split(&bad).is_err());
        }
    }
}
