//! What one node of a query can ask, as JSON: the present keys say which kind
//! it is.

use std::collections::BTreeMap;
use std::fmt;

use cairn_index::{Path, WordsQuery};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Present, one_or_many};
use crate::json::vector_or_any;
use crate::wire::vector::{Inference, InferenceInput, TargetInput, VectorInput};

/// The value of `query`.
#[derive(Debug, Clone)]
pub(crate) enum QueryInput {
    /// The points nearest to this.
    Nearest(TargetInput),
    /// `{"text": ..}` without a model: words to look for in a payload field, or
    /// a text for the default model.
    Words(WordsInput),
    /// `{"nearest": .., "mmr": ..}`
    Diverse(TargetInput, Option<MmrInput>),
    Recommend(RecommendInput),
    Discover(DiscoverInput),
    Context(Vec<PairInput>),
    OrderBy(OrderInput),
    Rrf(RrfInput),
    Dbsf,
    Formula(Value, BTreeMap<String, Value>),
    Sample,
    Feedback(FeedbackInput),
}

/// How relevance and difference are weighed.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct MmrInput {
    #[serde(default)]
    pub(crate) diversity: Option<f32>,
    #[serde(default)]
    pub(crate) candidates_limit: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RecommendInput {
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) positive: Vec<TargetInput>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) negative: Vec<TargetInput>,
    #[serde(default)]
    pub(crate) strategy: Option<StrategyInput>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StrategyInput {
    AverageVector,
    BestScore,
    SumScores,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DiscoverInput {
    pub(crate) target: TargetInput,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) context: Vec<PairInput>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PairInput {
    pub(crate) positive: TargetInput,
    pub(crate) negative: TargetInput,
}

/// A key, or one with a direction and a value to start from.
#[derive(Debug, Clone)]
pub(crate) struct OrderInput {
    pub(crate) key: Path,
    pub(crate) descending: bool,
    pub(crate) start_from: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RrfInput {
    #[serde(default)]
    pub(crate) k: Option<usize>,
    #[serde(default)]
    pub(crate) weights: Option<Vec<f32>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FeedbackInput {
    pub(crate) target: TargetInput,
    pub(crate) feedback: Vec<FeedbackItem>,
    pub(crate) strategy: FeedbackStrategy,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FeedbackItem {
    pub(crate) example: TargetInput,
    pub(crate) score: f32,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct FeedbackStrategy {
    pub(crate) naive: NaiveWeights,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct NaiveWeights {
    pub(crate) a: f32,
    pub(crate) b: f32,
    pub(crate) c: f32,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FusionInput {
    Rrf,
    Dbsf,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SampleInput {
    Random,
}

/// A text query, with or without its scoring.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum WordsInput {
    Plain(String),
    Scored {
        query: String,
        #[serde(default)]
        scoring: ScoringInput,
    },
}

/// How words become a score.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ScoringInput {
    pub(crate) bm25: Bm25Input,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default)]
pub(crate) struct Bm25Input {
    pub(crate) k: f32,
    pub(crate) b: f32,
}

impl Default for Bm25Input {
    fn default() -> Self {
        let WordsQuery { k, b, .. } = WordsQuery::new("");
        Self { k, b }
    }
}

impl WordsInput {
    /// The text, and how a text field scores it.
    pub(crate) fn into_query(self) -> WordsQuery {
        match self {
            Self::Plain(text) => WordsQuery::new(text),
            Self::Scored { query: text, scoring: ScoringInput { bm25: Bm25Input { k, b } } } => {
                WordsQuery { text, k, b }
            }
        }
    }
}

/// All the keys that `query` can have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    indices: Option<Vec<u32>>,
    values: Option<Vec<f32>>,
    text: Option<WordsInput>,
    image: Present,
    object: Present,
    model: Option<String>,
    options: Option<Map<String, Value>>,
    nearest: Option<TargetInput>,
    mmr: Option<MmrInput>,
    recommend: Option<RecommendInput>,
    discover: Option<DiscoverInput>,
    #[serde(deserialize_with = "some_pairs")]
    context: Option<Vec<PairInput>>,
    order_by: Option<OrderInput>,
    fusion: Option<FusionInput>,
    rrf: Option<RrfInput>,
    formula: Option<Value>,
    defaults: Option<BTreeMap<String, Value>>,
    sample: Option<SampleInput>,
    relevance_feedback: Option<FeedbackInput>,
}

impl Fields {
    fn read(self) -> Result<QueryInput, &'static str> {
        if let (Some(indices), Some(values)) = (self.indices, self.values) {
            return Ok(QueryInput::Nearest(TargetInput::Vector(VectorInput::Sparse { indices, values })));
        }
        let infer = |input| {
            let options = self.options.unwrap_or_default();
            let inference = Inference { input, model: self.model.clone(), options };
            QueryInput::Nearest(TargetInput::Vector(VectorInput::Inference(inference)))
        };
        match self.text {
            Some(WordsInput::Plain(text)) if self.model.is_some() => {
                return Ok(infer(InferenceInput::Text(text)));
            }
            Some(words) => return Ok(QueryInput::Words(words)),
            None if self.image.is_some() => return Ok(infer(InferenceInput::Image)),
            None if self.object.is_some() => return Ok(infer(InferenceInput::Object)),
            None => {}
        }
        let kinds = [
            self.nearest.map(|target| QueryInput::Diverse(target, self.mmr)),
            self.recommend.map(QueryInput::Recommend),
            self.discover.map(QueryInput::Discover),
            self.context.map(QueryInput::Context),
            self.order_by.map(QueryInput::OrderBy),
            self.fusion.map(|fusion| match fusion {
                FusionInput::Rrf => QueryInput::Rrf(RrfInput::default()),
                FusionInput::Dbsf => QueryInput::Dbsf,
            }),
            self.rrf.map(QueryInput::Rrf),
            self.formula.map(|formula| QueryInput::Formula(formula, self.defaults.unwrap_or_default())),
            self.sample.map(|SampleInput::Random| QueryInput::Sample),
            self.relevance_feedback.map(QueryInput::Feedback),
        ];
        kinds.into_iter().flatten().next().ok_or(
            "a query is a vector, a point id, `text` with `model`, or one of `nearest`, `recommend`, \
             `discover`, `context`, `order_by`, `fusion`, `rrf`, `formula`, `sample`, `relevance_feedback`",
        )
    }
}

impl<'de> Deserialize<'de> for QueryInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        vector_or_any(deserializer, QueryVisitor)
    }
}

struct QueryVisitor;

impl<'de> Visitor<'de> for QueryVisitor {
    type Value = QueryInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vector, a point id or an object that says what is asked")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<QueryInput, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<QueryInput, E> {
        Ok(QueryInput::Nearest(TargetInput::Id(id.into())))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<QueryInput, E> {
        Err(E::custom(cairn_index::Error::PointId(id.to_string())))
    }

    fn visit_f64<E: de::Error>(self, id: f64) -> Result<QueryInput, E> {
        Err(E::custom(cairn_index::Error::PointId(id.to_string())))
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<QueryInput, E> {
        let target = TargetInput::deserialize(de::value::StrDeserializer::new(id))?;
        Ok(QueryInput::Nearest(target))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<QueryInput, A::Error> {
        let vector = VectorInput::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
        Ok(QueryInput::Nearest(TargetInput::Vector(vector)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<QueryInput, A::Error> {
        let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        fields.read().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for OrderInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Direction {
            Asc,
            Desc,
        }
        #[derive(Deserialize)]
        struct Whole {
            key: Path,
            #[serde(default)]
            direction: Option<Direction>,
            #[serde(default)]
            start_from: Option<Value>,
        }
        match Value::deserialize(deserializer)? {
            Value::String(key) => {
                let key = key.parse().map_err(de::Error::custom)?;
                Ok(Self { key, descending: false, start_from: None })
            }
            whole => {
                let whole: Whole = serde_json::from_value(whole).map_err(de::Error::custom)?;
                let descending = matches!(whole.direction, Some(Direction::Desc));
                Ok(Self { key: whole.key, descending, start_from: whole.start_from })
            }
        }
    }
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TargetInput>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn some_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<PairInput>>, D::Error> {
    one_or_many(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<QueryInput, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_keys_say_what_is_asked() {
        for (json, is_right) in [
            ("[1, 0.5]", (|q| matches!(q, QueryInput::Nearest(TargetInput::Vector(_)))) as fn(&_) -> bool),
            ("7", |q| matches!(q, QueryInput::Nearest(TargetInput::Id(_)))),
            (r#"{"nearest": [2], "mmr": {"diversity": 0.1}}"#, |q| {
                matches!(q, QueryInput::Diverse(_, Some(_)))
            }),
            (r#"{"text": "t", "model": "m"}"#, |q| matches!(q, QueryInput::Nearest(_))),
            (r#"{"text": "t"}"#, |q| matches!(q, QueryInput::Words(_))),
            (r#"{"fusion": "dbsf"}"#, |q| matches!(q, QueryInput::Dbsf)),
            (
                r#"{"context": {"positive": 1, "negative": 2}}"#,
                |q| matches!(q, QueryInput::Context(p) if p.len() == 1),
            ),
            (
                r#"{"order_by": {"key": "a", "direction": "desc"}}"#,
                |q| matches!(q, QueryInput::OrderBy(o) if o.descending),
            ),
            (
                r#"{"recommend": {"positive": [1, [0.5]]}}"#,
                |q| matches!(q, QueryInput::Recommend(r) if r.positive.len() == 2),
            ),
            (r#"{"sample": "random"}"#, |q| matches!(q, QueryInput::Sample)),
        ] {
            let query = read(json).unwrap();
            assert!(is_right(&query), "{json}: {query:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (json, part) in [
            ("\"no-uuid\"", "not a valid point ID"),
            ("-1", "not a valid point ID"),
            ("{}", "a query is a vector"),
            (r#"{"fusion": "best"}"#, "unknown variant `best`"),
            (r#"{"order_by": "a["}"#, "Invalid json path: 'a['"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
