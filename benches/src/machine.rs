//! What a measurement ran on, and what it took from the machine.

use std::path::Path;
use std::time::Duration;
use std::{env, fs, thread};

/// Two lines for the top of a table: processor and load.
pub fn header() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let load = line_of("/proc/loadavg", "").unwrap_or_else(|| "unknown".to_owned());
    format!("cpu    {}, {cores} cores, simd {}\nload   {load}", cpu(), cairn_ann::simd_capabilities())
}

fn cpu() -> String {
    let model = line_of("/proc/cpuinfo", "model name");
    let model = model.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
    model.unwrap_or_else(|| env::consts::ARCH.to_owned())
}

fn line_of(path: &str, start: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find(|line| line.starts_with(start)).map(str::to_owned)
}

/// Time that all threads alive have run; zero where the system does not tell.
pub fn processor_time_of_all() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| processor_time(thread.path())).sum()
}

/// Time that the threads alive whose name begins like this have run, and how many
/// they are; none where the system does not tell.
pub fn processor_time_of(name: &str) -> (Duration, usize) {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = threads.filter(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
    });
    let times = named.filter_map(|thread| processor_time(thread.path()));
    times.fold((Duration::ZERO, 0), |(sum, count), time| (sum + time, count + 1))
}

/// Time that a thread has run, where the system tells.
pub fn processor_time(thread: impl AsRef<Path>) -> Option<Duration> {
    let text = fs::read_to_string(thread.as_ref().join("schedstat")).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Memory of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    /// Bytes that are its own: heap and stacks.
    pub anonymous: u64,
    /// Bytes of files it has mapped and touched; the system can take them back.
    pub file: u64,
}

/// Memory of this process now, where the system tells.
pub fn resident() -> Option<Resident> {
    let field = |name| {
        let line = line_of("/proc/self/smaps_rollup", name)?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    let (all, anonymous) = (field("Rss:")?, field("Anonymous:")?);
    Some(Resident { anonymous, file: all.saturating_sub(anonymous) })
}
