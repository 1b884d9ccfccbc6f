//! A filter made ready for many points: what its conditions mean.
//!
//! Lists of values are sorted, and texts are analysed as the schema says,
//! once. The verdict on a payload needs no index; `plan` asks the indexes
//! first and comes here for the rest.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use super::geo::{Area, GeoPoint};
use super::scalars::Scalars;
use super::slice::Slice;
use super::tokens::Tokens;
use super::{Condition, Filter, Test, time};
use crate::elements::Elements;
use crate::error::Result;
use crate::id::PointId;
use crate::path::Path;
use crate::point::Payload;
use crate::schema::{FieldOptions, FieldSchema, Schema};
use crate::text::Analyzer;

/// What a filter looks at. An element of a nested array has no id and no
/// vectors.
pub(crate) struct Subject<'s> {
    pub(crate) id: Option<PointId>,
    pub(crate) payload: &'s Payload,
    pub(crate) has_vector: &'s dyn Fn(&str) -> bool,
}

/// A filter read against a schema.
#[derive(Debug)]
pub(crate) struct Prepared<'f> {
    pub(crate) clauses: Clauses<Node<'f>>,
}

/// Conditions combined as those of a [`Filter`].
#[derive(Debug)]
pub(crate) struct Clauses<N> {
    pub(crate) must: Vec<N>,
    pub(crate) should: Vec<N>,
    pub(crate) must_not: Vec<N>,
    /// How many of which; never an empty list.
    pub(crate) min_should: Option<(usize, Vec<N>)>,
}

#[derive(Debug)]
pub(crate) enum Node<'f> {
    Field(Field<'f>),
    HasId(&'f HashSet<PointId>),
    HasVector(&'f str),
    Slice(Slice),
    Nested(Nested<'f>),
    Filter(Clauses<Node<'f>>),
}

/// Checks of the values at a path, of which one must pass.
#[derive(Debug)]
pub(crate) struct Field<'f> {
    pub(crate) key: Cow<'f, Path>,
    /// The objects of which one must pass, where each counts for itself.
    elements: Option<Elements>,
    /// Whether the field's index has an entry for each element of the nested array
    /// that the condition is about.
    pub(crate) by_element: bool,
    pub(crate) checks: Vec<Check<'f>>,
}

#[derive(Debug)]
pub(crate) struct Nested<'f> {
    pub(crate) key: &'f Path,
    pub(crate) clauses: Clauses<Node<'f>>,
    /// What holds for the whole payload if it holds for one element.
    pub(crate) implied: Vec<Field<'f>>,
}

#[derive(Debug)]
pub(crate) enum Check<'f> {
    OneOf(Scalars<'f>),
    /// A value that is not null is none of these.
    NoneOf(Scalars<'f>),
    Tokens(Tokens<'f>),
    Plain(&'f Test),
}

static EMPTY: Test = Test::IsEmpty(true);
static NULL: Test = Test::IsNull(true);

impl<'f> Prepared<'f> {
    pub(crate) fn new(filter: &'f Filter, schema: &Schema) -> Result<Self> {
        Ok(Self { clauses: Reader { schema, within: None }.clauses(filter)? })
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.clauses.holds(&|node: &Node<'_>| node.holds(subject))
    }
}

/// Reads conditions; `within` is the path of the nested array they are in.
#[derive(Clone, Copy)]
struct Reader<'r> {
    schema: &'r Schema,
    within: Option<&'r Path>,
}

impl Reader<'_> {
    fn clauses(self, filter: &Filter) -> Result<Clauses<Node<'_>>> {
        let some = filter.min_should.as_ref().filter(|some| !some.conditions.is_empty());
        Ok(Clauses {
            must: self.nodes(&filter.must)?,
            should: self.nodes(&filter.should)?,
            must_not: self.nodes(&filter.must_not)?,
            min_should: some
                .map(|some| Ok::<_, crate::Error>((some.min_count, self.nodes(&some.conditions)?)))
                .transpose()?,
        })
    }

    fn nodes(self, conditions: &[Condition]) -> Result<Vec<Node<'_>>> {
        conditions.iter().map(|condition| self.node(condition)).collect()
    }

    fn node(self, condition: &Condition) -> Result<Node<'_>> {
        Ok(match condition {
            Condition::Field { key, tests } => Node::Field(self.field(key, tests)?),
            Condition::IsEmpty(key) => Node::Field(self.field(key, std::slice::from_ref(&EMPTY))?),
            Condition::IsNull(key) => Node::Field(self.field(key, std::slice::from_ref(&NULL))?),
            Condition::HasId(ids) => Node::HasId(ids),
            Condition::HasVector(name) => Node::HasVector(name),
            Condition::Slice(slice) => Node::Slice(*slice),
            Condition::Nested { key, filter } => Node::Nested(self.nested(key, filter)?),
            Condition::Filter(filter) => Node::Filter(self.clauses(filter)?),
        })
    }

    fn field<'f>(self, key: &'f Path, tests: &'f [Test]) -> Result<Field<'f>> {
        let full = self.full(key)?;
        let schema = self.schema.get(full.as_str());
        let checks = tests.iter().map(|test| Check::new(test, schema)).collect::<Result<_>>()?;
        let mut elements = schema.and_then(|schema| Elements::of(schema, &full));
        let mut by_element = false;
        if let Some(within) = self.within {
            by_element = elements.as_ref().is_some_and(|elements| elements.are_those_of(within));
            elements = elements.and_then(|elements| elements.within(within));
        }
        Ok(Field { key: Cow::Borrowed(key), elements, by_element, checks })
    }

    fn nested<'f>(self, key: &'f Path, filter: &'f Filter) -> Result<Nested<'f>> {
        let full = self.full(key)?;
        let inside = Reader { schema: self.schema, within: Some(&full) };
        let mut implied = Vec::new();
        for condition in &filter.must {
            if let Condition::Field { key: inner, tests } = condition
                && !tests.iter().any(Test::is_about_all_values)
            {
                let field = inside.field(inner, tests)?;
                implied.push(Field { key: Cow::Owned(key.join(inner)?), ..field });
            }
        }
        Ok(Nested { key, clauses: inside.clauses(filter)?, implied })
    }

    /// The path from the root of the payload.
    fn full(self, key: &Path) -> Result<Path> {
        self.within.map_or_else(|| Ok(key.clone()), |within| within.join(key))
    }
}

impl<N> Clauses<N> {
    pub(crate) fn holds(&self, holds: &impl Fn(&N) -> bool) -> bool {
        self.must.iter().all(holds)
            && !self.must_not.iter().any(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && self.min_should.as_ref().is_none_or(|(enough, nodes)| {
                nodes.iter().filter(|node| holds(node)).take(*enough).count() == *enough
            })
    }

    /// The same combination of other things.
    pub(crate) fn map<'n, M>(&'n self, make: &mut impl FnMut(&'n N) -> M) -> Clauses<M> {
        let mut all = |nodes: &'n [N]| nodes.iter().map(&mut *make).collect();
        Clauses {
            must: all(&self.must),
            should: all(&self.should),
            must_not: all(&self.must_not),
            min_should: self.min_should.as_ref().map(|(enough, nodes)| (*enough, all(nodes))),
        }
    }
}

impl Node<'_> {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Field(field) => field.holds(subject.payload),
            Self::HasId(ids) => subject.id.is_some_and(|id| ids.contains(&id)),
            Self::HasVector(name) => (subject.has_vector)(name),
            Self::Slice(slice) => subject.id.is_some_and(|id| slice.contains(id)),
            Self::Nested(nested) => nested.holds(subject.payload),
            Self::Filter(clauses) => clauses.holds(&|node: &Node<'_>| node.holds(subject)),
        }
    }
}

impl Nested<'_> {
    pub(crate) fn holds(&self, payload: &Payload) -> bool {
        self.key.values(payload).into_iter().filter_map(Value::as_object).any(|payload| {
            let element = Subject { id: None, payload, has_vector: &|_| false };
            self.clauses.holds(&|node: &Node<'_>| node.holds(&element))
        })
    }
}

impl Field<'_> {
    pub(crate) fn holds(&self, payload: &Payload) -> bool {
        let holds = |values: &[&Value]| self.checks.iter().any(|check| check.holds(values));
        match &self.elements {
            Some(elements) => elements.each(payload).any(|values| holds(&values)),
            None => holds(&self.key.values(payload)),
        }
    }
}

impl<'f> Check<'f> {
    fn new(test: &'f Test, schema: Option<&FieldSchema>) -> Result<Self> {
        let options = schema.map(|schema| &schema.options);
        let by_uuid = matches!(options, Some(FieldOptions::Uuid(_)));
        Ok(match test {
            Test::Match(scalar) => Self::OneOf(Scalars::new(std::slice::from_ref(scalar), by_uuid)),
            Test::Any(scalars) => Self::OneOf(Scalars::new(scalars, by_uuid)),
            Test::Except(scalars) => Self::NoneOf(Scalars::new(scalars, by_uuid)),
            _ => match options {
                Some(FieldOptions::Text(options)) => {
                    let in_order = options.phrase_matching == Some(true);
                    Tokens::new(test, in_order, || Analyzer::new(options))?
                        .map_or(Self::Plain(test), Self::Tokens)
                }
                _ => Self::Plain(test),
            },
        })
    }

    fn holds(&self, values: &[&Value]) -> bool {
        match self {
            Self::Plain(Test::ValuesCount(range)) => {
                values.iter().any(|value| range.contains(&(count(value) as f64)))
            }
            Self::Plain(Test::IsEmpty(wanted)) => values.iter().all(|value| is_empty(value)) == *wanted,
            Self::Plain(Test::IsNull(wanted)) => values.iter().any(|value| value.is_null()) == *wanted,
            Self::Tokens(tokens) => tokens.holds(values),
            _ => flat(values).any(|value| self.passes(value)),
        }
    }

    /// Whether one value passes; it is not opened if it is an array.
    pub(crate) fn passes(&self, value: &Value) -> bool {
        match self {
            Self::OneOf(scalars) => scalars.contain(value),
            Self::NoneOf(scalars) => !value.is_null() && !scalars.contain(value),
            Self::Tokens(_) => false,
            Self::Plain(test) => match value {
                Value::String(text) => test.passes_string(text),
                Value::Number(number) => match (test, number.as_f64()) {
                    (Test::Range(range), Some(number)) => range.contains(&number),
                    _ => false,
                },
                Value::Object(_) => test
                    .area()
                    .is_some_and(|area| GeoPoint::of(value).is_some_and(|place| area.contains(place))),
                _ => false,
            },
        }
    }
}

/// The values with arrays opened one level.
pub(crate) fn flat<'v>(values: &[&'v Value]) -> impl Iterator<Item = &'v Value> {
    values.iter().flat_map(|value| match value {
        Value::Array(items) => items.iter(),
        one => std::slice::from_ref(*one).iter(),
    })
}

/// How many values a value counts as.
pub(crate) fn count(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Array(items) => items.len(),
        _ => 1,
    }
}

pub(crate) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

impl Test {
    /// Whether the verdict is not that of a single value.
    fn is_about_all_values(&self) -> bool {
        matches!(self, Self::IsEmpty(_) | Self::IsNull(_))
    }

    /// Whether a string passes, without a text index.
    pub(crate) fn passes_string(&self, stored: &str) -> bool {
        match self {
            Self::Text(text) | Self::Phrase(text) | Self::Substring(text) => stored.contains(text.as_str()),
            Self::TextAny(words) => words.iter().any(|word| stored.contains(word.as_str())),
            Self::Prefix(text) => stored.starts_with(text.as_str()),
            Self::DateRange(range) => {
                time::micros(stored).is_some_and(|micros| range.micros().contains(&micros))
            }
            _ => false,
        }
    }

    /// The area asked for, if it is one.
    pub(crate) fn area(&self) -> Option<Area<'_>> {
        match self {
            Self::GeoBox(area) => Some(Area::Box(area)),
            Self::GeoRadius(area) => Some(Area::Radius(area)),
            Self::GeoPolygon(area) => Some(Area::Polygon(area)),
            _ => None,
        }
    }

    /// Whether only strings can pass.
    pub(crate) fn is_about_strings(&self) -> bool {
        use Test::{DateRange, Phrase, Prefix, Substring, Text, TextAny};
        matches!(self, Text(_) | TextAny(_) | Phrase(_) | Prefix(_) | Substring(_) | DateRange(_))
    }
}
