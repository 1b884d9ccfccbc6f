//! When a request may begin: so many on their way at once, so many a minute,
//! and none while the service asks to wait. Urgent ones go first.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often a request that waits looks whether anybody still wants it.
const TICK: Duration = Duration::from_millis(50);

pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
    /// Time from the beginning of a request to that of the next.
    gap: Duration,
}

struct State {
    free: usize,
    /// Urgent requests that wait.
    urgent: usize,
    /// None begins before.
    next: Instant,
}

/// Why a request did not begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// Nobody wants it any more.
    Wanted,
    /// Its time is up.
    InTime,
}

/// A request on its way.
pub(super) struct Permit<'a>(&'a Pace);

impl Pace {
    pub(super) fn new(in_flight: usize, per_minute: usize) -> Pace {
        let gap = match per_minute {
            0 => Duration::ZERO,
            count => Duration::from_secs(60) / u32::try_from(count).unwrap_or(u32::MAX),
        };
        let state = State { free: in_flight, urgent: 0, next: Instant::now() };
        Pace { state: Mutex::new(state), changed: Condvar::new(), gap }
    }

    /// Waits until a request may begin, `until` at most.
    pub(super) fn enter(
        &self,
        urgent: bool,
        going: &dyn Fn() -> bool,
        until: Instant,
    ) -> Result<Permit<'_>, Not> {
        let mut state = self.lock();
        state.urgent += usize::from(urgent);
        let refused = loop {
            let now = Instant::now();
            if !going() {
                break Not::Wanted;
            }
            if now >= until {
                break Not::InTime;
            }
            if state.free > 0 && now >= state.next && (urgent || state.urgent == 0) {
                state.free -= 1;
                state.urgent -= usize::from(urgent);
                state.next = now + self.gap;
                drop(state);
                self.changed.notify_all();
                return Ok(Permit(self));
            }
            let wait = state.next.saturating_duration_since(now).clamp(Duration::from_millis(1), TICK);
            let wait = if now >= state.next { TICK } else { wait };
            state = self.changed.wait_timeout(state, wait).expect("nothing panics under this lock").0;
        };
        state.urgent -= usize::from(urgent);
        drop(state);
        self.changed.notify_all();
        Err(refused)
    }

    /// No request begins before.
    pub(super) fn hold(&self, until: Instant) {
        let mut state = self.lock();
        state.next = state.next.max(until);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::{Not, Pace};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn no_more_requests_are_on_their_way_than_may_be() {
        let pace = Pace::new(2, 0);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (pace, now, most) = (&pace, &now, &most);
                scope.spawn(move || {
                    for _ in 0..20 {
                        let permit = pace.enter(worker == 0, &|| true, soon());
                        assert!(permit.is_ok());
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(pace.lock().free, 2);
    }

    #[test]
    fn requests_begin_no_more_often_than_they_may() {
        let pace = Pace::new(4, 1200);
        let began = Instant::now();
        for _ in 0..4 {
            drop(pace.enter(false, &|| true, soon()));
        }
        assert!(began.elapsed() >= Duration::from_millis(150));
    }

    #[test]
    fn one_that_nobody_wants_or_whose_time_is_up_does_not_begin() {
        let pace = Pace::new(1, 0);
        let held = pace.enter(false, &|| true, soon());
        let late = Instant::now() + Duration::from_millis(20);
        assert_eq!(pace.enter(true, &|| true, late).err(), Some(Not::InTime));
        assert_eq!(pace.enter(false, &|| false, soon()).err(), Some(Not::Wanted));
        drop(held);
        pace.hold(Instant::now() + Duration::from_secs(5));
        assert_eq!(pace.enter(false, &|| true, late).err(), Some(Not::InTime));
        assert_eq!(pace.lock().urgent, 0);
    }
}
