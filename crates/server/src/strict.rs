//! Strict mode: limits that a collection's owner sets on what may be asked.
//!
//! Nothing is decided here about how something is done, only whether it may be.

use cairn_index::{
    Collection, CollectionConfig, Condition, Expression, FieldKind, Filter, Prefetch, Query, QueryRequest,
    Scalar, SearchParams, Test,
};

use crate::error::{ApiError, ApiResult};
use crate::wire::settings::{Kept, StrictMode};
use crate::wire::writes::Operation;

/// The limits of one collection; without any, everything passes.
pub(crate) struct Strict {
    limits: Option<StrictMode>,
    config: std::sync::Arc<CollectionConfig>,
}

impl Strict {
    pub(crate) fn of(collection: &Collection) -> Self {
        let config = collection.config();
        let limits = if config.extra.contains_key("strict_mode") {
            Kept::of(&config).strict_mode.filter(|limits| limits.enabled == Some(true))
        } else {
            None
        };
        Self { limits, config }
    }

    /// Reads and writes a minute, if there are limits.
    pub(crate) fn rates(&self) -> (Option<u32>, Option<u32>) {
        let limits = self.limits.as_ref();
        (limits.and_then(|l| l.read_rate_limit), limits.and_then(|l| l.write_rate_limit))
    }

    /// Refuses what is too much, and bounds what a recall may take.
    pub(crate) fn check_query(&self, request: &mut QueryRequest) -> ApiResult<()> {
        let Some(limits) = &self.limits else { return Ok(()) };
        self.check_limit("limit", request.limit)?;
        self.check_params(limits, &mut request.params)?;
        self.check_filter(request.filter.as_ref(), limits.unindexed_filtering_retrieve)?;
        if let Some(Query::Formula(formula)) = &request.query {
            self.check_expression(&formula.expression)?;
        }
        request.prefetch.iter_mut().try_for_each(|prefetch| self.check_prefetch(limits, prefetch))
    }

    fn check_prefetch(&self, limits: &StrictMode, prefetch: &mut Prefetch) -> ApiResult<()> {
        self.check_limit("limit", prefetch.limit)?;
        self.check_params(limits, &mut prefetch.params)?;
        self.check_filter(prefetch.filter.as_ref(), limits.unindexed_filtering_retrieve)?;
        prefetch.prefetch.iter_mut().try_for_each(|prefetch| self.check_prefetch(limits, prefetch))
    }

    /// A condition in a formula is computed from an index like a filter.
    fn check_expression(&self, expression: &Expression) -> ApiResult<()> {
        match expression {
            Expression::Condition(filter) => self.check_reading(Some(filter)),
            Expression::Mult(of) | Expression::Sum(of) | Expression::Max(of) | Expression::Min(of) => {
                of.iter().try_for_each(|of| self.check_expression(of))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_batch(&self, searches: usize) -> ApiResult<()> {
        self.at_most("searches", searches, |limits| limits.search_max_batchsize)
    }

    pub(crate) fn check_limit(&self, field: &str, limit: usize) -> ApiResult<()> {
        self.at_most(field, limit, |limits| limits.max_query_limit)
    }

    pub(crate) fn check_timeout(&self, seconds: Option<u64>) -> ApiResult<()> {
        let seconds = seconds.and_then(|seconds| usize::try_from(seconds).ok()).unwrap_or(0);
        self.at_most("timeout", seconds, |limits| {
            limits.max_timeout.and_then(|most| usize::try_from(most).ok())
        })
    }

    /// The filter of a read other than a query.
    pub(crate) fn check_reading(&self, filter: Option<&Filter>) -> ApiResult<()> {
        self.check_filter(filter, self.limits.as_ref().and_then(|limits| limits.unindexed_filtering_retrieve))
    }

    pub(crate) fn check_write(&self, collection: &Collection, write: &Operation) -> ApiResult<()> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let unindexed = limits.unindexed_filtering_update;
        match write {
            Operation::Upsert(upsert) => {
                self.at_most("upsert batch", upsert.len(), |limits| limits.upsert_max_batchsize)?;
                if limits.max_points_count.is_some() {
                    let after = collection.info().points + upsert.len();
                    self.at_most("points", after, |limits| limits.max_points_count)?;
                }
                check_bytes(limits, collection)?;
                self.check_filter(upsert.update_filter.as_ref(), unindexed)
            }
            Operation::UpdateVectors(update) => {
                check_bytes(limits, collection)?;
                self.at_most("update batch", update.points.len(), |limits| limits.upsert_max_batchsize)?;
                self.check_filter(update.update_filter.as_ref(), unindexed)
            }
            Operation::Delete(of) | Operation::ClearPayload(of) => {
                self.check_filter(of.filter.as_ref(), unindexed)
            }
            Operation::SetPayload(set) | Operation::OverwritePayload(set) => {
                check_bytes(limits, collection)?;
                self.check_filter(set.of.filter.as_ref(), unindexed)
            }
            Operation::DeletePayload(delete) => self.check_filter(delete.of.filter.as_ref(), unindexed),
            Operation::DeleteVectors(delete) => self.check_filter(delete.of.filter.as_ref(), unindexed),
        }
    }

    pub(crate) fn check_new_index(&self) -> ApiResult<()> {
        self.at_most("payload indexes", self.config.payload_indexes.len() + 1, |limits| {
            limits.max_payload_index_count
        })
    }

    fn check_params(&self, limits: &StrictMode, params: &mut SearchParams) -> ApiResult<()> {
        params.ef_limit = limits.search_max_hnsw_ef;
        if params.is_exact() && limits.search_allow_exact == Some(false) {
            return Err(ApiError::forbidden(
                "Exact search is not allowed here. Help: Set \"exact\" to false.",
            ));
        }
        if let (Some(most), Some(asked)) = (limits.search_max_oversampling, params.oversampling)
            && f64::from(asked) > most
        {
            return Err(ApiError::forbidden(format!(
                "Limit exceeded {asked} > {most} for \"oversampling\". Help: Reduce the \"oversampling\" parameter to or below {most}."
            )));
        }
        self.check_filter(params.idf_corpus.as_ref(), limits.unindexed_filtering_retrieve)?;
        self.at_most("hnsw_ef", params.ef.unwrap_or(0), |limits| limits.search_max_hnsw_ef)
    }

    fn check_filter(&self, filter: Option<&Filter>, unindexed: Option<bool>) -> ApiResult<()> {
        let (Some(limits), Some(filter)) = (&self.limits, filter) else { return Ok(()) };
        let conditions = conditions(filter);
        self.at_most("filter conditions", conditions.len(), |limits| limits.filter_max_conditions)?;
        for condition in conditions {
            if limits.condition_max_size.is_some() {
                self.at_most("condition size", size(condition), |limits| limits.condition_max_size)?;
            }
            if unindexed == Some(false) {
                self.check_indexed(condition)?;
            }
        }
        Ok(())
    }

    fn check_indexed(&self, condition: &Condition) -> ApiResult<()> {
        let Condition::Field { key, tests } = condition else { return Ok(()) };
        let kind = self.config.payload_indexes.get(key.as_str()).map(cairn_index::FieldSchema::kind);
        for test in tests {
            let wanted = kinds(test);
            if wanted.is_empty() || kind.is_some_and(|kind| wanted.contains(&kind)) {
                continue;
            }
            let names: Vec<&str> = wanted.iter().map(|kind| kind.name()).collect();
            return Err(ApiError::bad_request(format!(
                "Index required but not found for \"{key}\" of one of the following types: [{}]. \
                 Help: Create an index for this key or use a different filter.",
                names.join(", ")
            )));
        }
        Ok(())
    }

    fn at_most(
        &self,
        what: &str,
        value: usize,
        most: impl Fn(&StrictMode) -> Option<usize>,
    ) -> ApiResult<()> {
        match self.limits.as_ref().and_then(most) {
            Some(most) if value > most => Err(ApiError::forbidden(format!(
                "Limit exceeded {value} > {most} for \"{what}\". Help: Reduce the \"{what}\" parameter to or below {most}."
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether there is room for more vectors and payloads.
fn check_bytes(limits: &StrictMode, collection: &Collection) -> ApiResult<()> {
    let most = [limits.max_collection_vector_size_bytes, limits.max_collection_payload_size_bytes];
    if most == [None; 2] {
        return Ok(());
    }
    let stored = collection.stored_bytes();
    for (what, most, stored) in [("vector", most[0], stored.vectors), ("payload", most[1], stored.payloads)] {
        if let Some(most) = most.filter(|most| stored >= *most) {
            let megabytes = most as f32 / (1024.0 * 1024.0);
            return Err(ApiError::bad_request(format!(
                "Max {what} storage size limit of {megabytes}MB reached!"
            )));
        }
    }
    Ok(())
}

/// All conditions of a filter, those of nested filters too.
fn conditions(filter: &Filter) -> Vec<&Condition> {
    let min_should = filter.min_should.iter().flat_map(|some| &some.conditions);
    let own = filter.must.iter().chain(&filter.should).chain(&filter.must_not).chain(min_should);
    own.flat_map(|condition| match condition {
        Condition::Filter(inner) | Condition::Nested { filter: inner, .. } => conditions(inner),
        leaf => vec![leaf],
    })
    .collect()
}

/// How many values a condition lists.
fn size(condition: &Condition) -> usize {
    match condition {
        Condition::HasId(ids) => ids.len(),
        Condition::Field { tests, .. } => {
            let size = |test: &Test| match test {
                Test::Any(values) | Test::Except(values) => values.len(),
                Test::TextAny(words) => words.len(),
                _ => 1,
            };
            tests.iter().map(size).max().unwrap_or(0)
        }
        _ => 1,
    }
}

/// The kinds of index that answer a test; none where no index is needed.
fn kinds(test: &Test) -> Vec<FieldKind> {
    let of = |scalar: &Scalar| match scalar {
        Scalar::Bool(_) => vec![FieldKind::Bool],
        Scalar::Integer(_) => vec![FieldKind::Integer],
        Scalar::Keyword(_) => vec![FieldKind::Keyword, FieldKind::Uuid],
    };
    match test {
        Test::Match(scalar) => of(scalar),
        Test::Any(scalars) | Test::Except(scalars) => scalars.first().map(of).unwrap_or_default(),
        Test::Text(_) | Test::TextAny(_) | Test::Phrase(_) => vec![FieldKind::Text],
        Test::Prefix(_) | Test::Substring(_) => vec![FieldKind::Keyword],
        Test::Range(_) => vec![FieldKind::Integer, FieldKind::Float],
        Test::DateRange(_) => vec![FieldKind::Datetime],
        Test::GeoBox(_) | Test::GeoRadius(_) | Test::GeoPolygon(_) => vec![FieldKind::Geo],
        Test::ValuesCount(_) | Test::IsEmpty(_) | Test::IsNull(_) => Vec::new(),
    }
}
