//! The threads that searches run on.
//!
//! Their number is fixed and what waits for them is bounded, so that slow
//! queries take each other's time and nobody else's: not the listener's, not
//! the writers'. Work whose request has gone away is never begun, and ends soon if
//! it was.

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_index::Cancel;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::error::{ApiError, ApiResult};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads with a bounded queue before them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    max_waiting: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads at work, here and where a place was taken.
    busy: usize,
    closed: bool,
}

impl Pool {
    /// As many threads as there are processors for 0.
    pub(crate) fn new(threads: usize, max_waiting: usize) -> std::io::Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { cores() } else { threads };
        let shared = Arc::new(Shared::default());
        for number in 0..threads {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("search-{number}")).spawn(move || shared.work())?;
        }
        Ok(Self { shared, threads, max_waiting })
    }

    /// Runs `work` on one of the threads.
    ///
    /// # Errors
    /// 429 when too much waits already, and what `work` fails with.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let (answer, answered) = oneshot::channel();
        // Dropped with this future: when the answer is there, or nobody waits.
        let asked = Asked(Cancel::new());
        let cancel = asked.0.clone();
        self.submit(Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(cancel.during(work));
            }
        }))?;
        // A panic drops the sender; the hook has logged it.
        answered
            .await
            .unwrap_or_else(|_| Err(ApiError::internal("the request hit a bug, see the server's log")))
    }

    /// A place among the threads for one that works elsewhere; none if that
    /// would make more work at once than there are threads, or overtake what
    /// waits.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        let mut queue = self.shared.queue.lock();
        if !queue.jobs.is_empty() || queue.busy >= self.threads {
            return None;
        }
        queue.busy += 1;
        Some(Place(&self.shared))
    }

    fn submit(&self, job: Job) -> ApiResult<()> {
        let mut queue = self.shared.queue.lock();
        if queue.jobs.len() >= self.max_waiting {
            return Err(ApiError::overloaded("server.max_waiting_searches"));
        }
        queue.jobs.push_back(job);
        self.shared.changed.notify_one();
        Ok(())
    }
}

/// A request that waits for its answer.
struct Asked(Cancel);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// Counts as a thread at work until it is dropped.
pub(crate) struct Place<'a>(&'a Shared);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().busy -= 1;
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let _place = Place(self);
            // One request's bug is not the end of the thread.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn too_much_waiting_work_is_turned_away_and_a_bug_stays_alone() {
        let pool = Arc::new(Pool::new(1, 1).unwrap());
        let bug = pool.run::<()>(|| panic!("a bug")).await;
        assert!(bug.unwrap_err().text.contains("hit a bug"));

        let (go, wait) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    let _ = wait.recv();
                    Ok(1)
                })
                .await
            }
        });
        while !pool.shared.queue.lock().jobs.is_empty() || busy.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| Ok(2)).await }
        });
        while pool.shared.queue.lock().jobs.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(pool.run(|| Ok(3)).await.unwrap_err().status, 429);
        assert!(pool.place().is_none());
        go.send(()).unwrap();
        assert_eq!(busy.await.unwrap().unwrap(), 1);
        assert_eq!(waiting.await.unwrap().unwrap(), 2);
        while pool.shared.queue.lock().busy > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let place = pool.place();
        assert!(place.is_some() && pool.place().is_none());
        drop(place);
        assert!(pool.place().is_some());
    }
}
