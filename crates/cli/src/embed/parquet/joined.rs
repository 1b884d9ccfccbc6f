//! A Parquet file that joins what texts came with and their vectors.
//!
//! Vectors are a column of lists of floats, the last. Of a Parquet file the other
//! columns are taken over as they are, byte for byte, row group by row group; of
//! lines they are columns of booleans, integers, floats or texts. Neither the rows
//! nor the vectors are ever in memory all at once.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use cairn_embed::Cancel;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use serde_json::{Map, Value};

use super::super::columns::{Kind, VECTOR};
use super::Table;
use crate::failure::Failure;
use crate::import::parquet::guarded;

/// Rows of a group that is made of lines, and bytes of their texts.
const GROUP_ROWS: usize = 16_384;
const GROUP_BYTES: usize = 32 << 20;

/// Vectors that are written at once.
const PIECE: usize = 256;

/// What the Arrow library keeps of a schema that the file no longer has.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Vectors as rows of f32, little-endian, one after the other.
pub(in super::super) struct Vectors<R> {
    pub(in super::super) from: R,
    pub(in super::super) dim: usize,
}

impl<R: Read> Vectors<R> {
    /// Writes the next rows as the last column of a group.
    fn write(&mut self, rows: usize, group: &mut SerializedRowGroupWriter<'_, File>) -> Result<()> {
        let Some(mut column) = group.next_column()? else { return Err(missing(VECTOR)) };
        let mut left = rows;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while left > 0 {
            let count = left.min(PIECE);
            bytes.resize(count * self.dim * size_of::<f32>(), 0);
            self.from.read_exact(&mut bytes)?;
            values.clear();
            values.extend(bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])));
            // A list is there, and each value but its first goes on with it.
            let there = vec![1; values.len()];
            let goes_on: Vec<i16> = (0..values.len()).map(|at| i16::from(at % self.dim != 0)).collect();
            column.typed::<FloatType>().write_batch(&values, Some(&there), Some(&goes_on))?;
            left -= count;
        }
        column.close()
    }
}

/// The rows of a Parquet file.
pub(in super::super) fn rows_of(source: &Path) -> std::result::Result<usize, Failure> {
    Table::open(source).map(|table| table.rows())
}

/// Writes the columns of the Parquet file `source`, and vectors.
///
/// # Errors
/// In words, why it could not be written.
pub(in super::super) fn with_columns_of<R: Read>(
    source: &Path,
    vectors: &mut Vectors<R>,
    out: &File,
    cancel: &Cancel,
) -> std::result::Result<(), String> {
    out.try_clone()
        .map_err(ParquetError::from)
        .and_then(|out| guarded(|| copy_columns(source, vectors, out, cancel)))
        .map_err(|error| error.to_string())
}

fn copy_columns<R: Read>(source: &Path, vectors: &mut Vectors<R>, out: File, cancel: &Cancel) -> Result<()> {
    let file = File::open(source)?;
    let reader = guarded(|| SerializedFileReader::new(file.try_clone()?))?;
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let kept: Vec<TypePtr> =
        schema.root_schema().get_fields().iter().filter(|field| field.name() != VECTOR).cloned().collect();
    let notes = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let notes = notes.into_iter().filter(|note| note.key != ARROW_SCHEMA).collect();
    let mut writer = begin(schema.root_schema().name(), kept, notes, out)?;
    for rows in metadata.row_groups() {
        going(cancel)?;
        let mut group = writer.next_row_group()?;
        let count =
            usize::try_from(rows.num_rows()).map_err(|error| ParquetError::General(error.to_string()))?;
        let kept = rows.columns().iter().filter(|column| column.column_path().parts()[0] != VECTOR);
        for column in kept {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().unsigned_abs(),
                rows_written: count as u64,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            group.append_column(&file, close)?;
        }
        vectors.write(count, &mut group)?;
        group.close()?;
    }
    writer.close().map(drop)
}

/// What a row is made of, and about how many bytes it has.
type Object = (Map<String, Value>, usize);

/// Writes objects as rows with these columns, and vectors. `next` gives the objects.
///
/// # Errors
/// In words, why it could not be written, or what `next` says.
pub(in super::super) fn with_columns<R: Read>(
    columns: &[(&str, Kind)],
    mut next: impl FnMut() -> std::result::Result<Option<Object>, String>,
    vectors: &mut Vectors<R>,
    out: &File,
    cancel: &Cancel,
) -> std::result::Result<(), String> {
    let mut next = || next().map_err(ParquetError::General);
    out.try_clone()
        .map_err(ParquetError::from)
        .and_then(|out| write_rows(columns, &mut next, vectors, out, cancel))
        .map_err(|error| error.to_string())
}

fn write_rows<R: Read>(
    columns: &[(&str, Kind)],
    next: &mut dyn FnMut() -> Result<Option<Object>>,
    vectors: &mut Vectors<R>,
    out: File,
    cancel: &Cancel,
) -> Result<()> {
    let types = columns.iter().map(|(name, kind)| column_of(name, *kind)).collect::<Result<_>>()?;
    let mut writer = begin("texts", types, Vec::new(), out)?;
    loop {
        going(cancel)?;
        let (mut objects, mut bytes) = (Vec::new(), 0);
        while objects.len() < GROUP_ROWS
            && bytes < GROUP_BYTES
            && let Some((object, size)) = next()?
        {
            objects.push(object);
            bytes += size;
        }
        if objects.is_empty() {
            break;
        }
        let mut group = writer.next_row_group()?;
        for &(name, kind) in columns {
            let cells = objects.iter_mut().map(|object| object.remove(name).filter(|cell| !cell.is_null()));
            match kind {
                Kind::Bool => write_cells::<BoolType>(&mut group, name, cells, |cell| cell.as_bool()),
                Kind::Int => write_cells::<Int64Type>(&mut group, name, cells, |cell| cell.as_i64()),
                Kind::Float => write_cells::<DoubleType>(&mut group, name, cells, |cell| cell.as_f64()),
                Kind::Text => write_cells::<ByteArrayType>(&mut group, name, cells, |cell| match cell {
                    Value::String(text) => Some(ByteArray::from(text.into_bytes())),
                    _ => None,
                }),
                Kind::Json => write_cells::<ByteArrayType>(&mut group, name, cells, |cell| {
                    Some(ByteArray::from(cell.to_string().into_bytes()))
                }),
            }?;
        }
        vectors.write(objects.len(), &mut group)?;
        group.close()?;
    }
    writer.close().map(drop)
}

/// The cells of a column, some of which are not there.
fn write_cells<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    name: &str,
    cells: impl Iterator<Item = Option<Value>>,
    of: impl Fn(Value) -> Option<T::T>,
) -> Result<()> {
    let Some(mut column) = group.next_column()? else { return Err(missing(name)) };
    let (mut values, mut there) = (Vec::new(), Vec::new());
    for cell in cells {
        let value = cell.and_then(&of);
        there.push(i16::from(value.is_some()));
        values.extend(value);
    }
    column.typed::<T>().write_batch(&values, Some(&there), None)?;
    column.close()
}

fn begin(
    root: &str,
    mut fields: Vec<TypePtr>,
    notes: Vec<KeyValue>,
    out: File,
) -> Result<SerializedFileWriter<File>> {
    let of_vectors = format!(
        "message m {{ required group {VECTOR} (LIST) {{ repeated group list {{ required float element; }} }} }}"
    );
    fields.extend(parse_message_type(&of_vectors)?.get_fields().iter().cloned());
    let path = ColumnPath::new([VECTOR, "list", "element"].map(str::to_owned).to_vec());
    // Vectors hardly repeat and hardly shrink.
    let properties = WriterProperties::builder()
        .set_created_by(concat!("cairn ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(notes).filter(|notes| !notes.is_empty()))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path.clone(), Encoding::PLAIN)
        .set_column_statistics_enabled(path, EnabledStatistics::None)
        .build();
    let schema = Type::group_type_builder(root).with_fields(fields).build()?;
    SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
}

fn column_of(name: &str, kind: Kind) -> Result<TypePtr> {
    let (physical, logical) = match kind {
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::Int => (Physical::INT64, None),
        Kind::Float => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
    };
    let of = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    of.with_logical_type(logical).build().map(Arc::new)
}

fn missing(column: &str) -> ParquetError {
    ParquetError::General(format!("the schema has no column for {column}"))
}

fn going(cancel: &Cancel) -> Result<()> {
    if cancel.is_cancelled() { Err(ParquetError::General("stopped".to_owned())) } else { Ok(()) }
}
