//! Adding a folder of Markdown pages: how long it takes, how much of that the
//! model takes, and what adding it again costs.
//!
//!     cargo xtask bench ingest [--pages 10000] [--docs FOLDER]
//!
//! The pages are made of the HTML of the Rust documentation (`rustup component add
//! rust-docs`), or of any folder with HTML or Markdown, in the order of their
//! paths: one page for each file whose text has a length that prose has. They are
//! kept in `target/bench-data/ingest`.
//!
//! The model's share is the processor time of its threads, which are named `embed`,
//! over what they could have had: their number by the time on the clock. How long
//! a batch was with the model, at work or waiting for a core, is told beside it.
#![allow(clippy::print_stdout)] // Tables are what this program is for.

mod pages;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_benches::machine;
use cairn_embed::{Cancel, Silent};
use cairn_index::{Database, Options};
use cairn_rag::{Engine, IngestOptions, Ingested, ModelOptions, RagOptions};
use clap::Parser;

/// Measures adding a folder, and adding it again.
#[derive(Parser)]
struct Args {
    /// Pages that are added.
    #[arg(long, default_value_t = 10_000)]
    pages: usize,
    /// Folder with HTML or Markdown; unset: the Rust documentation here.
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Where the pages are kept.
    #[arg(long, default_value = "target/bench-data/ingest")]
    kept: PathBuf,
}

/// What a run came to.
struct Run {
    done: Ingested,
    wall: Duration,
    /// Memory of its own at the end, the model included.
    resident_mib: u64,
    model: Model,
}

/// What the model's threads did.
struct Model {
    name: String,
    ran: Duration,
    /// Those that batches are computed on.
    threads: usize,
}

impl Run {
    /// The part of the time of the model's threads in which they ran; none where
    /// no model was loaded, or the system does not tell.
    fn share(&self) -> Option<f64> {
        let could = self.wall.as_secs_f64() * self.model.threads as f64;
        (could > 0.0 && !self.model.ran.is_zero()).then(|| self.model.ran.as_secs_f64() / could)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}\n", machine::header());
    let args = Args::parse();
    let folder = pages::prepare(&args)?;
    let data = tempfile::tempdir()?;

    let first = add(data.path(), &folder)?;
    let again = add(data.path(), &folder)?;
    let page = Page::changed(&folder)?;
    let changed = add(data.path(), &folder);
    page.restore()?;
    let changed = changed?;
    let written = first.done.added.documents;
    if written != args.pages {
        return Err(format!(
            "{written} of {} pages were written: look at what is in {}",
            args.pages,
            folder.display()
        )
        .into());
    }
    println!("model  {}, {} threads\n", first.model.name, first.model.threads);
    println!(
        "| run | written | unchanged | passages | tokens | s | model's share | a batch with it | memory MiB |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (name, run) in [("first", &first), ("again", &again), ("one page changed", &changed)] {
        let (added, wall) = (run.done.added, run.wall.as_secs_f64());
        println!(
            "| {name} | {} | {} | {} | {} | {wall:.2} | {} | {:.1} % | {} |",
            added.documents,
            added.unchanged,
            added.passages,
            added.tokens,
            run.share().map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
            100.0 * run.done.embedding.as_secs_f64() / wall,
            run.resident_mib
        );
    }
    let share = again.wall.as_secs_f64() / first.wall.as_secs_f64();
    println!("\nadding again takes {:.2} % of the first time", 100.0 * share);
    Ok(())
}

/// Opens the data as the command does, adds the folder, and closes it.
fn add(data: &Path, folder: &Path) -> Result<Run, Box<dyn Error>> {
    let began = Instant::now();
    let db = Database::open_with(data, Options::default())?;
    let engine = Engine::new(db, ModelOptions::default(), RagOptions::default());
    let options = IngestOptions::default();
    let paths = [folder.to_owned()];
    let done = engine.ingest("pages", &paths, &options, &Silent, &Cancel::new(), &mut |_| {})?;
    let resident_mib = machine::resident().map_or(0, |resident| resident.anonymous >> 20);
    // Its threads end with it. Those named `embed-wide` cut texts into tokens.
    let (computing, cutting) =
        (machine::processor_time_of("embed-"), machine::processor_time_of("embed-wide-"));
    let threads = computing.1 - cutting.1;
    let model = Model { name: engine.default_model(), ran: computing.0, threads };
    drop(engine);
    Ok(Run { done, wall: began.elapsed(), resident_mib, model })
}

/// A page as it was.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Gives one page another end.
    fn changed(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let path = folder.join("0/0.md");
        let text = std::fs::read_to_string(&path)?;
        let end = format!("Changed {:?}.", std::time::SystemTime::now());
        std::fs::write(&path, format!("{}\n\n{end}\n", text.trim_end()))?;
        Ok(Self { path, text })
    }

    fn restore(self) -> Result<(), Box<dyn Error>> {
        Ok(std::fs::write(self.path, self.text)?)
    }
}
