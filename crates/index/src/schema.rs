//! Which payload fields have an index, and of what kind.
//!
//! A schema is written as the name of a kind or as an object with a `type` and
//! options. Options that change nothing here are kept and given back. How a
//! field is indexed is in `fields`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::text::{Analyzer, TextOptions};

/// The indexed fields of a collection, by the path as it was written.
pub type Schema = BTreeMap<String, FieldSchema>;

/// The index of one payload field.
///
/// ```
/// use cairn_index::{FieldKind, FieldSchema};
///
/// let plain: FieldSchema = serde_json::from_str(r#""keyword""#)?;
/// let tenant: FieldSchema = serde_json::from_str(r#"{"type": "keyword", "is_tenant": true}"#)?;
/// assert_eq!(plain.kind(), tenant.kind());
/// assert_eq!(plain, FieldKind::Keyword.into());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct FieldSchema {
    /// The kind of values and its options.
    pub options: FieldOptions,
    /// Options that every kind has.
    pub common: CommonOptions,
}

/// The kinds of values an index is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// Strings, compared as a whole.
    Keyword,
    /// Integers.
    Integer,
    /// Numbers.
    Float,
    /// `{"lon": .., "lat": ..}`.
    Geo,
    /// Strings, compared by their words.
    Text,
    /// true and false.
    Bool,
    /// RFC 3339 and relaxed forms.
    Datetime,
    /// UUIDs in any spelling.
    Uuid,
}

/// A kind of index with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldOptions {
    /// Strings, compared as a whole.
    Keyword(KeywordOptions),
    /// Integers.
    Integer(IntegerOptions),
    /// Numbers.
    Float(PrincipalOptions),
    /// `{"lon": .., "lat": ..}`.
    Geo,
    /// Strings, compared by their words.
    Text(TextOptions),
    /// true and false.
    Bool,
    /// RFC 3339 and relaxed forms.
    Datetime(PrincipalOptions),
    /// UUIDs in any spelling.
    Uuid(TenantOptions),
}

/// Options of a keyword index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeywordOptions {
    /// Whether points are usually asked for by one value of this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_tenant: Option<bool>,
    /// Whether beginnings of values are looked up; they always can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<bool>,
}

/// Options of an integer index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegerOptions {
    /// Whether single values are looked up. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<bool>,
    /// Whether ranges and orders are asked for. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<bool>,
    /// Whether most queries have a range of this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_principal: Option<bool>,
}

/// Options of a float or a datetime index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrincipalOptions {
    /// Whether most queries have a range of this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_principal: Option<bool>,
}

/// Options of a UUID index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantOptions {
    /// Whether points are usually asked for by one value of this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_tenant: Option<bool>,
}

/// Options that every kind accepts. None but `nested` changes an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommonOptions {
    /// Whether the index may stay on disk; it is always mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<bool>,
    /// Where the index is kept, as other implementations understand it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Value>,
    /// Whether graphs get links for this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_hnsw: Option<bool>,
    /// The array of objects the field is in, as `offers` for `offers[].price`: each
    /// object counts for itself. A condition on the field holds when it holds for one
    /// of them, `is_empty` says that one lacks the field, and ranking by words takes
    /// each for a document, the best of which is the point's. With such indexes a
    /// `nested` condition is answered from them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<String>,
}

const COMMON: [&str; 4] = ["on_disk", "memory", "enable_hnsw", "nested"];

impl FieldKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Keyword,
        Self::Integer,
        Self::Float,
        Self::Geo,
        Self::Text,
        Self::Bool,
        Self::Datetime,
        Self::Uuid,
    ];

    /// The name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Geo => "geo",
            Self::Text => "text",
            Self::Bool => "bool",
            Self::Datetime => "datetime",
            Self::Uuid => "uuid",
        }
    }

    /// The names of all kinds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::name)
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<FieldKind> for FieldSchema {
    fn from(kind: FieldKind) -> Self {
        let options = match kind {
            FieldKind::Keyword => FieldOptions::Keyword(KeywordOptions::default()),
            FieldKind::Integer => FieldOptions::Integer(IntegerOptions::default()),
            FieldKind::Float => FieldOptions::Float(PrincipalOptions::default()),
            FieldKind::Geo => FieldOptions::Geo,
            FieldKind::Text => FieldOptions::Text(TextOptions::default()),
            FieldKind::Bool => FieldOptions::Bool,
            FieldKind::Datetime => FieldOptions::Datetime(PrincipalOptions::default()),
            FieldKind::Uuid => FieldOptions::Uuid(TenantOptions::default()),
        };
        Self { options, common: CommonOptions::default() }
    }
}

impl FieldSchema {
    /// The kind of values.
    pub fn kind(&self) -> FieldKind {
        match self.options {
            FieldOptions::Keyword(_) => FieldKind::Keyword,
            FieldOptions::Integer(_) => FieldKind::Integer,
            FieldOptions::Float(_) => FieldKind::Float,
            FieldOptions::Geo => FieldKind::Geo,
            FieldOptions::Text(_) => FieldKind::Text,
            FieldOptions::Bool => FieldKind::Bool,
            FieldOptions::Datetime(_) => FieldKind::Datetime,
            FieldOptions::Uuid(_) => FieldKind::Uuid,
        }
    }

    /// Whether points can be put in the order of this field.
    pub fn can_order(&self) -> bool {
        match &self.options {
            FieldOptions::Integer(options) => options.range != Some(false),
            FieldOptions::Float(_) | FieldOptions::Datetime(_) => true,
            _ => false,
        }
    }

    /// Whether the values of this field can be counted.
    pub fn can_facet(&self) -> bool {
        match &self.options {
            FieldOptions::Integer(options) => options.lookup != Some(false),
            FieldOptions::Keyword(_) | FieldOptions::Bool | FieldOptions::Uuid(_) => true,
            _ => false,
        }
    }

    /// Whether the name of the kind says all there is.
    pub fn is_plain(&self) -> bool {
        *self == self.kind().into()
    }

    /// Fails where the options contradict each other or name an unknown
    /// language.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.options {
            FieldOptions::Integer(options)
                if options.lookup == Some(false) && options.range == Some(false) =>
            {
                Err(Error::Request("an integer index must have one of `lookup` and `range`".to_owned()))
            }
            FieldOptions::Text(options) => Analyzer::new(options).map(|_| ()),
            _ => Ok(()),
        }
    }
}

impl TryFrom<Value> for FieldSchema {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        let Value::Object(mut options) = value else {
            return serde_json::from_value::<FieldKind>(value).map(Self::from);
        };
        let Some(kind) = options.shift_remove("type") else {
            return Err(serde::de::Error::missing_field("type"));
        };
        let kind = serde_json::from_value(kind)?;
        let common = COMMON.iter().filter_map(|name| options.shift_remove_entry(*name)).collect();
        let common = read(common)?;
        let options = match kind {
            FieldKind::Keyword => FieldOptions::Keyword(read(options)?),
            FieldKind::Integer => FieldOptions::Integer(read(options)?),
            FieldKind::Float => FieldOptions::Float(read(options)?),
            FieldKind::Geo => read::<NoOptions>(options).map(|_| FieldOptions::Geo)?,
            FieldKind::Text => FieldOptions::Text(read(options)?),
            FieldKind::Bool => read::<NoOptions>(options).map(|_| FieldOptions::Bool)?,
            FieldKind::Datetime => FieldOptions::Datetime(read(options)?),
            FieldKind::Uuid => FieldOptions::Uuid(read(options)?),
        };
        Ok(Self { options, common })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

fn read<T: DeserializeOwned>(options: Map<String, Value>) -> Result<T, serde_json::Error> {
    serde_json::from_value(Value::Object(options))
}

impl From<FieldSchema> for Value {
    fn from(schema: FieldSchema) -> Self {
        let kind = Self::from(schema.kind().name());
        if schema.is_plain() {
            return kind;
        }
        let options = match schema.options {
            FieldOptions::Keyword(options) => object(options),
            FieldOptions::Integer(options) => object(options),
            FieldOptions::Float(options) | FieldOptions::Datetime(options) => object(options),
            FieldOptions::Text(options) => object(options),
            FieldOptions::Uuid(options) => object(options),
            FieldOptions::Geo | FieldOptions::Bool => Map::new(),
        };
        let mut all = Map::from_iter([("type".to_owned(), kind)]);
        all.extend(options);
        all.extend(object(schema.common));
        Self::Object(all)
    }
}

fn object(options: impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_come_back_as_they_were_given() {
        for name in FieldKind::names() {
            let schema: FieldSchema = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(serde_json::to_value(&schema).unwrap(), json!(name));
            assert_eq!(schema, serde_json::from_value(json!({ "type": name })).unwrap());
        }
        for schema in [
            json!({"type": "keyword", "is_tenant": true, "prefix": true, "on_disk": true}),
            json!({"type": "integer", "lookup": true, "range": false, "is_principal": true}),
            json!({"type": "float", "is_principal": false, "memory": "cached"}),
            json!({"type": "datetime", "is_principal": true, "enable_hnsw": false}),
            json!({"type": "uuid", "is_tenant": true, "nested": "a[]"}),
            json!({"type": "geo", "on_disk": false}),
            json!({"type": "bool", "on_disk": false}),
        ] {
            let read: FieldSchema = serde_json::from_value(schema.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), schema);
        }
        let text = json!({"type": "text", "tokenizer": "prefix", "min_token_len": 2, "on_disk": true});
        let read: FieldSchema = serde_json::from_value(text).unwrap();
        assert_eq!(read, serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap());
        assert!(matches!(&read.options, FieldOptions::Text(options) if options.min_token_len == Some(2)));
    }

    #[test]
    fn mistakes_are_named() {
        for (schema, part) in [
            (json!("keywrd"), "unknown variant `keywrd`"),
            (json!({"is_tenant": true}), "missing field `type`"),
            (json!({"type": "keyword", "tenant": true}), "unknown field `tenant`"),
            (json!({"type": "geo", "is_tenant": true}), "unknown field `is_tenant`"),
        ] {
            let error = serde_json::from_value::<FieldSchema>(schema).unwrap_err().to_string();
            assert!(error.contains(part), "{error} should contain {part}");
        }
        let nothing: FieldSchema =
            serde_json::from_value(json!({"type": "integer", "lookup": false, "range": false})).unwrap();
        assert!(nothing.check().is_err());
    }
}
