//! How much of the processor the background gets: readers and writers come first.

/// The priority of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// For what keeps memory small and searches fast: about a tenth of a core
    /// that others want, too.
    Low,
    /// For what makes searches faster still: what is left over. On Linux a core
    /// that does nothing else counts as idle, so whoever wakes up is put there
    /// and not where a search is running.
    Idle,
}

impl Priority {
    /// Gives it to the calling thread. Where a thread cannot have a priority of
    /// its own, nothing happens.
    pub(crate) fn take(self) {
        #[cfg(target_os = "linux")]
        {
            let nice = if self == Self::Low { 10 } else { 19 };
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
            if self == Self::Idle {
                take_idle();
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // The call takes a pointer.
fn take_idle() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    // If the system refuses, the thread stays nice.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
}
