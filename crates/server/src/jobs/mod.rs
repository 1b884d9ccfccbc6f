//! Uploads that nobody waits for, done one after the other in the order they
//! came.
//!
//! A job is a record in the folder `jobs` of the data directory, and the bytes of
//! its upload beside it. Both are on the disk before the upload is acknowledged.
//! What was running when the process ended is queued again and goes on behind its
//! last batch; a document that was written meanwhile is found unchanged. The bytes
//! go away with the end of the job, the record some time later.

mod job;
mod receiving;
mod upload;
mod work;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_embed::Cancel;
use parking_lot::{Condvar, Mutex};

pub(crate) use self::job::{About, Job, Kind, Shown, State};
pub(crate) use self::receiving::Receiving;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::files::Records;
use crate::options::JobOptions;

/// Readers of nested formats go deep.
const STACK: usize = 256 << 20;

/// The jobs of a data directory.
pub(crate) struct Jobs {
    folder: PathBuf,
    records: Records<Job>,
    options: JobOptions,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Held, before the queue, while a record that may change elsewhere is written.
    keeping: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    /// By number, the ones that have ended too.
    jobs: BTreeMap<u64, Job>,
    next_number: u64,
    /// Uploads that are being received, and what has come of them.
    receiving: usize,
    receiving_bytes: u64,
    running: Option<(u64, Cancel)>,
    stopping: bool,
    /// Seconds that a job has lately taken.
    usual_seconds: f64,
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Begins to work on the jobs.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(app: &App) -> std::io::Result<JoinHandle<()>> {
    let app = app.clone();
    let thread = std::thread::Builder::new().name("cairn-jobs".to_owned()).stack_size(STACK);
    thread.spawn(move || {
        while let Some((job, cancel)) = app.jobs.next() {
            work::work(&app, job, &cancel);
        }
    })
}

impl Jobs {
    /// # Errors
    /// When the folder cannot be made or read.
    pub(crate) fn open(data_dir: &Path, options: JobOptions) -> std::io::Result<Self> {
        let folder = data_dir.join("jobs");
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            File::open(data_dir)?.sync_all()?;
        }
        let jobs = Self {
            records: Records::new(folder.clone()),
            folder,
            options,
            queue: Mutex::default(),
            changed: Condvar::new(),
            keeping: Mutex::default(),
        };
        jobs.take_up()?;
        Ok(jobs)
    }

    /// Reads what is there, and clears away what nobody will ask for.
    fn take_up(&self) -> std::io::Result<()> {
        let mut queue = self.queue.lock();
        for mut job in self.records.all() {
            if job.cancel_asked && !job.state.is_over() {
                job.state = State::Cancelled;
                job.ended_at = Some(now_ms());
                self.keep(&job);
            } else if job.state == State::Running {
                job.state = State::Queued;
            }
            queue.next_number = queue.next_number.max(job.number + 1);
            queue.jobs.insert(job.number, job);
        }
        let over = |id: &str| queue.jobs.values().any(|job| job.id == id && job.state.is_over());
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let left_over = match path.extension().and_then(|end| end.to_str()) {
                Some("partial") => true,
                // A record that cannot be read is still a reason to keep them.
                Some("bytes") => over(id) || !self.records.path(id, "json").exists(),
                _ => false,
            };
            if left_over {
                fs::remove_file(&path)?;
            }
        }
        self.forget_old(&mut queue);
        Ok(())
    }

    /// Where the bytes of a job lie.
    fn bytes(&self, id: &str) -> PathBuf {
        self.records.path(id, "bytes")
    }

    /// Writes a record; that it cannot be is told, and the job goes on.
    fn keep(&self, job: &Job) {
        if let Err(error) = self.records.put(&job.id, job) {
            tracing::error!(job = job.id, error = error.text, "a job's state cannot be kept");
        }
    }

    /// Deletes the records that are too old or too many.
    fn forget_old(&self, queue: &mut Queue) {
        let days = Duration::from_secs(self.options.keep_days.saturating_mul(86_400)).as_millis() as u64;
        let oldest = if days == 0 { 0 } else { now_ms().saturating_sub(days) };
        let over = queue.jobs.values().filter(|job| job.state.is_over());
        let mut ended: Vec<_> = over.map(|job| (job.ended_at.unwrap_or(0), job.number)).collect();
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(self.options.keep);
        for (place, (at, number)) in ended.into_iter().enumerate() {
            if (place < too_many || at < oldest)
                && let Some(job) = queue.jobs.remove(&number)
            {
                let _ = self.records.delete(&job.id);
            }
        }
    }

    /// The next job in its turn, once there is one; none when the service stops.
    fn next(&self) -> Option<(Job, Cancel)> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopping {
                return None;
            }
            if let Some(job) = queue.jobs.values_mut().find(|job| job.state == State::Queued) {
                job.state = State::Running;
                job.started_at.get_or_insert_with(now_ms);
                let (mut job, cancel) = (job.clone(), Cancel::new());
                queue.running = Some((job.number, cancel.clone()));
                drop(queue);
                self.note(&mut job);
                return Some((job, cancel));
            }
            self.changed.wait(&mut queue);
        }
    }

    /// Notes how far a job has come. What was asked meanwhile stays asked.
    fn note(&self, job: &mut Job) {
        let _keeping = self.keeping.lock();
        let mut queue = self.queue.lock();
        if let Some(known) = queue.jobs.get_mut(&job.number) {
            job.cancel_asked |= known.cancel_asked;
            known.clone_from(job);
        }
        drop(queue);
        self.keep(job);
    }

    /// A job has ended, or the service stops and it goes on later.
    fn end(&self, mut job: Job, seconds: f64) {
        let _keeping = self.keeping.lock();
        if let Some(known) = self.queue.lock().jobs.get(&job.number) {
            job.cancel_asked |= known.cancel_asked;
        }
        let is_over = job.state.is_over();
        if is_over {
            job.ended_at = Some(now_ms());
            metrics::counter!("cairn_jobs_ended_total", "state" => job.state.name()).increment(1);
            metrics::histogram!("cairn_job_duration_seconds").record(seconds);
        }
        // Whoever sees the end finds the bytes gone.
        self.keep(&job);
        if is_over {
            let _ = fs::remove_file(self.bytes(&job.id));
        }
        let mut queue = self.queue.lock();
        queue.jobs.insert(job.number, job);
        queue.running = None;
        queue.usual_seconds =
            if queue.usual_seconds == 0.0 { seconds } else { 0.7 * queue.usual_seconds + 0.3 * seconds };
        self.forget_old(&mut queue);
    }

    /// The service stops: what runs ends within a batch and goes on at the next
    /// start.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopping = true;
        if let Some((_, cancel)) = &queue.running {
            cancel.cancel();
        }
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.queue.lock().stopping
    }

    /// A job, and how many come before it while it is queued.
    pub(crate) fn get(&self, id: &str) -> Option<(Job, Option<usize>)> {
        let queue = self.queue.lock();
        let job = queue.jobs.values().find(|job| job.id == id)?;
        Some((job.clone(), queue.before(job)))
    }

    /// Those that `wanted` holds for, the newest first.
    pub(crate) fn list(&self, limit: usize, wanted: impl Fn(&Job) -> bool) -> Vec<Shown> {
        let queue = self.queue.lock();
        let jobs = queue.jobs.values().rev().filter(|job| wanted(job)).take(limit);
        jobs.map(|job| Shown { failures: None, ..job.shown(queue.before(job)) }).collect()
    }

    /// Cancels a job: one that is queued at once, one that runs within a batch.
    ///
    /// # Errors
    /// 404 if there is none, 409 if it has ended.
    pub(crate) fn cancel(&self, id: &str) -> ApiResult<Job> {
        let _keeping = self.keeping.lock();
        let mut queue = self.queue.lock();
        let running = queue.running.clone();
        let Some(job) = queue.jobs.values_mut().find(|job| job.id == id) else {
            return Err(unknown(id));
        };
        match job.state {
            State::Queued => {
                job.cancel_asked = true;
                job.state = State::Cancelled;
                job.ended_at = Some(now_ms());
                metrics::counter!("cairn_jobs_ended_total", "state" => job.state.name()).increment(1);
            }
            State::Running => {
                job.cancel_asked = true;
                if let Some((_, cancel)) = running.filter(|(number, _)| *number == job.number) {
                    cancel.cancel();
                }
            }
            state => {
                let text = format!("Wrong input: the job `{id}` has ended already: {}", state.name());
                return Err(ApiError::new(axum::http::StatusCode::CONFLICT, text));
            }
        }
        let job = job.clone();
        drop(queue);
        self.keep(&job);
        if job.state.is_over() {
            let _ = fs::remove_file(self.bytes(id));
        }
        Ok(job)
    }

    /// Tells the gauges how much waits.
    pub(crate) fn measure(&self) {
        let queue = self.queue.lock();
        metrics::gauge!("cairn_jobs", "state" => "queued").set(queue.waiting() as f64);
        metrics::gauge!("cairn_jobs", "state" => "running").set(f64::from(u8::from(queue.running.is_some())));
        metrics::gauge!("cairn_jobs_waiting_bytes").set(queue.waiting_bytes() as f64);
    }
}

impl Queue {
    fn queued(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.state == State::Queued)
    }

    fn waiting(&self) -> usize {
        self.queued().count()
    }

    fn waiting_bytes(&self) -> u64 {
        self.queued().map(|job| job.counts.bytes).sum()
    }

    fn before(&self, job: &Job) -> Option<usize> {
        let earlier = self.jobs.range(..job.number).filter(|(_, other)| !other.state.is_over());
        (job.state == State::Queued).then(|| earlier.count())
    }
}

/// There is no such job, or none that whoever asks may know of.
pub(crate) fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no job `{id}`, or it ended long ago"))
}

#[cfg(test)]
mod tests;
