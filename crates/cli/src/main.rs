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
    let args = args::Args::parse();
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::error(&*error);
            ExitCode::FAILURE
        }
    }
}
