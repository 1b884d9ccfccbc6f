//! Vectors as they are written: rows of numbers, as a file of NumPy has them, or
//! lines of JSON that keep what came with each text.

use std::io::{Result, Write};
use std::path::Path;

use super::columns::VECTOR;
use super::source::Record;
use crate::failure::Failure;
use crate::out;

/// What a file of vectors is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Npy,
    Jsonl,
    /// Rows of numbers until all are there, then they are joined with the texts.
    Parquet,
}

impl Shape {
    pub(super) fn of(path: &Path) -> std::result::Result<Shape, Failure> {
        let end = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        match end.as_deref() {
            Some("npy") => Ok(Shape::Npy),
            Some("jsonl" | "ndjson") => Ok(Shape::Jsonl),
            Some("parquet") => Ok(Shape::Parquet),
            _ if path == Path::new("-") => Ok(Shape::Jsonl),
            _ => Err(Failure::VectorFile(path.to_owned())),
        }
    }
}

/// Rows on their way into a file.
pub(super) struct Rows<W> {
    pub(super) out: W,
    shape: Shape,
    /// The number of the next row.
    next: usize,
}

impl Rows<out::Stdout> {
    pub(super) fn to_stdout() -> Self {
        Rows::new(out::Stdout, Shape::Jsonl, 0)
    }
}

impl<W: Write> Rows<W> {
    pub(super) fn new(out: W, shape: Shape, next: usize) -> Self {
        Rows { out, shape, next }
    }

    /// Writes a row for each text, and all of them as one piece.
    pub(super) fn write(&mut self, records: Vec<Record>, vectors: &[Vec<f32>]) -> Result<()> {
        let mut piece = Vec::new();
        for (record, vector) in records.into_iter().zip(vectors) {
            match self.shape {
                Shape::Npy | Shape::Parquet => {
                    piece.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
                }
                Shape::Jsonl => line(record, self.next, vector, &mut piece)?,
            }
            self.next += 1;
        }
        self.out.write_all(&piece)
    }
}

/// An object with its vector behind what it had.
fn line(record: Record, number: usize, vector: &[f32], into: &mut Vec<u8>) -> Result<()> {
    let mut object = record.into_object(number);
    object.remove(VECTOR);
    let object = serde_json::to_vec(&object)?;
    // Numbers as short as they can be are those of f32, which a value has not.
    into.extend(&object[..object.len() - 1]);
    if object.len() > 2 {
        into.push(b',');
    }
    into.extend(format!("\"{VECTOR}\":").as_bytes());
    serde_json::to_writer(&mut *into, vector)?;
    into.extend(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Record, Rows, Shape};

    fn object(value: Value) -> Record {
        let Value::Object(object) = value else { panic!("an object") };
        Record::Object { text: String::new(), object }
    }

    #[test]
    fn lines_keep_what_came_with_a_text_and_get_a_vector() {
        let mut rows = Rows::new(Vec::new(), Shape::Jsonl, 4);
        let records = vec![
            object(json!({ "text": "one", "id": "a", "vector": [9] })),
            Record::Plain("two \"2\"".to_owned()),
            object(json!({ "vector": [9] })),
        ];
        rows.write(records, &[vec![0.1, -1.0], vec![0.5], vec![2.0]]).unwrap();
        let text = String::from_utf8(rows.out).unwrap();
        let want = "{\"text\":\"one\",\"id\":\"a\",\"vector\":[0.1,-1.0]}\n\
                    {\"id\":5,\"text\":\"two \\\"2\\\"\",\"vector\":[0.5]}\n{\"vector\":[2.0]}\n";
        assert_eq!(text, want);
    }

    #[test]
    fn rows_of_numpy_are_little_endian_numbers_one_behind_the_other() {
        let mut rows = Rows::new(Vec::new(), Shape::Npy, 0);
        rows.write(vec![Record::Plain(String::new()); 2], &[vec![1.0, 2.0], vec![-0.5, 0.0]]).unwrap();
        let want: Vec<u8> = [1.0f32, 2.0, -0.5, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(rows.out, want);
    }

    #[test]
    fn a_file_is_what_its_name_ends_with() {
        let of = |name: &str| Shape::of(Path::new(name)).ok();
        assert_eq!(
            (of("a.npy"), of("a.JSONL"), of("-"), of("a.parquet")),
            (Some(Shape::Npy), Some(Shape::Jsonl), Some(Shape::Jsonl), Some(Shape::Parquet))
        );
        assert_eq!((of("a.csv"), of("npy")), (None, None));
    }
}
