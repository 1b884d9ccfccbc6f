//! Who computes when: threads of the encoder's own, and two queues before them.
//!
//! Bulk calls are cut into batches; each thread takes the next batch of the
//! call that waited longest, so calls share the threads fairly. A short call,
//! such as a query, does not wait for a batch to end: it runs at once on the
//! thread that asks if one of the encoder's is idle, or is busy with bulk, which
//! has a lower priority. Where there are more of them than that, they wait for the
//! first thread that is done or comes to a pause inside its batch, and run together,
//! since a model reads some texts sooner than one after the other.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::runner::{Made, Output, Runner};
use super::tokens::Sequence;
use crate::{Error, Result};

/// Tells a running [`Encoder::embed_until`](crate::Encoder::embed_until) that
/// its caller has gone. Clones are one flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Stops the calls that got this flag, within a batch.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends what asks with an error once the flag is set.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Tokens of short calls that run together, at most, unless one has more.
const TOGETHER_TOKENS: usize = 512;

/// Texts of one caller, cut into batches.
pub(super) struct Call {
    texts: Vec<Sequence>,
    output: Output,
    batches: Vec<Vec<usize>>,
    cancel: Cancel,
    /// The batch to be taken next; under the queue's lock.
    next: AtomicUsize,
    progress: Mutex<Progress>,
    ended: Condvar,
}

struct Progress {
    made: Vec<Made>,
    left: usize,
    error: Option<Error>,
}

impl Call {
    pub(super) fn new(
        texts: Vec<Sequence>,
        output: Output,
        batches: Vec<Vec<usize>>,
        cancel: Cancel,
    ) -> Call {
        let made = vec![Made::default(); texts.len()];
        let progress = Progress { made, left: batches.len(), error: None };
        let (next, progress) = (AtomicUsize::new(0), Mutex::new(progress));
        Call { texts, output, batches, cancel, next, progress, ended: Condvar::new() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics under this lock")
    }

    /// Runs one batch and keeps what came of it.
    fn run(&self, batch: usize, runner: &Runner, pause: &mut dyn FnMut()) {
        let mut going = || {
            pause();
            !self.cancel.is_cancelled()
        };
        let batch = &self.batches[batch];
        let skip = self.progress().error.is_some() || self.cancel.is_cancelled();
        let found = if skip {
            Err(Error::Cancelled)
        } else {
            let texts: Vec<&Sequence> = batch.iter().map(|&text| &self.texts[text]).collect();
            runner.vectors(&texts, self.output, &mut going).map_err(|error| match error {
                Error::NotFinite { text } => Error::NotFinite { text: batch[text] },
                other => other,
            })
        };
        self.take(batch, found);
    }

    /// Keeps what came of a batch.
    fn take(&self, batch: &[usize], found: Result<Vec<Made>>) {
        let mut progress = self.progress();
        match found {
            Ok(found) => {
                for (&text, made) in batch.iter().zip(found) {
                    progress.made[text] = made;
                }
            }
            // The first error is the cause of the others.
            Err(error) => {
                progress.error.get_or_insert(error);
            }
        }
        progress.left -= 1;
        if progress.left == 0 {
            self.ended.notify_all();
        }
    }

    /// Waits for the last batch.
    fn wait(&self) -> Result<Vec<Made>> {
        let progress = self.progress();
        let mut progress =
            self.ended.wait_while(progress, |progress| progress.left > 0).expect("nothing panics under it");
        match progress.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut progress.made)),
        }
    }
}

/// The threads of an encoder. They end when it is dropped.
pub(super) struct Queue {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    runner: Runner,
    /// Batches that may run at the same time.
    places: usize,
    limit: usize,
    waiting: Mutex<Waiting>,
    work: Condvar,
    /// Short calls that wait, for a look without the lock.
    short: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    short: VecDeque<Arc<Call>>,
    bulk: VecDeque<Arc<Call>>,
    /// Batches and short calls that have a place.
    running: usize,
    /// Those of them that are bulk.
    bulk_running: usize,
    /// Short calls that run on their callers' threads while bulk has the places.
    beside: usize,
    closed: bool,
}

impl Queue {
    /// Starts `threads` threads; no more than `limit` calls wait at a time.
    pub(super) fn start(runner: Runner, threads: usize, limit: usize) -> Result<Queue> {
        let shared = Arc::new(Shared {
            runner,
            places: threads,
            limit,
            waiting: Mutex::default(),
            work: Condvar::new(),
            short: AtomicUsize::new(0),
        });
        let mut queue = Queue { shared, threads: Vec::new() };
        for thread in 0..threads {
            let shared = queue.shared.clone();
            let started = std::thread::Builder::new().name(format!("embed-{thread}")).spawn(move || {
                lower_priority();
                shared.runner.on_one_thread(|| while shared.serve().is_continue() {});
            });
            queue.threads.push(started.map_err(|error| Error::Compute { reason: error.to_string() })?);
        }
        Ok(queue)
    }

    pub(super) fn runner(&self) -> &Runner {
        &self.shared.runner
    }

    /// The vectors of a call, as [`Queue::made`].
    pub(super) fn run(&self, call: Call, short: bool) -> Result<Vec<Vec<f32>>> {
        Ok(self.made(call, short)?.into_iter().map(|made| made.vector).collect())
    }

    /// Runs a call and waits for it; a `short` one overtakes the others.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many calls wait, [`Error::Cancelled`], or what
    /// the model says.
    pub(super) fn made(&self, call: Call, short: bool) -> Result<Vec<Made>> {
        let shared = &*self.shared;
        if call.batches.is_empty() {
            return Ok(call.progress().made.clone());
        }
        let mut waiting = shared.lock();
        if short && waiting.running < shared.places {
            waiting.running += 1;
            drop(waiting);
            shared.runner.on_all_threads(|| call.run_all(&shared.runner));
            shared.lock().running -= 1;
            // A call may have come while all places were taken.
            shared.work.notify_one();
            return call.wait();
        }
        // A thread of the encoder may have to wait for the processor itself; this one
        // has it, and comes before bulk. Others would only be done sooner together.
        if short && waiting.short.is_empty() && waiting.beside < waiting.bulk_running {
            waiting.beside += 1;
            drop(waiting);
            shared.runner.on_all_threads(|| call.run_all(&shared.runner));
            shared.lock().beside -= 1;
            return call.wait();
        }
        if waiting.short.len() + waiting.bulk.len() >= shared.limit {
            return Err(Error::Busy { waiting: shared.limit });
        }
        let call = Arc::new(call);
        if short {
            waiting.short.push_back(call.clone());
            shared.short.store(waiting.short.len(), Ordering::Relaxed);
            shared.work.notify_one();
        } else {
            waiting.bulk.push_back(call.clone());
            shared.work.notify_all();
        }
        drop(waiting);
        call.wait()
    }
}

impl Call {
    fn run_all(&self, runner: &Runner) {
        for batch in 0..self.batches.len() {
            self.run(batch, runner, &mut || ());
        }
    }

    fn tokens(&self) -> usize {
        self.texts.iter().map(Sequence::len).sum()
    }
}

/// Runs calls of one batch each, which want the same, as one.
fn run_together(calls: &[Arc<Call>], runner: &Runner) {
    let [first, others @ ..] = calls else { return };
    if !others.is_empty() {
        let texts: Vec<&Sequence> =
            calls.iter().flat_map(|call| call.batches[0].iter().map(|&text| &call.texts[text])).collect();
        let mut going = || !calls.iter().all(|call| call.cancel.is_cancelled());
        if let Ok(mut found) = runner.vectors(&texts, first.output, &mut going) {
            for call in calls {
                let batch = &call.batches[0];
                let others = found.split_off(batch.len());
                call.take(batch, Ok(std::mem::replace(&mut found, others)));
            }
            return;
        }
    }
    // By itself each fails for its own reason.
    calls.iter().for_each(|call| call.run_all(runner));
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics under this lock")
    }

    /// The short calls that are to run now, together: a thread that is idle leaves
    /// those that are its share to each other one.
    fn take_short(&self, waiting: &mut Waiting) -> Vec<Arc<Call>> {
        let idle = self.places.saturating_sub(waiting.running);
        let share = waiting.short.len().div_ceil(idle + 1);
        let (mut calls, mut tokens) = (Vec::<Arc<Call>>::new(), 0);
        while let Some(call) = waiting.short.front() {
            tokens += call.tokens();
            let joins = |first: &Arc<Call>| {
                calls.len() < share
                    && tokens <= TOGETHER_TOKENS
                    && [first, call].iter().all(|call| call.batches.len() == 1)
                    && first.output == call.output
            };
            if !calls.first().is_none_or(joins) {
                break;
            }
            calls.extend(waiting.short.pop_front());
        }
        self.short.store(waiting.short.len(), Ordering::Relaxed);
        calls
    }

    /// Waits for work and does one piece of it.
    fn serve(&self) -> ControlFlow<()> {
        let idle = |waiting: &mut Waiting| {
            let empty = waiting.short.is_empty() && waiting.bulk.is_empty();
            !waiting.closed && (empty || waiting.running >= self.places)
        };
        let mut waiting = self.work.wait_while(self.lock(), idle).expect("nothing panics under this lock");
        if waiting.closed {
            return ControlFlow::Break(());
        }
        waiting.running += 1;
        let short = self.take_short(&mut waiting);
        if !short.is_empty() {
            drop(waiting);
            run_together(&short, &self.runner);
        } else if let Some(call) = waiting.bulk.pop_front() {
            let batch = call.next.fetch_add(1, Ordering::Relaxed);
            if batch + 1 < call.batches.len() {
                waiting.bulk.push_back(call.clone());
            }
            waiting.bulk_running += 1;
            drop(waiting);
            call.run(batch, &self.runner, &mut || self.pause());
            self.lock().bulk_running -= 1;
        }
        self.lock().running -= 1;
        self.work.notify_one();
        ControlFlow::Continue(())
    }

    /// Short calls that wait are run here and now, some at each pause, so that
    /// bulk goes on under any number of them.
    fn pause(&self) {
        if self.short.load(Ordering::Relaxed) == 0 {
            return;
        }
        let calls = self.take_short(&mut self.lock());
        run_together(&calls, &self.runner);
    }
}

/// A third of a core that others want, too. Where a thread cannot have a
/// priority of its own, nothing happens.
pub(super) fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::super::pooling::{Pool, Pooling};
    use super::super::runner::{Head, Model, Output, Runner};
    use super::super::table::{Rows, Table};
    use super::super::tokens::Sequence;
    use super::{Call, Cancel, Queue, TOGETHER_TOKENS, Waiting, run_together};
    use crate::Error;

    /// A model whose vector of a text is the mean of its ids; id 9 is no number.
    fn runner() -> Runner {
        let rows = (0..10).map(|id| if id == 9 { f32::NAN } else { id as f32 }).collect();
        let table = Table::new(Rows::Float(rows), 1, None, None).expect("ten rows");
        let head = Head::Pool(Pooling { pools: vec![Pool::Mean], normalize: false });
        Runner::new(Model::Static(table), head, 1).expect("a runner")
    }

    fn call(texts: &[&[u32]], output: Output, cancel: &Cancel) -> Arc<Call> {
        let texts: Vec<Sequence> = texts.iter().map(|ids| Sequence::one(ids.to_vec())).collect();
        let batch = (0..texts.len()).collect();
        Arc::new(Call::new(texts, output, vec![batch], cancel.clone()))
    }

    fn vectors(call: &Call) -> Result<Vec<f32>, Error> {
        Ok(call.wait()?.into_iter().flat_map(|made| made.vector).collect())
    }

    #[test]
    fn calls_that_run_together_get_what_each_gets_alone() {
        let going = Cancel::new();
        let calls = [
            call(&[&[1, 3], &[5]], Output::Head, &going),
            call(&[&[7]], Output::Head, &Cancel::new()),
            call(&[&[2, 2, 8]], Output::Head, &Cancel::new()),
        ];
        going.cancel();
        run_together(&calls, &runner());
        assert_eq!(vectors(&calls[1]).unwrap(), [7.0]);
        assert_eq!(vectors(&calls[2]).unwrap(), [4.0]);
        // Who went away is not waited for, and does not stop the others.
        assert_eq!(vectors(&calls[0]).unwrap(), [2.0, 5.0]);
    }

    #[test]
    fn what_one_of_them_breaks_the_others_do_not_see() {
        let of = |texts: &[&[u32]]| call(texts, Output::Head, &Cancel::new());
        let calls = [of(&[&[1]]), of(&[&[2], &[9]]), of(&[&[3]])];
        run_together(&calls, &runner());
        assert_eq!(vectors(&calls[0]).unwrap(), [1.0]);
        assert!(matches!(vectors(&calls[1]), Err(Error::NotFinite { text: 1 })));
        assert_eq!(vectors(&calls[2]).unwrap(), [3.0]);
    }

    #[test]
    fn calls_that_wait_are_shared_among_idle_threads_and_grow_no_larger_than_a_bound() {
        let queue = Queue::start(runner(), 2, 8).expect("threads");
        let shared = &*queue.shared;
        let of = |tokens: usize, output| call(&[&vec![1; tokens]], output, &Cancel::new());
        let taken = |running: usize, calls: Vec<Arc<Call>>| {
            let mut waiting = Waiting { short: calls.into(), running, ..Waiting::default() };
            let mut sizes = Vec::new();
            while !waiting.short.is_empty() {
                sizes.push(shared.take_short(&mut waiting).len());
            }
            assert_eq!(shared.short.load(Ordering::Relaxed), 0);
            sizes
        };
        let some = |count: usize, tokens: usize| (0..count).map(|_| of(tokens, Output::Head)).collect();
        // Both threads run: the one that takes them takes all.
        assert_eq!(taken(2, some(5, 10)), [5]);
        // The other one is idle, and leaves as much to this one.
        assert_eq!(taken(1, some(6, 10)), [3, 2, 1]);
        assert_eq!(taken(2, some(4, TOGETHER_TOKENS / 2)), [2, 2]);
        assert_eq!(taken(2, some(2, 2 * TOGETHER_TOKENS)), [1, 1]);
        let mixed = vec![of(1, Output::Head), of(1, Output::States), of(1, Output::States)];
        assert_eq!(taken(2, mixed), [1, 2]);
    }
}
