//! Parquet files: rows as points or documents.
//!
//! Lists of floats are vectors, lists of such lists are vectors of several rows.
//! In a payload, lists, structs and maps become JSON, dates and times RFC 3339,
//! bytes that are no text base64. Rows are read one after the other, whatever
//! version or codec wrote them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairn_index::{DateTime, Vector};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::table::{Column, Kind, Role, Row, roles, rows_of};
use super::{Intake, Unit};
use crate::failure::{Failure, Outcome};
use crate::progress::counting;

impl Intake<'_> {
    pub(super) fn read_parquet(&mut self, path: &Path) -> Outcome {
        let from = path.display().to_string();
        self.begin(&from, Unit::Row);
        let failed = |reason: String| Failure::Source { from: from.clone(), reason };
        let file = File::open(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
        let unreadable = |error: ParquetError| failed(format!("it is no whole Parquet file: {error}"));
        let reader = guarded(|| SerializedFileReader::new(file)).map_err(unreadable)?;
        let metadata = reader.metadata().file_metadata();
        let schema = metadata.schema_descr().root_schema();
        let types: Vec<TypePtr> = schema.get_fields().to_vec();
        let columns: Vec<Column> = types.iter().map(|of| column(of)).collect();
        let roles = roles(&columns, &self.wanted.columns, None).map_err(failed)?;
        let taken = types.into_iter().zip(roles).filter(|(_, role)| *role != Role::LeftOut);
        let (types, roles): (Vec<_>, Vec<_>) = taken.unzip();
        let projection = Type::group_type_builder(schema.name()).with_fields(types.clone()).build();
        let mut records = projection.and_then(|only| reader.get_row_iter(Some(only))).map_err(unreadable)?;
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let bar = counting("importing", rows);
        for number in 0.. {
            let Some(record) = guarded(|| records.next().transpose()).map_err(unreadable)? else { break };
            let item = row(record, &types, &roles)
                .and_then(|row| row.into_item(self.rows_before + number, self.strings));
            // Rows are counted from 1, as lines are.
            match item {
                Ok(item) => self.offer(Some(number + 1), Some(item))?,
                Err(reason) => self.bad(Some(number + 1), reason)?,
            }
            bar.inc(1);
        }
        self.flush()?;
        self.rows_before += rows;
        bar.finish_and_clear();
        Ok(())
    }
}

/// What the reader of a broken file does not expect becomes an error.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let broken = "it is broken in a way that its reader does not know";
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(ParquetError::General(broken.to_owned())))
}

fn column(of: &Type) -> Column {
    let kind = if holds_floats(of) {
        Kind::Vector
    } else if of.is_primitive() && is_text(of) {
        Kind::Text
    } else {
        Kind::Other
    };
    Column { name: of.name().to_owned(), kind }
}

/// Whether it is a list of floats, or of lists of them.
fn holds_floats(of: &Type) -> bool {
    let is_list = of.is_group() && of.get_basic_info().converted_type() == ConvertedType::LIST;
    if !is_list {
        return false;
    }
    // A list has one repeated group, which has the elements.
    let [inner] = of.get_fields() else { return false };
    let element = if inner.is_group() {
        let [element] = inner.get_fields() else { return false };
        element
    } else {
        inner
    };
    if !element.is_primitive() {
        return holds_floats(element);
    }
    matches!(element.get_physical_type(), Physical::FLOAT | Physical::DOUBLE)
        || element.get_basic_info().logical_type_ref() == Some(&LogicalType::Float16)
}

fn is_text(of: &Type) -> bool {
    of.get_physical_type() == Physical::BYTE_ARRAY
        && matches!(of.get_basic_info().converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM)
}

fn row(record: Record, types: &[TypePtr], roles: &[Role]) -> Result<Row, String> {
    let mut row = Row::default();
    for (((name, field), of), role) in record.into_columns().into_iter().zip(types).zip(roles) {
        match role {
            Role::Vector(called) => {
                let vector = vector(field).map_err(|reason| format!("its `{name}` {reason}"))?;
                row.vectors.insert(called.clone(), vector);
            }
            Role::Id => row.id = Some(value(field, Some(of))),
            Role::Text => row.text = Some(value(field, Some(of))),
            Role::Title => row.title = Some(value(field, Some(of))),
            Role::Payload => drop(row.payload.insert(name, value(field, Some(of)))),
            Role::LeftOut => {}
        }
    }
    Ok(row)
}

/// A list of numbers, or of such lists.
fn vector(field: Field) -> Result<Vector, String> {
    let list = match field {
        Field::ListInternal(list) => list,
        Field::Null => return Err("is empty".to_owned()),
        _ => return Err("is not a list of numbers".to_owned()),
    };
    if !matches!(list.elements().first(), Some(Field::ListInternal(_))) {
        return numbers(list.elements()).map(Vector::Dense);
    }
    let rows = list.elements().iter().map(|row| match row {
        Field::ListInternal(row) => numbers(row.elements()),
        _ => Err("is not a list of lists of numbers".to_owned()),
    });
    rows_of(&rows.collect::<Result<Vec<_>, _>>()?)
}

fn numbers(fields: &[Field]) -> Result<Vec<f32>, String> {
    let number = |field: &Field| {
        Some(match field {
            Field::Float(value) => *value,
            Field::Double(value) => *value as f32,
            Field::Float16(value) => value.to_f32(),
            Field::Byte(value) => f32::from(*value),
            Field::Short(value) => f32::from(*value),
            Field::Int(value) => *value as f32,
            Field::Long(value) => *value as f32,
            Field::UByte(value) => f32::from(*value),
            Field::UShort(value) => f32::from(*value),
            Field::UInt(value) => *value as f32,
            Field::ULong(value) => *value as f32,
            _ => return None,
        })
    };
    fields
        .iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(|| "has something that is no number".to_owned())
}

/// As JSON; `of` is the type of a column, where that says more than the value.
pub(crate) fn value(field: Field, of: Option<&TypePtr>) -> Value {
    let of = of.filter(|of| of.is_primitive()).and_then(|of| of.get_basic_info().logical_type_ref());
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => match of {
            // The reader leaves times in nanoseconds as they are.
            Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS => {
                timestamp(value.div_euclid(1000))
            }
            Some(LogicalType::Time(time)) if time.unit == TimeUnit::NANOS => time_of_day(value / 1000),
            _ => value.into(),
        },
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float16(value) => real(f64::from(value.to_f32())),
        Field::Float(value) => real(shortest(value)),
        Field::Double(value) => real(value),
        Field::Str(value) => value.into(),
        Field::Bytes(value) => bytes(value.data(), of),
        Field::Date(days) => {
            let midnight = DateTime::from_micros(i64::from(days) * 86_400_000_000).to_string();
            midnight.split('T').next().unwrap_or_default().into()
        }
        Field::TimeMillis(millis) => time_of_day(i64::from(millis) * 1000),
        Field::TimeMicros(micros) => time_of_day(micros),
        Field::TimestampMillis(millis) => timestamp(millis.saturating_mul(1000)),
        Field::TimestampMicros(micros) => timestamp(micros),
        Field::Group(record) => {
            let inner = record.into_columns().into_iter().map(|(name, field)| (name, value(field, None)));
            Value::Object(inner.collect())
        }
        Field::ListInternal(list) => list.elements().iter().map(|field| value(field.clone(), None)).collect(),
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, of_key) in map.entries() {
                let key = match value(key.clone(), None) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                object.insert(key, value(of_key.clone(), None));
            }
            Value::Object(object)
        }
        // JSON has no other exact form of these.
        decimal @ Field::Decimal(_) => {
            let digits = decimal.to_string();
            digits.parse().ok().and_then(Number::from_f64).map_or(Value::String(digits), Value::Number)
        }
    }
}

/// The double that is written as the float is.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// JSON has no numbers that are not finite.
fn real(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn bytes(data: &[u8], of: Option<&LogicalType>) -> Value {
    if let (Some(LogicalType::Uuid), Ok(uuid)) = (of, Uuid::from_slice(data)) {
        return uuid.hyphenated().to_string().into();
    }
    match std::str::from_utf8(data) {
        Ok(text) => text.into(),
        Err(_) => BASE64_STANDARD.encode(data).into(),
    }
}

fn timestamp(micros: i64) -> Value {
    DateTime::from_micros(micros).to_string().into()
}

fn time_of_day(micros: i64) -> Value {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros {
        0 => whole.into(),
        micros => format!("{whole}.{micros:06}").into(),
    }
}

#[cfg(test)]
mod tests {
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_json() {
        let of = |field| value(field, None);
        assert_eq!(of(Field::TimestampMillis(1_709_208_000_123)), "2024-02-29T12:00:00.123Z");
        assert_eq!(of(Field::TimestampMicros(-1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(of(Field::Date(19_782)), "2024-02-29");
        assert_eq!(of(Field::Date(-1)), "1969-12-31");
        assert_eq!(of(Field::TimeMillis(3_723_004)), "01:02:03.004000");
        assert_eq!(of(Field::Float(0.1)), json!(0.1));
        assert_eq!(of(Field::Double(f64::NAN)), Value::Null);
        assert_eq!(of(Field::ULong(u64::MAX)), json!(u64::MAX));
        assert_eq!(of(Field::Bytes(ByteArray::from(vec![0xff, 0]))), "/wA=");
        assert_eq!(of(Field::Bytes(ByteArray::from("text"))), "text");
    }

    #[test]
    fn a_column_of_floats_is_told_from_other_lists() {
        use Kind::{Other, Text, Vector};

        let message = "message m {
            optional group a (LIST) { repeated group list { optional float element; } }
            optional group b (LIST) { repeated group list { optional group element (LIST) {
                repeated group list { optional double element; } } } }
            optional group c (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group d { optional float x; }
            optional binary e (UTF8);
            optional float f;
        }";
        let schema = parse_message_type(message).unwrap();
        let kinds: Vec<Kind> = schema.get_fields().iter().map(|of| column(of).kind).collect();
        assert_eq!(kinds, [Vector, Vector, Other, Other, Text, Other]);
    }

    #[test]
    fn a_file_that_is_none_or_is_cut_is_an_error() {
        let schema = parse_message_type("message m { required int32 a; }").unwrap();
        let mut whole = Vec::new();
        let writer = SerializedFileWriter::new(&mut whole, schema.into(), WriterProperties::new().into());
        writer.unwrap().close().unwrap();
        let read = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            guarded(|| SerializedFileReader::new(File::open(file.path()).unwrap())).map(drop)
        };
        assert!(read(&whole).is_ok());
        for cut in [0, 4, whole.len() / 2, whole.len() - 1] {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
