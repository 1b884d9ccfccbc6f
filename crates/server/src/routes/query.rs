//! The universal query, and the older endpoints that are shapes of it.

use axum::extract::State;
use cairn_embed::TextKind;
use cairn_rag::Engine;

use crate::app::App;
use crate::auth::Access;
use crate::body::{At, Input, Reply, Started};
use crate::error::ApiResult;
use crate::infer::{Inferring, Usage};
use crate::strict::Strict;
use crate::wire::points::{GroupOutput, GroupsResult, QueryResult, ScoredPoint};
use crate::wire::query::legacy::{DiscoverPoints, Grouped, RecommendPoints, SearchPoints, Several};
use crate::wire::query::{Asking, Grouping, QueryBatch, QueryGroups, QueryPoints};

type Hits = Vec<ScoredPoint>;

/// The hits of several queries, all of one collection.
fn run(
    engine: &Engine,
    access: &Access,
    name: &str,
    queries: Vec<QueryPoints>,
) -> ApiResult<(Vec<Hits>, Option<Usage>)> {
    let collection = engine.database().collection(name)?;
    let strict = Strict::of(&collection);
    let inferring = Inferring::new(engine, TextKind::Query);
    let mut asking = Asking { collection: &collection, access, inferring };
    let mut requests = Vec::with_capacity(queries.len());
    for query in queries {
        let mut request = asking.request(query)?;
        strict.check_query(&mut request)?;
        requests.push(request);
    }
    let mut results = Vec::with_capacity(requests.len());
    for request in &requests {
        results.push(collection.query(request)?.into_iter().map(ScoredPoint::from).collect());
    }
    Ok((results, asking.inferring.usage.some()))
}

async fn one(app: App, access: Access, name: String, query: QueryPoints) -> ApiResult<(Hits, Option<Usage>)> {
    let kind = query.is_plain().then(|| format!("{name}/{}", query.using.as_deref().unwrap_or_default()));
    let work = move |engine: &Engine| run(engine, &access, &name, vec![query]);
    let (mut results, usage) = match kind {
        Some(kind) => app.search(&kind, work).await?,
        None => app.read(work).await?,
    };
    Ok((results.pop().unwrap_or_default(), usage))
}

async fn several(
    app: App,
    access: Access,
    name: String,
    queries: Vec<QueryPoints>,
) -> ApiResult<(Vec<Hits>, Option<Usage>)> {
    app.read(move |engine| {
        Strict::of(&engine.database().collection(&name)?).check_batch(queries.len())?;
        run(engine, &access, &name, queries)
    })
    .await
}

async fn grouped(
    app: App,
    started: Started,
    access: Access,
    name: String,
    (query, grouping): (QueryPoints, Grouping),
) -> ApiResult<Reply<GroupsResult>> {
    let (groups, usage) = app
        .read(move |engine| {
            let collection = engine.database().collection(&name)?;
            let inferring = Inferring::new(engine, TextKind::Query);
            let mut asking = Asking { collection: &collection, access: &access, inferring };
            let mut request = asking.groups(query, grouping)?;
            Strict::of(&collection).check_query(&mut request.request)?;
            let groups = collection.query_groups(&request)?;
            Ok((groups, asking.inferring.usage.some()))
        })
        .await?;
    let groups = groups.into_iter().map(GroupOutput::from).collect();
    Ok(started.reply(GroupsResult { groups }).with(usage))
}

/// Finds points: the nearest, recommended, discovered, fused, ordered, sampled.
#[utoipa::path(
    post, path = "/collections/{collection}/points/query", tag = "points",
    params(("collection" = String, Path)),
    request_body = QueryPoints,
    responses((status = 200, body = Reply<QueryResult>), (status = "4XX"))
)]
pub(crate) async fn query(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<QueryPoints>,
) -> ApiResult<Reply<QueryResult>> {
    let (points, usage) = one(app, access, name, body).await?;
    Ok(started.reply(QueryResult { points }).with(usage))
}

/// Answers several queries.
#[utoipa::path(
    post, path = "/collections/{collection}/points/query/batch", tag = "points",
    params(("collection" = String, Path)),
    request_body = QueryBatch,
    responses((status = 200, body = Reply<Vec<QueryResult>>), (status = "4XX"))
)]
pub(crate) async fn query_batch(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<QueryBatch>,
) -> ApiResult<Reply<Vec<QueryResult>>> {
    let (results, usage) = several(app, access, name, body.searches).await?;
    let results = results.into_iter().map(|points| QueryResult { points }).collect();
    Ok(started.reply(results).with(usage))
}

/// The best hits for each value of a payload field.
#[utoipa::path(
    post, path = "/collections/{collection}/points/query/groups", tag = "points",
    params(("collection" = String, Path)),
    request_body = QueryGroups,
    responses((status = 200, body = Reply<GroupsResult>), (status = "4XX"))
)]
pub(crate) async fn query_groups(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<QueryGroups>,
) -> ApiResult<Reply<GroupsResult>> {
    grouped(app, started, access, name, (body.request, body.grouping)).await
}

/// Finds the nearest points; `query` does more.
#[utoipa::path(
    post, path = "/collections/{collection}/points/search", tag = "points", operation_id = "search_points",
    params(("collection" = String, Path)),
    request_body = SearchPoints,
    responses((status = 200, body = Reply<Vec<ScoredPoint>>), (status = "4XX"))
)]
pub(crate) async fn search(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<SearchPoints>,
) -> ApiResult<Reply<Hits>> {
    let (points, usage) = one(app, access, name, body.into()).await?;
    Ok(started.reply(points).with(usage))
}

/// Several of them.
#[utoipa::path(
    post, path = "/collections/{collection}/points/search/batch", tag = "points",
    params(("collection" = String, Path)),
    request_body = Several<SearchPoints>,
    responses((status = 200, body = Reply<Vec<Vec<ScoredPoint>>>), (status = "4XX"))
)]
pub(crate) async fn search_batch(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<Several<SearchPoints>>,
) -> ApiResult<Reply<Vec<Hits>>> {
    let queries = body.searches.into_iter().map(QueryPoints::from).collect();
    let (results, usage) = several(app, access, name, queries).await?;
    Ok(started.reply(results).with(usage))
}

/// The nearest points for each value of a payload field.
#[utoipa::path(
    post, path = "/collections/{collection}/points/search/groups", tag = "points",
    params(("collection" = String, Path)),
    request_body = Grouped<SearchPoints>,
    responses((status = 200, body = Reply<GroupsResult>), (status = "4XX"))
)]
pub(crate) async fn search_groups(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<Grouped<SearchPoints>>,
) -> ApiResult<Reply<GroupsResult>> {
    grouped(app, started, access, name, (body.request.into(), body.grouping)).await
}

/// Points like some and unlike others; `query` does more.
#[utoipa::path(
    post, path = "/collections/{collection}/points/recommend", tag = "points",
    params(("collection" = String, Path)),
    request_body = RecommendPoints,
    responses((status = 200, body = Reply<Vec<ScoredPoint>>), (status = "4XX"))
)]
pub(crate) async fn recommend(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<RecommendPoints>,
) -> ApiResult<Reply<Hits>> {
    let (points, usage) = one(app, access, name, body.into()).await?;
    Ok(started.reply(points).with(usage))
}

/// Several recommendations.
#[utoipa::path(
    post, path = "/collections/{collection}/points/recommend/batch", tag = "points",
    params(("collection" = String, Path)),
    request_body = Several<RecommendPoints>,
    responses((status = 200, body = Reply<Vec<Vec<ScoredPoint>>>), (status = "4XX"))
)]
pub(crate) async fn recommend_batch(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<Several<RecommendPoints>>,
) -> ApiResult<Reply<Vec<Hits>>> {
    let queries = body.searches.into_iter().map(QueryPoints::from).collect();
    let (results, usage) = several(app, access, name, queries).await?;
    Ok(started.reply(results).with(usage))
}

/// Recommendations for each value of a payload field.
#[utoipa::path(
    post, path = "/collections/{collection}/points/recommend/groups", tag = "points",
    params(("collection" = String, Path)),
    request_body = Grouped<RecommendPoints>,
    responses((status = 200, body = Reply<GroupsResult>), (status = "4XX"))
)]
pub(crate) async fn recommend_groups(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<Grouped<RecommendPoints>>,
) -> ApiResult<Reply<GroupsResult>> {
    grouped(app, started, access, name, (body.request.into(), body.grouping)).await
}

/// Points near a target in a region marked off by pairs; `query` does more.
#[utoipa::path(
    post, path = "/collections/{collection}/points/discover", tag = "points",
    params(("collection" = String, Path)),
    request_body = DiscoverPoints,
    responses((status = 200, body = Reply<Vec<ScoredPoint>>), (status = "4XX"))
)]
pub(crate) async fn discover(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<DiscoverPoints>,
) -> ApiResult<Reply<Hits>> {
    let (points, usage) = one(app, access, name, body.into()).await?;
    Ok(started.reply(points).with(usage))
}

/// Several of them.
#[utoipa::path(
    post, path = "/collections/{collection}/points/discover/batch", tag = "points",
    params(("collection" = String, Path)),
    request_body = Several<DiscoverPoints>,
    responses((status = 200, body = Reply<Vec<Vec<ScoredPoint>>>), (status = "4XX"))
)]
pub(crate) async fn discover_batch(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
    Input(body): Input<Several<DiscoverPoints>>,
) -> ApiResult<Reply<Vec<Hits>>> {
    let queries = body.searches.into_iter().map(QueryPoints::from).collect();
    let (results, usage) = several(app, access, name, queries).await?;
    Ok(started.reply(results).with(usage))
}
