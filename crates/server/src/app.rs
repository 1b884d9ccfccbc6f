//! What every handler can reach, and the threads it works on.

use std::sync::Arc;

use cairn_index::DateTime;
use cairn_rag::Engine;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::Keys;
use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::pool::Pool;
use crate::rates::Rates;

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) metrics: Metrics,
    pub(crate) keys: Arc<Keys>,
    pub(crate) rates: Arc<Mutex<Rates>>,
    /// Of this process, and since when it runs.
    pub(crate) id: Uuid,
    pub(crate) since: Arc<DateTime>,
    pub(crate) permits: Arc<Semaphore>,
    pool: Arc<Pool>,
}

impl App {
    /// # Errors
    /// When the threads cannot be started.
    pub(crate) fn new(engine: Arc<Engine>, options: ServerOptions) -> std::io::Result<Self> {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        Ok(Self {
            engine,
            metrics: Metrics::install(),
            keys: Arc::new(Keys::new(&options)),
            rates: Arc::default(),
            id: Uuid::new_v4(),
            since: Arc::new(DateTime::from_millis(now)),
            permits: Arc::new(Semaphore::new(options.max_concurrent_requests)),
            pool: Arc::new(Pool::new(options.search_threads, options.max_waiting_searches)?),
            options: Arc::new(options),
        })
    }

    /// Runs work that computes on the threads of searches.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let engine = self.engine.clone();
        self.pool.run(move || work(&engine)).await
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
