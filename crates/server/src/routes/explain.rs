//! How a query was answered: which search found which hit, how each part of the
//! collection was searched, what answered the filter and what it cost.

use std::collections::HashMap;

use axum::extract::State;
use cairn_embed::TextKind;
use cairn_index::{
    Condition, Filter, Found, Plan, PointId, Prefetch, Query, QueryHit, QueryRequest, Search, Step, Target,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Access;
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::infer::Inferring;
use crate::strict::Strict;
use crate::wire::points::ScoredPoint;
use crate::wire::query::{Asking, QueryPoints};

/// The points found, and the searches they come from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    points: Vec<ExplainedPoint>,
    /// The query itself or, where it has them, its prefetches, depth first.
    searches: Vec<ExplainedSearch>,
}

/// A point with the places it had in the searches that found it.
#[derive(Debug, Serialize, ToSchema)]
struct ExplainedPoint {
    #[serde(flatten)]
    point: ScoredPoint,
    found_by: Vec<FoundBy>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct FoundBy {
    /// Which of the searches, from 0.
    search: usize,
    /// Its place among what that search found, from 0.
    rank: usize,
    score: f32,
}

/// One search for the nearest points.
#[derive(Debug, Serialize, ToSchema)]
struct ExplainedSearch {
    using: String,
    limit: usize,
    found: usize,
    /// One for each part of the collection that was looked at.
    parts: Vec<ExplainedPart>,
}

/// How one part of the collection was searched.
#[derive(Debug, Serialize, ToSchema)]
struct ExplainedPart {
    /// The segment's number; none for points that are in none yet.
    segment: Option<u64>,
    points: usize,
    /// `scan`: all that match were compared; `graph`: the graph was walked;
    /// `inverted`: the postings of the query's positions were read.
    #[schema(value_type = String)]
    plan: &'static str,
    /// Points that were expected to match the filter, if there is one.
    expected_matches: Option<usize>,
    filter: Vec<ExplainedCondition>,
    /// Candidates that came from here.
    found: usize,
    /// What it took, the filter's part included.
    micros: u64,
}

/// How one condition of the filter was answered.
#[derive(Debug, Serialize, ToSchema)]
struct ExplainedCondition {
    /// The payload path, or the kind of the condition.
    condition: String,
    /// `set`, `index`, `id`, `index and payload` or `payload`.
    #[schema(value_type = String)]
    answered_by: &'static str,
    /// Points that were expected to pass it.
    expected: usize,
}

impl From<Step> for ExplainedPart {
    fn from(step: Step) -> Self {
        let plan = match step.plan {
            Plan::Scan => "scan",
            Plan::Graph => "graph",
            Plan::Inverted => "inverted",
        };
        let filter = step.filter.into_iter().map(|answered| ExplainedCondition {
            condition: answered.condition,
            answered_by: answered.answered_by,
            expected: answered.expected,
        });
        Self {
            segment: step.segment,
            points: step.points,
            plan,
            expected_matches: step.expected_matches,
            filter: filter.collect(),
            found: step.found,
            micros: step.micros,
        }
    }
}

/// Answers a query and says how: each search in it runs once more for itself.
#[utoipa::path(
    post, path = "/collections/{collection}/points/explain", tag = "points",
    params(("collection" = String, Path)),
    request_body = QueryPoints,
    responses((status = 200, body = Reply<Explanation>), (status = "4XX"))
)]
pub(crate) async fn explain(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<QueryPoints>,
) -> ApiResult<Reply<Explanation>> {
    let work = app.read(move |engine| {
        let collection = engine.database().collection(&name)?;
        let inferring = Inferring::new(engine, TextKind::Query);
        let mut asking = Asking { collection: &collection, access: &access, inferring };
        let mut request = asking.request(body)?;
        Strict::of(&collection).check_query(&mut request)?;
        let mut searches = Vec::new();
        searches_of(&request, &mut searches)?;
        let hits = collection.query(&request)?;
        let found = searches.iter().map(|search| Ok((search, collection.search(search)?)));
        let found = found.collect::<ApiResult<Vec<_>>>()?;
        Ok((explained(hits, found), asking.inferring.usage.some()))
    });
    let (explanation, usage) = work.await?;
    Ok(started.reply(explanation).with(usage))
}

fn explained(hits: Vec<QueryHit>, found: Vec<(&Search, Found)>) -> Explanation {
    let mut found_by: HashMap<PointId, Vec<FoundBy>> = HashMap::new();
    let mut searches = Vec::with_capacity(found.len());
    for (search, (asked, found)) in found.into_iter().enumerate() {
        for (rank, hit) in found.hits.iter().enumerate() {
            found_by.entry(hit.id).or_default().push(FoundBy { search, rank, score: hit.score });
        }
        searches.push(ExplainedSearch {
            using: asked.using.clone(),
            limit: asked.limit,
            found: found.hits.len(),
            parts: found.steps.into_iter().map(ExplainedPart::from).collect(),
        });
    }
    let points = hits.into_iter().map(|hit| ExplainedPoint {
        found_by: found_by.get(&hit.id).cloned().unwrap_or_default(),
        point: hit.into(),
    });
    Explanation { points: points.collect(), searches }
}

/// The searches at the ends of a query.
fn searches_of(request: &QueryRequest, searches: &mut Vec<Search>) -> ApiResult<()> {
    if !request.prefetch.is_empty() {
        return below(&request.prefetch, request.filter.as_ref(), searches);
    }
    let mut search = nearest(request.query.as_ref())?;
    search.using.clone_from(&request.using);
    search.limit = request.limit.saturating_add(request.offset);
    search.filter.clone_from(&request.filter);
    search.score_threshold = request.score_threshold;
    search.params.clone_from(&request.params);
    searches.push(search);
    Ok(())
}

/// Those of prefetches, which the filters of the queries above bind as well.
fn below(prefetches: &[Prefetch], above: Option<&Filter>, searches: &mut Vec<Search>) -> ApiResult<()> {
    for prefetch in prefetches {
        let filter = match (above, &prefetch.filter) {
            (Some(above), Some(own)) => Some(Filter {
                must: vec![
                    Condition::Filter(Box::new(above.clone())),
                    Condition::Filter(Box::new(own.clone())),
                ],
                ..Filter::default()
            }),
            (above, own) => own.as_ref().or(above).cloned(),
        };
        if !prefetch.prefetch.is_empty() {
            below(&prefetch.prefetch, filter.as_ref(), searches)?;
            continue;
        }
        let mut search = nearest(prefetch.query.as_ref())?;
        search.using.clone_from(&prefetch.using);
        search.limit = prefetch.limit;
        search.filter = filter;
        search.score_threshold = prefetch.score_threshold;
        search.params.clone_from(&prefetch.params);
        searches.push(search);
    }
    Ok(())
}

fn nearest(query: Option<&Query>) -> ApiResult<Search> {
    match query {
        Some(Query::Nearest { target: Target::Vector(vector), mmr: None }) => {
            Ok(Search::nearest(vector.clone()).explain())
        }
        _ => Err(ApiError::bad_request(
            "explain takes searches for the nearest to a vector or a text, alone or as prefetches; \
             give the vector in place of an id, and ask other queries at /points/query",
        )),
    }
}
