//! The `cairn` command.

mod add;
mod args;
mod bench;
mod changes;
mod demo;
mod embed;
mod eval;
mod export;
mod failure;
mod generation;
mod import;
mod models;
mod out;
mod progress;
mod remote;
mod run;
mod settings;
mod snapshots;
mod verbs;
mod watch;
mod whole;

use std::process::ExitCode;

use clap::Parser;

// Models allocate and free large buffers; this keeps their memory in the
// process instead of handing pages back and forth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_candle_to_the_calling_thread();
    let args = args::Args::parse();
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::error(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Language models share their products among threads of their own; candle's would
/// wait for each other without giving up the cores, which searches need too.
fn keep_candle_to_the_calling_thread() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: this is the first thing the program does, so no other thread reads
        // the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(THREADS, "1");
        }
    }
}
