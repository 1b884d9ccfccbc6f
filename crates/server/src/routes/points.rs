//! Reading points: by id, page by page, counted, by the values of a field.

use std::collections::HashMap;

use axum::extract::State;
use cairn_index::{
    Collection, FacetRequest, MatrixRequest, Parts, PointId, Query, QueryRequest, Scroll, WrittenId,
};

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult, at_least_one};
use crate::strict::Strict;
use crate::wire::points::{
    CountPoints, CountResult, FacetOutput, FacetPoints, FacetResult, GetPoints, MatrixOffsets, MatrixPairs,
    MatrixPoints, PairOutput, RecordOutput, ScrollPoints, ScrollResult, parts, written,
};
use crate::wire::query::order_by;

/// Reads points by id, in the order asked; missing ones are left out.
#[utoipa::path(
    post, path = "/collections/{collection}/points", tag = "points",
    params(("collection" = String, Path)),
    request_body = GetPoints,
    responses((status = 200, body = Reply<Vec<RecordOutput>>), (status = "4XX"))
)]
pub(crate) async fn retrieve(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<GetPoints>,
) -> ApiResult<Reply<Vec<RecordOutput>>> {
    let parts = parts(body.with_payload, body.with_vector, true);
    let records = app.read(move |engine| Ok(engine.database().collection(&name)?.get(&body.ids, &parts)?));
    Ok(started.reply(records.await?.into_iter().map(RecordOutput::from).collect()))
}

/// Reads one point with its payload and vectors.
#[utoipa::path(
    get, path = "/collections/{collection}/points/{id}", tag = "points", operation_id = "get_point",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<RecordOutput>), (status = "4XX"))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    At((name, id)): At<(String, String)>,
) -> ApiResult<Reply<RecordOutput>> {
    let known = id.parse::<PointId>().ok();
    let unreadable = format!("Can not recognize \"{id}\" as point id");
    let missing = format!("Point with id {} does not exists!", known.map_or(id.clone(), |id| id.to_string()));
    let record = app.read(move |engine| {
        let collection = engine.database().collection(&name);
        // Digits are a number, and where there is no such point, a string.
        let string_ids = collection.as_ref().is_ok_and(Collection::takes_string_ids);
        let label = string_ids.then(|| PointId::labelled(&id));
        let ids: Vec<PointId> =
            known.into_iter().chain(label.filter(|label| Some(*label) != known)).collect();
        if ids.is_empty() {
            return Err(ApiError::bad_request(unreadable));
        }
        Ok(collection?.get(&ids, &Parts::all())?.into_iter().next())
    });
    let record = record.await?.ok_or_else(|| ApiError::not_found(missing))?;
    Ok(started.reply(record.into()))
}

/// Reads points in order of id, page by page, or in the order of a field.
#[utoipa::path(
    post, path = "/collections/{collection}/points/scroll", tag = "points",
    params(("collection" = String, Path)),
    request_body = ScrollPoints,
    responses((status = 200, body = Reply<ScrollResult>), (status = "4XX"))
)]
pub(crate) async fn scroll(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<ScrollPoints>,
) -> ApiResult<Reply<ScrollResult>> {
    let limit = at_least_one("limit", body.limit.unwrap_or(10))?;
    let parts = parts(body.with_payload, body.with_vector, true);
    let (filter, from) = (body.filter, body.offset);
    let Some(order) = body.order_by else {
        let page = app
            .read(move |engine| {
                let collection = engine.database().collection(&name)?;
                let strict = Strict::of(&collection);
                strict.check_limit("limit", limit)?;
                strict.check_reading(filter.as_ref())?;
                Ok(collection.scroll(&Scroll { from, limit, filter, parts })?)
            })
            .await?;
        let points = page.records.into_iter().map(RecordOutput::from).collect();
        let next_page_offset = page.next.map(|id| written(id, page.next_label));
        return Ok(started.reply(ScrollResult { points, next_page_offset }));
    };
    if from.is_some() {
        let text =
            "Cannot use an `offset` when using `order_by`. Use `start_from` instead to filter by value";
        return Err(ApiError::bad_request(text));
    }
    let query = Some(Query::OrderBy(order_by(order)?));
    let mut request = QueryRequest { query, filter, limit, parts, ..QueryRequest::default() };
    let hits = app
        .read(move |engine| {
            let collection = engine.database().collection(&name)?;
            Strict::of(&collection).check_query(&mut request)?;
            Ok(collection.query(&request)?)
        })
        .await?;
    let points = hits.into_iter().map(RecordOutput::from).collect();
    Ok(started.reply(ScrollResult { points, next_page_offset: None }))
}

/// Counts points.
#[utoipa::path(
    post, path = "/collections/{collection}/points/count", tag = "points",
    params(("collection" = String, Path)),
    request_body = CountPoints,
    responses((status = 200, body = Reply<CountResult>), (status = "4XX"))
)]
pub(crate) async fn count(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<CountPoints>,
) -> ApiResult<Reply<CountResult>> {
    let count = app
        .read(move |engine| {
            let collection = engine.database().collection(&name)?;
            Strict::of(&collection).check_reading(body.filter.as_ref())?;
            Ok(collection.count(body.filter.as_ref())?)
        })
        .await?;
    Ok(started.reply(CountResult { count }))
}

/// The most frequent values of a payload field.
#[utoipa::path(
    post, path = "/collections/{collection}/facet", tag = "points",
    params(("collection" = String, Path)),
    request_body = FacetPoints,
    responses((status = 200, body = Reply<FacetResult>), (status = "4XX"))
)]
pub(crate) async fn facet(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<FacetPoints>,
) -> ApiResult<Reply<FacetResult>> {
    let limit = at_least_one("limit", body.limit.unwrap_or(10))?;
    let exact = body.exact.unwrap_or(false);
    let request = FacetRequest { key: body.key.parse()?, limit, filter: body.filter, exact };
    let hits = app
        .read(move |engine| {
            let collection = engine.database().collection(&name)?;
            let strict = Strict::of(&collection);
            strict.check_limit("limit", limit)?;
            strict.check_reading(request.filter.as_ref())?;
            Ok(collection.facet(&request)?)
        })
        .await?;
    let hits = hits.into_iter().map(|hit| FacetOutput { value: hit.value, count: hit.count }).collect();
    Ok(started.reply(FacetResult { hits }))
}

async fn matrix(app: App, name: String, body: MatrixPoints) -> ApiResult<cairn_index::MatrixResult> {
    let sample = body.sample.unwrap_or(10);
    if sample < 2 {
        let text = format!("sample: value {sample} invalid, must be 2 or larger");
        return Err(ApiError::validation(text));
    }
    let limit = at_least_one("limit", body.limit.unwrap_or(3))?;
    let using = body.using.unwrap_or_default();
    let request = MatrixRequest { filter: body.filter, sample, limit, using };
    app.read(move |engine| {
        let collection = engine.database().collection(&name)?;
        let strict = Strict::of(&collection);
        strict.check_limit("sample", sample)?;
        strict.check_limit("limit", limit)?;
        strict.check_reading(request.filter.as_ref())?;
        Ok(collection.matrix(&request)?)
    })
    .await
}

fn written_ids(matrix: &cairn_index::MatrixResult) -> impl Iterator<Item = WrittenId> {
    matrix.ids.iter().zip(&matrix.labels).map(|(id, label)| written(*id, label.clone()))
}

/// How near sampled points are to each other, as pairs.
#[utoipa::path(
    post, path = "/collections/{collection}/points/search/matrix/pairs", tag = "points",
    params(("collection" = String, Path)),
    request_body = MatrixPoints,
    responses((status = 200, body = Reply<MatrixPairs>), (status = "4XX"))
)]
pub(crate) async fn matrix_pairs(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<MatrixPoints>,
) -> ApiResult<Reply<MatrixPairs>> {
    let matrix = matrix(app, name, body).await?;
    let ids: HashMap<PointId, WrittenId> =
        written_ids(&matrix).map(|written| (written.id, written)).collect();
    let pairs = matrix.pairs().into_iter().filter_map(|pair| {
        let (a, b) = (ids.get(&pair.a)?.clone(), ids.get(&pair.b)?.clone());
        Some(PairOutput { a, b, score: pair.score })
    });
    Ok(started.reply(MatrixPairs { pairs: pairs.collect() }))
}

/// How near sampled points are to each other, as a sparse matrix.
#[utoipa::path(
    post, path = "/collections/{collection}/points/search/matrix/offsets", tag = "points",
    params(("collection" = String, Path)),
    request_body = MatrixPoints,
    responses((status = 200, body = Reply<MatrixOffsets>), (status = "4XX"))
)]
pub(crate) async fn matrix_offsets(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<MatrixPoints>,
) -> ApiResult<Reply<MatrixOffsets>> {
    let matrix = matrix(app, name, body).await?;
    let ids = written_ids(&matrix).collect();
    let cairn_index::MatrixOffsets { offsets_row, offsets_col, scores, .. } = matrix.offsets();
    Ok(started.reply(MatrixOffsets { offsets_row, offsets_col, scores, ids }))
}
