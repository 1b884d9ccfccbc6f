//! Uploads that nobody waits for: how far they are, and an end to them.
//!
//! Who may read a collection may see its jobs, who may write to it may cancel
//! them. To all others a job is not there.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Params, Reply, Started};
use crate::error::{ApiResult, at_least_one};
use crate::jobs::{Job, Shown, State as JobState, unknown};

/// Which jobs are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Wanted {
    /// Of this collection.
    collection: Option<String>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    #[param(inline)]
    state: Option<JobState>,
    /// Jobs at most: 100 when absent.
    limit: Option<usize>,
}

/// Jobs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    jobs: Vec<Shown>,
}

/// The answer to an upload that became a job.
pub(crate) fn accepted(app: &App, started: &Started, job: &Job) -> Response {
    let before = app.jobs.get(&job.id).and_then(|(_, before)| before);
    let place = [(header::LOCATION, format!("/jobs/{}", job.id))];
    let body = json!({ "result": job.shown(before), "status": "accepted", "time": started.seconds() });
    (StatusCode::ACCEPTED, place, Json(body)).into_response()
}

/// A job that whoever asks may use so.
fn allowed(app: &App, access: &Access, id: &str, level: Level) -> ApiResult<Job> {
    let found = app.jobs.get(id).map(|(job, _)| job);
    let job = found.filter(|job| job.allows(access, Level::Read)).ok_or_else(|| unknown(id))?;
    if !job.allows(access, level) {
        access.check(&job.about.collection, level)?;
    }
    Ok(job)
}

/// The jobs there are: those that wait, run, or have ended lately.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs", operation_id = "list_jobs",
    params(Wanted),
    responses((status = 200, body = Reply<JobList>), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    started: Started,
    access: Access,
    Params(wanted): Params<Wanted>,
) -> ApiResult<Reply<JobList>> {
    let limit = at_least_one("limit", wanted.limit.unwrap_or(100))?;
    let jobs = app.jobs.list(limit, |job| {
        let of = |name: &String| *name == job.about.collection || *name == job.about.asked;
        job.allows(&access, Level::Read)
            && wanted.collection.as_ref().is_none_or(of)
            && wanted.state.is_none_or(|state| state == job.state)
    });
    Ok(started.reply(JobList { jobs }))
}

/// A job: its state, what it came to so far, and which files could not be added.
#[utoipa::path(
    get, path = "/jobs/{job}", tag = "jobs", operation_id = "get_job",
    params(("job" = String, Path)),
    responses((status = 200, body = Reply<Shown>), (status = "4XX"))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(id): At<String>,
) -> ApiResult<Reply<Shown>> {
    allowed(&app, &access, &id, Level::Read)?;
    let (job, before) = app.jobs.get(&id).ok_or_else(|| unknown(&id))?;
    Ok(started.reply(job.shown(before)))
}

/// Cancels a job. One that runs ends within a batch, and what it wrote stays.
#[utoipa::path(
    delete, path = "/jobs/{job}", tag = "jobs", operation_id = "cancel_job",
    params(("job" = String, Path)),
    responses((status = 200, body = Reply<Shown>), (status = "4XX"))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(id): At<String>,
) -> ApiResult<Reply<Shown>> {
    allowed(&app, &access, &id, Level::Write)?;
    let shared = app.clone();
    let job = app.write(move |_| shared.jobs.cancel(&id)).await?;
    Ok(started.reply(job.shown(None)))
}
