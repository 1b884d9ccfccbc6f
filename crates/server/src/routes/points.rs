//! Writing, reading and searching points.

use axum::extract::{Path, State};
use cairn_embed::TextKind;
use cairn_index::{
    Collection, Condition, Filter, Parts, Point, PointId, Scroll, Search, Selector, Vector, Vectors,
};
use cairn_rag::Engine;

use crate::app::App;
use crate::body::{Input, Params, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::wire::points::{
    CountPoints, CountResult, DeletePoints, GetPoints, PointInput, RecordOutput, ScrollPoints, ScrollResult,
    UpdateResult, UpsertPoints, WriteParams, parts,
};
use crate::wire::query::{QueryPoints, QueryResult, ScoredPoint, Target};
use crate::wire::vector::{TextInput, VectorInput};

/// Writes points, each replacing any point of the same id.
#[utoipa::path(
    put, path = "/collections/{collection}/points", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = UpsertPoints,
    responses((status = 200, body = Reply<UpdateResult>), (status = 400), (status = 404), (status = 507))
)]
pub(crate) async fn upsert(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    Input(body): Input<UpsertPoints>,
) -> ApiResult<Reply<UpdateResult>> {
    let points = body.into_points()?;
    let applied = app
        .work(move |engine| {
            let collection = engine.database().collection(&name)?;
            let points = embed_points(engine, points)?;
            collection.upsert(points).map_err(ApiError::from)
        })
        .await?;
    Ok(started.reply(UpdateResult::new(applied, &params)))
}

/// Reads points by id, in the order asked; missing ones are left out.
#[utoipa::path(
    post, path = "/collections/{collection}/points", tag = "points",
    params(("collection" = String, Path)),
    request_body = GetPoints,
    responses((status = 200, body = Reply<Vec<RecordOutput>>), (status = 404))
)]
pub(crate) async fn retrieve(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Input(body): Input<GetPoints>,
) -> ApiResult<Reply<Vec<RecordOutput>>> {
    let parts = parts(body.with_payload, body.with_vector, true);
    let records = app.work(move |engine| engine.database().collection(&name)?.get(&body.ids, &parts)).await?;
    Ok(started.reply(records.into_iter().map(RecordOutput::from).collect()))
}

/// Reads one point with its payload and vectors.
#[utoipa::path(
    get, path = "/collections/{collection}/points/{id}", tag = "points",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<RecordOutput>), (status = 400), (status = 404))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    Path((name, id)): Path<(String, String)>,
) -> ApiResult<Reply<RecordOutput>> {
    let id: PointId =
        id.parse().map_err(|_| ApiError::bad_request(format!("Can not recognize \"{id}\" as point id")))?;
    let records =
        app.work(move |engine| engine.database().collection(&name)?.get(&[id], &Parts::all())).await?;
    let record = records.into_iter().next();
    let record = record.ok_or_else(|| ApiError::not_found(format!("Point with id {id} does not exists!")))?;
    Ok(started.reply(record.into()))
}

/// Removes points by id or by filter.
#[utoipa::path(
    post, path = "/collections/{collection}/points/delete", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = DeletePoints,
    responses((status = 200, body = Reply<UpdateResult>), (status = 404))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    Input(body): Input<DeletePoints>,
) -> ApiResult<Reply<UpdateResult>> {
    let applied = app
        .work(move |engine| {
            let collection = engine.database().collection(&name)?;
            match (body.points, body.filter) {
                (Some(ids), None) => collection.delete(ids).map_err(ApiError::from),
                (None, Some(filter)) => collection.delete(filter).map_err(ApiError::from),
                _ => Err(ApiError::format("expected either `points` or `filter`")),
            }
        })
        .await?;
    Ok(started.reply(UpdateResult::new(applied, &params)))
}

/// Reads points in order of id, page by page.
#[utoipa::path(
    post, path = "/collections/{collection}/points/scroll", tag = "points",
    params(("collection" = String, Path)),
    request_body = ScrollPoints,
    responses((status = 200, body = Reply<ScrollResult>), (status = 404))
)]
pub(crate) async fn scroll(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Input(body): Input<ScrollPoints>,
) -> ApiResult<Reply<ScrollResult>> {
    if body.order_by.is_some_and(|order| !order.is_null()) {
        return Err(ApiError::not_yet("`order_by`"));
    }
    let scroll = Scroll {
        from: body.offset,
        limit: at_least_one("limit", body.limit.unwrap_or(10))?,
        filter: body.filter,
        parts: parts(body.with_payload, body.with_vector, true),
    };
    let page = app.work(move |engine| engine.database().collection(&name)?.scroll(&scroll)).await?;
    Ok(started.reply(ScrollResult {
        points: page.records.into_iter().map(RecordOutput::from).collect(),
        next_page_offset: page.next,
    }))
}

/// Counts points, exactly.
#[utoipa::path(
    post, path = "/collections/{collection}/points/count", tag = "points",
    params(("collection" = String, Path)),
    request_body = CountPoints,
    responses((status = 200, body = Reply<CountResult>), (status = 404))
)]
pub(crate) async fn count(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Input(body): Input<CountPoints>,
) -> ApiResult<Reply<CountResult>> {
    let count =
        app.work(move |engine| engine.database().collection(&name)?.count(body.filter.as_ref())).await?;
    Ok(started.reply(CountResult { count }))
}

/// Finds the nearest points.
#[utoipa::path(
    post, path = "/collections/{collection}/points/query", tag = "points",
    params(("collection" = String, Path)),
    request_body = QueryPoints,
    responses((status = 200, body = Reply<QueryResult>), (status = 400), (status = 404), (status = 422))
)]
pub(crate) async fn query(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Input(body): Input<QueryPoints>,
) -> ApiResult<Reply<QueryResult>> {
    let points =
        app.work(move |engine| run_query(engine, &engine.database().collection(&name)?, body)).await?;
    Ok(started.reply(QueryResult { points }))
}

fn run_query(engine: &Engine, collection: &Collection, body: QueryPoints) -> ApiResult<Vec<ScoredPoint>> {
    let given = |value: &Option<serde_json::Value>| value.as_ref().is_some_and(|value| !value.is_null());
    if given(&body.prefetch) {
        return Err(ApiError::not_yet("`prefetch`"));
    }
    if given(&body.lookup_from) {
        return Err(ApiError::not_yet("`lookup_from`"));
    }
    let limit = at_least_one("internal.limit", body.limit.unwrap_or(10))?;
    let parts = parts(body.with_payload, body.with_vector, false);
    let Some(query) = body.query.filter(|query| !query.is_null()) else {
        if body.score_threshold.is_some() {
            return Err(ApiError::bad_request(
                "A query is needed to use the score_threshold. Can't have score_threshold without defining a query.",
            ));
        }
        return by_id(collection, limit, body.offset.unwrap_or(0), body.filter, parts);
    };

    let using = body.using.unwrap_or_default();
    let mut filter = body.filter;
    let vector = match Target::read(query)? {
        Target::Vector(vector) => vector.into(),
        Target::Text(text) => embed_one(engine, &text, TextKind::Query)?.into(),
        Target::Point(id) => {
            // A point is not among its own neighbours.
            let itself = Condition::HasId([id].into());
            filter.get_or_insert_default().must_not.push(itself);
            vector_of(collection, id, &using)?
        }
    };
    let params = body.params.unwrap_or_default();
    let search = Search {
        vector,
        using,
        limit,
        offset: body.offset.unwrap_or(0),
        filter,
        ef: params.hnsw_ef,
        exact: params.exact.unwrap_or(false),
        score_threshold: body.score_threshold,
        parts,
        explain: false,
    };
    Ok(collection.search(&search)?.hits.into_iter().map(ScoredPoint::from).collect())
}

/// Without a query, points come in order of id, each with score 1.
fn by_id(
    collection: &Collection,
    limit: usize,
    offset: usize,
    filter: Option<Filter>,
    parts: Parts,
) -> ApiResult<Vec<ScoredPoint>> {
    let scroll = Scroll { from: None, limit: limit.saturating_add(offset), filter, parts };
    let records = collection.scroll(&scroll)?.records.into_iter().skip(offset);
    Ok(records
        .map(|record| ScoredPoint {
            id: record.id,
            version: 0,
            score: 1.0,
            payload: record.payload,
            vector: record.vectors.map(Into::into),
        })
        .collect())
}

fn vector_of(collection: &Collection, id: PointId, using: &str) -> ApiResult<Vector> {
    let parts = Parts { payload: Selector::None, vectors: Selector::Only(vec![using.to_owned()]) };
    let record = collection.get(&[id], &parts)?.into_iter().next();
    let record = record.ok_or_else(|| ApiError::not_found(format!("No point with id {id} found")))?;
    let vector = record.vectors.and_then(|mut vectors| vectors.remove(using));
    vector.ok_or_else(|| ApiError::not_found(format!("Vector with name \"{using}\" for point not found")))
}

fn at_least_one(field: &str, value: usize) -> ApiResult<usize> {
    if value == 0 {
        return Err(ApiError::validation(format!("{field}: value 0 invalid, must be 1 or larger")));
    }
    Ok(value)
}

fn embed_one(engine: &Engine, input: &TextInput, kind: TextKind) -> ApiResult<Vec<f32>> {
    let embedded = engine.embed(input.model.as_deref(), &[&input.text], kind)?;
    Ok(embedded.vectors.into_iter().next().expect("one text gives one vector"))
}

/// Turns inputs into points; the texts of one model go through it together.
fn embed_points(engine: &Engine, inputs: Vec<PointInput>) -> ApiResult<Vec<Point>> {
    let mut points = Vec::with_capacity(inputs.len());
    // Where each text's vector belongs: the point, the vector's name.
    let mut texts: Vec<(usize, String, TextInput)> = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let mut vectors = Vectors::new();
        let named = match input.vector {
            VectorInput::Named(named) => named,
            unnamed => vec![(String::new(), unnamed)],
        };
        for (name, vector) in named {
            match vector {
                VectorInput::Dense(vector) => {
                    vectors.insert(name, vector.into());
                }
                VectorInput::Text(text) => texts.push((index, name, text)),
                VectorInput::Named(_) => return Err(ApiError::format("vectors by name cannot be nested")),
            }
        }
        let payload = input.payload.unwrap_or_default();
        points.push(Point { id: input.id, vectors, payload, expiry: None });
    }

    texts.sort_by(|(_, _, a), (_, _, b)| a.model.cmp(&b.model));
    for group in texts.chunk_by(|(_, _, a), (_, _, b)| a.model == b.model) {
        let inputs: Vec<&str> = group.iter().map(|(_, _, input)| input.text.as_str()).collect();
        let embedded = engine.embed(group[0].2.model.as_deref(), &inputs, TextKind::Passage)?;
        for ((index, name, _), vector) in group.iter().zip(embedded.vectors) {
            points[*index].vectors.insert(name.clone(), vector.into());
        }
    }
    Ok(points)
}
