//! A Parquet file of texts: a row a text, in one of its columns.
//!
//! What other columns become as JSON is in `import/parquet.rs`; a file with
//! vectors is written in `joined`.

pub(super) mod joined;

use std::fs::File;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::{Type, TypePtr};

use super::source::{Part, Record, Texts};
use crate::failure::Failure;
use crate::import::parquet::{guarded, value};

/// A file that was opened.
pub(super) struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Table, Failure> {
        let file = File::open(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
        let reader = guarded(|| SerializedFileReader::new(file)).map_err(|error| unreadable(path, &error))?;
        Ok(Table { path: path.to_owned(), reader })
    }

    pub(super) fn rows(&self) -> usize {
        usize::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    fn columns(&self) -> &[TypePtr] {
        self.reader.metadata().file_metadata().schema_descr().root_schema().get_fields()
    }

    /// The texts of the column `field`.
    ///
    /// # Errors
    /// [`Failure::NoParquet`] where there is no such column, or it holds no texts.
    pub(super) fn texts(self, field: &str, part: Part, bar: ProgressBar) -> Result<RowTexts, Failure> {
        let failed = |reason| Failure::NoParquet { path: self.path.clone(), reason };
        let Some(column) = self.columns().iter().find(|column| column.name() == field) else {
            let has: Vec<&str> = self.columns().iter().map(|column| column.name()).collect();
            return Err(failed(format!(
                "it has no column `{field}`; name the one that holds the texts with --field, it has: {}",
                has.join(", ")
            )));
        };
        if !column.is_primitive() || column.get_physical_type() != Physical::BYTE_ARRAY {
            return Err(failed(format!(
                "its column `{field}` holds no texts; name the one that does with --field"
            )));
        }
        let types = match part {
            Part::Text => vec![column.clone()],
            Part::Whole => self.columns().to_vec(),
        };
        let root = self.reader.metadata().file_metadata().schema_descr().root_schema().name().to_owned();
        let path = self.path;
        let projection = Type::group_type_builder(&root).with_fields(types.clone()).build();
        let rows = projection
            .and_then(|only| RowIter::from_file_into(Box::new(self.reader)).project(Some(only)))
            .map_err(|error| unreadable(&path, &error))?;
        Ok(RowTexts { rows, types, path, field: field.to_owned(), part, number: 0, bar })
    }
}

fn unreadable(path: &Path, error: &ParquetError) -> Failure {
    Failure::NoParquet { path: path.to_owned(), reason: error.to_string() }
}

/// The texts of the rows.
pub(super) struct RowTexts {
    rows: RowIter<'static>,
    types: Vec<TypePtr>,
    path: PathBuf,
    field: String,
    part: Part,
    /// Rows read so far.
    number: usize,
    bar: ProgressBar,
}

impl Texts for RowTexts {
    fn next(&mut self) -> Result<Option<Record>, Failure> {
        let row = guarded(|| self.rows.next().transpose());
        let Some(row) = row.map_err(|error| unreadable(&self.path, &error))? else { return Ok(None) };
        self.number += 1;
        self.bar.inc(1);
        let columns = row.into_columns();
        let text = columns.iter().find(|(name, _)| *name == self.field).map(|(_, field)| field);
        let text = text.ok_or("is not there").and_then(text_of).map_err(|what| Failure::BadRow {
            row: self.number,
            path: self.path.clone(),
            reason: format!("its `{}` {what}", self.field),
        })?;
        if self.part == Part::Text {
            return Ok(Some(Record::Plain(text)));
        }
        let cells = columns.into_iter().zip(&self.types);
        let object = cells.map(|((name, field), of)| (name, value(field, Some(of)))).collect();
        Ok(Some(Record::Object { text, object }))
    }
}

/// A column of bytes may hold texts, too.
fn text_of(field: &Field) -> Result<String, &'static str> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        Field::Bytes(bytes) => {
            std::str::from_utf8(bytes.data()).map(str::to_owned).map_err(|_| "is not UTF-8")
        }
        Field::Null => Err("is null"),
        _ => Err("is no text"),
    }
}
