//! What every handler can reach, and the threads it works on.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use cairn_index::DateTime;
use cairn_rag::Engine;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::Keys;
use crate::brief::Brief;
use crate::error::{ApiError, ApiResult};
use crate::files::{Files, Records};
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::pool::Pool;
use crate::rates::Rates;
use crate::routes::responses::Kept;
use crate::routes::stores::{Attaching, Listed};

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: ServerOptions,
    pub(crate) metrics: Metrics,
    pub(crate) keys: Keys,
    pub(crate) rates: Mutex<Rates>,
    /// Of this process, and since when it runs.
    pub(crate) id: Uuid,
    pub(crate) since: DateTime,
    pub(crate) permits: Semaphore,
    pub(crate) files: Files,
    pub(crate) attaching: Attaching,
    pub(crate) listed: Listed,
    pub(crate) jobs: Jobs,
    pub(crate) responses: Records<Kept>,
    pool: Pool,
    brief: Brief,
}

impl App {
    /// # Errors
    /// When the threads cannot be started, or jobs that are kept cannot be read.
    pub(crate) fn new(engine: Arc<Engine>, options: ServerOptions) -> std::io::Result<Self> {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        Ok(Self(Arc::new(Shared {
            files: Files::new(engine.database().path()),
            attaching: Attaching::open(engine.database().path()),
            listed: Listed::default(),
            jobs: Jobs::open(engine.database().path(), options.jobs.clone())?,
            responses: Records::new(engine.database().path().join("responses")),
            engine,
            metrics: Metrics::install(),
            keys: Keys::new(&options),
            rates: Mutex::default(),
            id: Uuid::new_v4(),
            since: DateTime::from_millis(now),
            permits: Semaphore::new(options.max_concurrent_requests),
            pool: Pool::new(options.search_threads, options.max_waiting_searches)?,
            brief: Brief::default(),
            options,
        })))
    }

    /// Runs work that computes on the threads of searches.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let engine = self.engine.clone();
        self.pool.run(move || work(&engine)).await
    }

    /// The same for searches of a kind that usually takes no longer than handing
    /// it to another thread and back: those are done right here.
    pub(crate) async fn search<T: Send + 'static>(
        &self,
        kind: &str,
        work: impl FnOnce(&Engine) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let started = Instant::now();
        if self.brief.is(kind)
            && let Some(_place) = self.pool.place()
        {
            let result = work(&self.engine);
            self.brief.took(kind, started.elapsed());
            return result;
        }
        let (app, kind) = (self.clone(), kind.to_owned());
        let timed = move || {
            let started = Instant::now();
            let result = work(&app.engine);
            if result.is_ok() {
                app.brief.took(&kind, started.elapsed());
            }
            result
        };
        self.pool.run(timed).await
    }

    /// Runs work that waits for the disk, for a model or for others, away from
    /// the listener. Writers that wait together share one trip to the disk, so
    /// they have as many threads as they need.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> ApiResult<T>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => Err(ApiError::internal(error)),
        }
    }
}
