//! What can go wrong, with the values that went wrong.

use std::io;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why rows were refused, a build stopped, or a graph could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A builder's setting is out of its range.
    #[error("{name} is {got}, it must be between {min} and {max}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// Its value.
        got: usize,
        /// The smallest value allowed.
        min: usize,
        /// The largest value allowed.
        max: usize,
    },
    /// The factor of pruning is out of its range.
    #[error("alpha is {got}, it must be at least 1 and at most 2")]
    Alpha {
        /// Its value.
        got: f32,
    },
    /// A flat slice does not hold whole rows.
    #[error("{values} values do not make whole rows of {dim}")]
    Shape {
        /// Values per row.
        dim: usize,
        /// Values given.
        values: usize,
    },
    /// More rows than slots can number.
    #[error("{got} rows are more than a graph can hold, {max}")]
    TooManyRows {
        /// Rows given.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The caller asked the build to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// The input does not begin like a graph.
    #[error("not a graph file")]
    NotAGraph,
    /// The graph was written by a newer program.
    #[error("the graph has format version {got}, this program reads up to {known}")]
    NewerVersion {
        /// The version in the file.
        got: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The graph was written by an older program, in a way no longer read.
    #[error("the graph has format version {got}, this program reads version {known}: build it again")]
    OlderVersion {
        /// The version in the file.
        got: u32,
        /// The version read here.
        known: u32,
    },
    /// The input ends before the graph does.
    #[error("the graph file is cut short")]
    Truncated,
    /// The bytes are not those that were written.
    #[error("the graph file is damaged: its checksum is {got:08x}, its content gives {want:08x}")]
    Checksum {
        /// The checksum in the file.
        got: u32,
        /// The checksum of its content.
        want: u32,
    },
    /// The bytes are whole, but do not describe a graph.
    #[error("the graph file is malformed: {0}")]
    Malformed(&'static str),
    /// Reading or writing failed.
    #[error("reading or writing the graph failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}
