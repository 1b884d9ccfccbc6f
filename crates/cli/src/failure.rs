//! Why a command failed, in words for whoever typed it.

use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("configuration: {0}; `cairn config` prints the keys there are")]
    Settings(String),
    #[error("the filter is not valid: {0}")]
    Filter(String),
    #[error("the retrieval options are not valid: {0}")]
    Retrieval(String),
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{place} of {from}: {reason}; stopped there with {written} written, mend it and import again, or go on past \
         bad lines with --skip-bad"
    )]
    BadLine { place: String, from: String, reason: String, written: usize },
    #[error("cannot import {from}: {reason}")]
    Source { from: String, reason: String },
    #[error(
        "cannot read the collection at {url}, give http://HOST:PORT/collections/NAME of a running server: {reason}"
    )]
    Remote { url: String, reason: String },
    #[error("the environment variable `{0}` is not set, put the key or password of the other server there")]
    KeyEnv(String),
    #[error(
        "there is no measure `{0}`: take ndcg, recall, mrr or map, with a system before it as in sparse.ndcg, \
         or of answers contains, f1, verbatim, refused or unanswerable_refused"
    )]
    Measure(String),
    #[error("`{0}` is no token id, give numbers with commas between them as in 1,15,7")]
    TokenId(String),
    #[error("below what was asked for: {0}")]
    Below(String),
    #[error(
        "found nothing to add: of folders, files of known kinds are read, such as .md, .txt, .html, .pdf, .docx, .csv or .jsonl"
    )]
    NothingToAdd,
    #[error("no file could be added, see the reasons above")]
    AllSkipped,
    #[error("stopped; what is written stays, and the same command goes on behind it")]
    Stopped,
    #[error(
        "stopped; what is embedded stays in the file that ends with .partial, --resume goes on behind it"
    )]
    EmbedStopped,
    #[error("{path}: {reason}", path = path.display())]
    Partial { path: PathBuf, reason: String },
    #[error("line {line} of {path}: {reason}", path = path.display())]
    BadText { line: usize, path: PathBuf, reason: String },
    #[error("row {row} of {path}: {reason}", path = path.display())]
    BadRow { row: usize, path: PathBuf, reason: String },
    #[error("cannot read {path} as Parquet: {reason}", path = path.display())]
    NoParquet { path: PathBuf, reason: String },
    #[error(
        "Parquet is read and written from files that can be read again, not from standard input: give a file, or write .npy or .jsonl"
    )]
    ParquetOfPipe,
    #[error("vectors are written as .npy, .jsonl or .parquet, and {path} ends with none of these", path = .0.display())]
    VectorFile(PathBuf),
    #[error("--watch follows folders and {path} is none, give the folder that it is in", path = .0.display())]
    WatchFile(PathBuf),
    #[error("cannot listen on {address}, choose another --port or --host")]
    Listen { address: String, source: std::io::Error },
    #[error("the server stopped")]
    Serve(#[source] std::io::Error),
    #[error("the server at {url} is not ready: {reason}")]
    NotReady { url: String, reason: String },
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

/// What a command comes to.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
