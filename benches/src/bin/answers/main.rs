//! Extractive answers: how many are right, whether quotes stand verbatim, what
//! is refused, and how soon the first event comes.
//!
//!     cargo xtask bench answers quality --data DIR
//!     cargo xtask bench answers citations --data DIR
//!     cargo xtask bench answers first-event --passages DIR --data DIR
//!
//! `DIR` holds judged sets, each a folder in the BEIR layout; the judged set of
//! the tests is the third. Weights were chosen on the questions at even places
//! of the files; those at odd places are reported beside them. The baseline is
//! the sentence nearest to the question in the document nearest to it, by the
//! cosine of the same model.
#![allow(clippy::print_stdout)] // Tables are what this program is for.

mod citations;
mod first;
mod quality;
mod written;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

/// Measures extractive answers.
#[derive(Parser)]
enum Args {
    /// Right answers beside a baseline, verbatim quotes, and the refusal curve
    Quality(Quality),
    /// Whether quotes stand verbatim at their place, from files of four types
    Citations(Citations),
    /// Time to the first streamed event over a hundred thousand passages
    FirstEvent(FirstEvent),
}

#[derive(clap::Args)]
struct Quality {
    /// Folder with the judged sets `xquad-en` and `cranfield`.
    #[arg(long)]
    data: PathBuf,
    /// Write what is known of each question here, one JSON object a line.
    #[arg(long)]
    dump: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Citations {
    /// Folder with the judged sets `xquad-en` and `cranfield`.
    #[arg(long)]
    data: PathBuf,
    /// Answers that quote something, over all corpora and types.
    #[arg(long, default_value_t = 500)]
    answers: usize,
}

#[derive(clap::Args)]
struct FirstEvent {
    /// Folder with `base.f16.npy`: embeddings of passages by the default model.
    #[arg(long)]
    passages: PathBuf,
    /// Folder with the judged sets, whose words and questions are used.
    #[arg(long)]
    data: PathBuf,
    /// Questions that are asked.
    #[arg(long, default_value_t = 200)]
    questions: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}\n", cairn_benches::machine::header());
    match Args::parse() {
        Args::Quality(wanted) => quality::run(&wanted),
        Args::Citations(wanted) => citations::run(&wanted),
        Args::FirstEvent(wanted) => first::run(&wanted),
    }
}
