//! An upload on its way in: it has a place in the queue from the first byte on,
//! and is a job once it is on the disk.

use axum::http::StatusCode;
use uuid::Uuid;

use super::job::{About, Counts, Job, State};
use super::upload::Upload;
use super::{Jobs, now_ms};
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// An upload that is being received.
pub(crate) struct Receiving {
    id: String,
    upload: Option<Upload>,
    place: Place,
}

/// A place in the queue, given back when the upload is a job or is given up.
struct Place {
    app: App,
    bytes: u64,
}

impl Place {
    /// # Errors
    /// 429 if all are taken.
    fn take(app: &App) -> ApiResult<Self> {
        let jobs = &app.jobs;
        let mut queue = jobs.queue.lock();
        if queue.waiting() + queue.receiving >= jobs.options.max_waiting {
            return Err(ApiError::full("server.jobs.max_waiting", queue.usual_seconds));
        }
        queue.receiving += 1;
        Ok(Self { app: app.clone(), bytes: 0 })
    }

    /// # Errors
    /// 413 if the upload is too large, 429 if all that wait are.
    fn grow(&mut self, bytes: u64) -> ApiResult<()> {
        let jobs = &self.app.jobs;
        if self.bytes + bytes > jobs.options.max_upload_bytes {
            return Err(too_large(jobs));
        }
        let mut queue = jobs.queue.lock();
        if queue.waiting_bytes() + queue.receiving_bytes + bytes > jobs.options.max_waiting_bytes {
            return Err(ApiError::full("server.jobs.max_waiting_bytes", queue.usual_seconds));
        }
        queue.receiving_bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.app.jobs.queue.lock();
        queue.receiving -= 1;
        queue.receiving_bytes -= self.bytes;
    }
}

fn too_large(jobs: &Jobs) -> ApiError {
    let text = format!(
        "Payload too large: the upload is larger than {} bytes, send fewer files at once or raise \
         server.jobs.max_upload_bytes",
        jobs.options.max_upload_bytes
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

impl Receiving {
    /// # Errors
    /// 429 if too many uploads wait already.
    pub(crate) fn new(app: &App) -> ApiResult<Self> {
        let place = Place::take(app)?;
        let id = format!("job-{}", Uuid::new_v4().simple());
        let upload = Upload::new(app.jobs.bytes(&id)).map_err(|error| ApiError::not_kept(&error))?;
        Ok(Self { id, upload: Some(upload), place })
    }

    fn upload(&mut self) -> &mut Upload {
        self.upload.as_mut().expect("it is taken when the job is made")
    }

    /// Begins a file or a document.
    pub(crate) fn begin(&mut self, name: &str) -> ApiResult<()> {
        // Names are bytes too.
        self.place.grow(name.len() as u64)?;
        self.upload().begin(name).map_err(|error| ApiError::not_kept(&error))
    }

    /// Takes the next bytes of it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> ApiResult<()> {
        self.place.grow(bytes.len() as u64)?;
        self.upload().take(bytes).map_err(|error| ApiError::not_kept(&error))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.entries == 0)
    }

    /// Makes it a job that is on the disk.
    pub(crate) fn queue(mut self, about: About) -> ApiResult<Job> {
        let app = self.place.app.clone();
        let upload = self.upload.take().expect("it is taken here alone");
        let counts = Counts { files: upload.entries, bytes: upload.bytes, ..Counts::default() };
        upload.keep().map_err(|error| ApiError::not_kept(&error))?;
        let jobs = &app.jobs;
        let mut queue = jobs.queue.lock();
        let job = Job {
            id: self.id.clone(),
            number: queue.next_number,
            about,
            state: State::Queued,
            cancel_asked: false,
            created_at: now_ms(),
            started_at: None,
            ended_at: None,
            at: 0,
            counts,
            failures: Vec::new(),
            error: None,
        };
        queue.next_number += 1;
        drop(queue);
        if let Err(error) = jobs.records.put(&job.id, &job) {
            let _ = std::fs::remove_file(jobs.bytes(&job.id));
            return Err(error);
        }
        jobs.queue.lock().jobs.insert(job.number, job.clone());
        jobs.changed.notify_all();
        Ok(job)
    }
}
