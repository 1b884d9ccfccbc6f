//! How a query becomes the engine's own: texts are embedded, names read,
//! limits checked.

use cairn_index::{
    Collection, ContextPair, DateTime, Direction, FeedbackExample, FeedbackWeights, Formula, Fusion,
    GroupRequest, LookupFrom, Measured, Mmr, OrderBy, OrderValue, Path, Prefetch, Query, QueryRequest,
    Strategy, Target, WithLookup,
};
use serde_json::Value;

use super::formula::expression;
use super::kinds::{
    FeedbackInput, MmrInput, OrderInput, PairInput, QueryInput, RecommendInput, StrategyInput,
};
use super::{
    Grouping, IdfInput, LookupInput, PrefetchPoints, QuantizationParams, QueryPoints, SearchParams,
    WithLookupInput,
};
use crate::auth::{Access, Level};
use crate::error::{ApiError, ApiResult, at_least_one};
use crate::infer::{Inferring, Wanted};
use crate::wire::points::parts;
use crate::wire::vector::{Inference, InferenceInput, TargetInput};

/// Turns bodies into requests to one collection.
pub(crate) struct Asking<'a> {
    pub(crate) collection: &'a Collection,
    pub(crate) access: &'a Access,
    pub(crate) inferring: Inferring<'a>,
}

impl Asking<'_> {
    pub(crate) fn request(&mut self, body: QueryPoints) -> ApiResult<QueryRequest> {
        let limit = at_least_one("internal.limit", body.limit.unwrap_or(10))?;
        if body.query.is_none() {
            needs_a_query(!body.prefetch.is_empty(), body.score_threshold.is_some())?;
        }
        let using = body.using.unwrap_or_default();
        Ok(QueryRequest {
            query: body.query.map(|query| self.query(query, &using)).transpose()?,
            prefetch: self.prefetches(body.prefetch)?,
            filter: body.filter,
            params: params(body.params)?,
            score_threshold: body.score_threshold,
            limit,
            offset: body.offset.unwrap_or(0),
            parts: parts(body.with_payload, body.with_vector, false),
            lookup_from: body.lookup_from.map(|from| self.lookup(from)).transpose()?,
            using,
        })
    }

    pub(crate) fn groups(&mut self, body: QueryPoints, grouping: Grouping) -> ApiResult<GroupRequest> {
        let group_by: Path = grouping.group_by.parse()?;
        let group_size = at_least_one("internal.group_size", grouping.group_size.unwrap_or(3))?;
        let with_lookup = grouping.with_lookup.map(|lookup| self.with_lookup(lookup)).transpose()?;
        Ok(GroupRequest { request: self.request(body)?, group_by, group_size, with_lookup })
    }

    fn prefetches(&mut self, bodies: Vec<PrefetchPoints>) -> ApiResult<Vec<Prefetch>> {
        bodies.into_iter().map(|body| self.prefetch(body)).collect()
    }

    fn prefetch(&mut self, body: PrefetchPoints) -> ApiResult<Prefetch> {
        if body.query.is_none() {
            needs_a_query(!body.prefetch.is_empty(), body.score_threshold.is_some())?;
        }
        let using = body.using.unwrap_or_default();
        Ok(Prefetch {
            query: body.query.map(|query| self.query(query, &using)).transpose()?,
            prefetch: self.prefetches(body.prefetch)?,
            filter: body.filter,
            params: params(body.params)?,
            score_threshold: body.score_threshold,
            limit: at_least_one("internal.prefetch.limit", body.limit.unwrap_or(10))?,
            lookup_from: body.lookup_from.map(|from| self.lookup(from)).transpose()?,
            using,
        })
    }

    fn query(&mut self, query: QueryInput, using: &str) -> ApiResult<Query> {
        Ok(match query {
            QueryInput::Nearest(target) => Query::Nearest { target: self.target(target, using)?, mmr: None },
            QueryInput::Words(words) if !self.is_vector(using) => Query::Words(words.into_query()),
            QueryInput::Words(words) => {
                let text = words.into_query().text;
                let inference = Inference {
                    input: InferenceInput::Text(text),
                    model: None,
                    options: serde_json::Map::new(),
                };
                Query::Nearest { target: self.inferred(inference, using)?, mmr: None }
            }
            QueryInput::Diverse(target, mmr) => {
                let mmr = mmr.map(|MmrInput { diversity, candidates_limit }| Mmr {
                    diversity: diversity.unwrap_or(Mmr::default().diversity),
                    candidates_limit,
                });
                Query::Nearest { target: self.target(target, using)?, mmr }
            }
            QueryInput::Recommend(RecommendInput { positive, negative, strategy }) => Query::Recommend {
                positive: self.targets(positive, using)?,
                negative: self.targets(negative, using)?,
                strategy: match strategy {
                    None | Some(StrategyInput::AverageVector) => Strategy::AverageVector,
                    Some(StrategyInput::BestScore) => Strategy::BestScore,
                    Some(StrategyInput::SumScores) => Strategy::SumScores,
                },
            },
            QueryInput::Discover(discover) => Query::Discover {
                target: self.target(discover.target, using)?,
                context: self.pairs(discover.context, using)?,
            },
            QueryInput::Context(pairs) => Query::Context(self.pairs(pairs, using)?),
            QueryInput::OrderBy(order) => Query::OrderBy(order_by(order)?),
            QueryInput::Rrf(rrf) => {
                Query::Fusion(Fusion::Rrf { k: rrf.k.unwrap_or(Fusion::DEFAULT_K), weights: rrf.weights })
            }
            QueryInput::Dbsf => Query::Fusion(Fusion::Dbsf),
            QueryInput::Formula(formula, defaults) => {
                Query::Formula(Formula { expression: expression(formula)?, defaults })
            }
            QueryInput::Sample => Query::Sample,
            QueryInput::Feedback(feedback) => self.feedback(feedback, using)?,
        })
    }

    /// Whether a name is that of a vector; a text over another is for a payload
    /// field.
    fn is_vector(&self, name: &str) -> bool {
        let config = self.collection.config();
        name.is_empty() || config.vectors.contains_key(name) || config.sparse_vectors.contains_key(name)
    }

    fn feedback(&mut self, feedback: FeedbackInput, using: &str) -> ApiResult<Query> {
        let weights = feedback.strategy.naive;
        let mut examples = Vec::with_capacity(feedback.feedback.len());
        for item in feedback.feedback {
            examples.push(FeedbackExample { example: self.target(item.example, using)?, score: item.score });
        }
        Ok(Query::Feedback {
            target: self.target(feedback.target, using)?,
            feedback: examples,
            weights: FeedbackWeights { a: weights.a, b: weights.b, c: weights.c },
        })
    }

    fn targets(&mut self, targets: Vec<TargetInput>, using: &str) -> ApiResult<Vec<Target>> {
        targets.into_iter().map(|target| self.target(target, using)).collect()
    }

    fn pairs(&mut self, pairs: Vec<PairInput>, using: &str) -> ApiResult<Vec<ContextPair>> {
        let mut read = Vec::with_capacity(pairs.len());
        for PairInput { positive, negative } in pairs {
            read.push(ContextPair {
                positive: self.target(positive, using)?,
                negative: self.target(negative, using)?,
            });
        }
        Ok(read)
    }

    fn target(&mut self, target: TargetInput, using: &str) -> ApiResult<Target> {
        match target {
            TargetInput::Id(id) => Ok(Target::Id(id)),
            TargetInput::Vector(vector) => match vector.into_vector() {
                Ok(Ok(vector)) => Ok(Target::Vector(vector)),
                Ok(Err(inference)) => self.inferred(inference, using),
                Err(text) => Err(ApiError::validation(text)),
            },
        }
    }

    fn inferred(&mut self, inference: Inference, using: &str) -> ApiResult<Target> {
        let wanted = Wanted::new(&self.collection.config(), using, inference)?;
        Ok(Target::Vector(self.inferring.vector(wanted)?))
    }

    fn lookup(&self, from: LookupInput) -> ApiResult<LookupFrom> {
        self.access.check(&from.collection, Level::Read)?;
        Ok(LookupFrom { collection: from.collection, vector: from.vector })
    }

    fn with_lookup(&self, lookup: WithLookupInput) -> ApiResult<WithLookup> {
        let lookup = match lookup {
            WithLookupInput::Collection(collection) => WithLookup::new(collection),
            WithLookupInput::Parts(lookup) => WithLookup {
                collection: lookup.collection,
                parts: parts(lookup.with_payload, lookup.with_vectors, true),
            },
        };
        self.access.check(&lookup.collection, Level::Read)?;
        Ok(lookup)
    }
}

/// The engine's own form of an order.
pub(crate) fn order_by(order: OrderInput) -> ApiResult<OrderBy> {
    let direction = if order.descending { Direction::Descending } else { Direction::Ascending };
    let start_from = match order.start_from {
        None | Some(Value::Null) => None,
        Some(start) => Some(order_value(&start)?),
    };
    Ok(OrderBy { key: order.key, direction, start_from })
}

fn order_value(start: &Value) -> ApiResult<OrderValue> {
    let read = match start {
        Value::Number(number) => {
            number.as_i64().map(OrderValue::Int).or_else(|| number.as_f64().map(OrderValue::Float))
        }
        Value::String(text) => text.parse::<DateTime>().ok().map(|time| OrderValue::Int(time.micros())),
        _ => None,
    };
    read.ok_or_else(|| ApiError::format(format!("start_from is a number or a datetime, not {start}")))
}

fn params(params: Option<SearchParams>) -> ApiResult<cairn_index::SearchParams> {
    let params = params.unwrap_or_default();
    let idf_corpus = match params.idf {
        None | Some(IdfInput::Global(_)) => None,
        Some(IdfInput::Of { corpus }) => Some(corpus),
    };
    let QuantizationParams { ignore, rescore, oversampling } = params.quantization.unwrap_or_default();
    let measured = match (ignore, rescore) {
        (Some(true), _) => Measured::Vectors,
        (_, Some(false)) => Measured::Codes,
        _ => Measured::Both,
    };
    if let Some(wrong) = oversampling.filter(|more| !(*more >= 1.0 && more.is_finite())) {
        return Err(ApiError::validation(format!(
            "params.quantization.oversampling: value {wrong} invalid, must be 1.0 or larger"
        )));
    }
    Ok(cairn_index::SearchParams {
        oversampling,
        measured,
        ef_limit: None,
        ef: params.hnsw_ef.filter(|ef| *ef > 0),
        recall: params.recall,
        exact: params.exact.unwrap_or(false),
        indexed_only: params.indexed_only.unwrap_or(false),
        idf_corpus,
    })
}

fn needs_a_query(prefetches: bool, threshold: bool) -> ApiResult<()> {
    if prefetches {
        return Err(ApiError::bad_request(
            "A query is needed to merge the prefetches. Can't have prefetches without defining a query.",
        ));
    }
    if threshold {
        return Err(ApiError::bad_request(
            "A query is needed to use the score_threshold. Can't have score_threshold without defining a query.",
        ));
    }
    Ok(())
}
