//! Development commands; run them as `cargo xtask …`.

// A command line tool speaks to whoever runs it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fuzz;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::{Outcome, cargo, run};

#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Formatting, lints, licences (if cargo-deny is installed), house rules
    Check,
    /// All tests: Rust, the real binary with real clients, both of our clients
    Test {
        /// The long suites as well
        #[arg(long)]
        long: bool,
    },
    /// Looks for inputs that readers are wrong about, with libFuzzer; installs cargo-fuzz
    Fuzz {
        /// path, filter, query, number, body or points; all of them when absent
        target: Option<String>,
        /// How long each is run
        #[arg(long, default_value_t = 300)]
        seconds: u64,
    },
    /// Requests by chance against /openapi.json, with schemathesis
    Schemathesis {
        /// How long
        #[arg(long, default_value_t = 20)]
        minutes: u64,
    },
    /// The house rules: which crate may use which, which engine stays in which file
    Tidy,
    /// Measurements
    #[command(subcommand)]
    Bench(Bench),
    /// Print the OpenAPI description of the service
    Openapi,
}

#[derive(Subcommand)]
enum Bench {
    /// Recall beside speed on a data set: folder with base, queries and gt100 files
    Ann {
        /// Passed on: --data DIR and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Filtered search, its recall and speed, beside Qdrant Edge
    Filtered {
        /// Passed on: --data DIR and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Keyword search, its quality and speed, beside bm25s and tantivy
    Bm25 {
        /// Passed on: --data DIR and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Texts to vectors, speed and exactness, beside ONNX Runtime and OpenVINO
    Embed {
        /// Passed on: --systems LIST and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Texts to vectors on a GPU, beside sentence-transformers on the same one
    EmbedGpu {
        /// What the build is to use: cuda, flash-attn or metal
        #[arg(long)]
        features: Option<String>,
        /// Passed on: --device cuda:1 and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Opening, searching while writing, disk, memory, durable writing
    Segments {
        /// Passed on: what to measure and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Searching and writing over HTTP beside the same calls in process; needs wrk
    Http {
        /// Passed on: prepare, search or upsert and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Adding a folder of pages, the model's share of it, and adding it again
    Ingest {
        /// Passed on: --pages N and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Extractive answers: right ones, verbatim quotes, refusals, time to the first event
    Answers {
        /// Passed on: --data DIR and more, see --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Distances and search, by criterion
    Kernels,
    /// Retrieval quality on the judged sets: nDCG@10, recall@100, MRR@10
    Quality,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Check => check(),
        Command::Test { long } => test::all(long),
        Command::Fuzz { target, seconds } => fuzz::run_targets(target.as_deref(), seconds),
        Command::Schemathesis { minutes } => test::schemathesis(minutes),
        Command::Tidy => tidy::run(),
        Command::Bench(bench) => run_bench(bench),
        Command::Openapi => {
            run(cargo().args(["run", "--quiet", "--release", "-p", "cairn-server", "--example", "openapi"]))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run(cargo().args(clippy))?;
    if cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        run(cargo().args(["deny", "check"]))?;
    } else {
        println!("cargo-deny is not installed, licences are not checked (cargo install cargo-deny)");
    }
    tidy::run()
}

fn run_bench(bench: Bench) -> Outcome {
    match bench {
        Bench::Ann { args } => measure("ann", &args),
        Bench::Filtered { args } => measure("filtered", &args),
        Bench::Bm25 { args } => measure("bm25", &args),
        Bench::Embed { args } => measure("embed", &args),
        Bench::EmbedGpu { features, args } => {
            let program = ["run", "--release", "-p", "cairn-benches", "--bin", "embed_gpu"];
            let features = features.map(|features| format!("--features={features}"));
            run(cargo().args(program).args(features).arg("--").args(args))
        }
        Bench::Segments { args } => measure("segments", &args),
        Bench::Http { args } => measure("http", &args),
        Bench::Ingest { args } => measure("ingest", &args),
        Bench::Answers { args } => measure("answers", &args),
        Bench::Kernels => run(cargo().args(["bench", "-p", "cairn-benches"])),
        Bench::Quality => {
            let quality =
                ["test", "--release", "-p", "cairn-tests", "--test", "quality", "--", "--nocapture"];
            run(cargo().args(quality))
        }
    }
}

/// One of the measuring programs.
fn measure(program: &str, args: &[String]) -> Outcome {
    let program = ["run", "--release", "-p", "cairn-benches", "--bin", program, "--"];
    run(cargo().args(program).args(args))
}
