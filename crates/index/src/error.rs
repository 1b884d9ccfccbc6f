//! Everything that can go wrong in the database, one variant a cause.

use std::path::PathBuf;

use crate::id::PointId;
use crate::label::WrittenId;

/// A failure of the database. The text says what is wrong and, where the
/// caller can do something about it, how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called while it was read.
    #[error("cancelled, because nobody waits for the answer any more")]
    Cancelled,
    /// No collection has this name.
    #[error("collection `{name}` doesn't exist")]
    UnknownCollection {
        /// The name asked for.
        name: String,
    },
    /// A collection of this name is already there.
    #[error("collection `{name}` already exists")]
    CollectionExists {
        /// The name asked for.
        name: String,
    },
    /// The name cannot be used for a collection or a vector.
    #[error("`{name}` is not a valid {what} name: {reason}")]
    Name {
        /// `collection` or `vector`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A collection setting is out of range.
    #[error("{field}: value {value} invalid, must be from {min} to {max}")]
    Setting {
        /// Path of the setting.
        field: String,
        /// The value that was given.
        value: u64,
        /// Smallest valid value.
        min: u64,
        /// Largest valid value.
        max: u64,
    },
    /// A vector's length differs from the collection's.
    #[error("vector dimension error: expected dim: {want}, got {got}")]
    Dimension {
        /// What the collection was created with.
        want: usize,
        /// What came.
        got: usize,
    },
    /// A vector holds NaN or an infinity.
    #[error("vector value at position {position} is not a finite number")]
    NotFinite {
        /// Index of the first such value.
        position: usize,
    },
    /// The collection has no vector of this name.
    #[error("not existing vector name error: {name}")]
    UnknownVector {
        /// The name asked for; empty for the unnamed vector.
        name: String,
    },
    /// The vector of this name is of another kind than the one given.
    #[error("vector `{name}` takes {want}")]
    VectorKind {
        /// The vector's name.
        name: String,
        /// What it takes.
        want: &'static str,
    },
    /// A value does not fit the type the vector is stored in.
    #[error("vector value {value} at position {position} does not fit the type {datatype}")]
    OutOfType {
        /// Index of the first such value.
        position: usize,
        /// The value.
        value: f32,
        /// The type of the stored numbers.
        datatype: &'static str,
    },
    /// A filter or a payload path does not follow the grammar.
    #[error("invalid filter: {0}")]
    Filter(String),
    /// A value is not a point id.
    #[error("value {0} is not a valid point ID, valid values are either an unsigned integer or a UUID")]
    PointId(String),
    /// A string is the id of a point, and the collection takes none.
    #[error(
        "value {label} is not a valid point ID, valid values are either an unsigned integer or a UUID; \
         with `string_ids` a collection takes any string"
    )]
    Label {
        /// The string.
        label: String,
    },
    /// Two strings stand for the same id.
    #[error("the point ID `{label}` stands for the same UUID {id} as `{other}`, choose another string")]
    LabelTaken {
        /// The string that was to be written.
        label: String,
        /// The one that has the id.
        other: String,
        /// The id of both.
        id: PointId,
    },
    /// No point has this id.
    #[error("No point with id {id} found")]
    UnknownPoint {
        /// The id asked for.
        id: WrittenId,
    },
    /// A point that a query takes as an example lacks the vector.
    #[error("Vector with name \"{name}\" for point not found")]
    MissingVector {
        /// The vector's name; empty for the unnamed one.
        name: String,
    },
    /// The collection that a query looks something up in is not there.
    #[error("Collection {name} not found")]
    UnknownLookup {
        /// The name asked for.
        name: String,
    },
    /// The request asks for something that has no meaning.
    #[error("{0}")]
    Request(String),
    /// A point's payload nests too deep or the operation is too large.
    #[error("operation of {bytes} bytes is larger than the limit of {limit}, send fewer points at once")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// Largest size accepted.
        limit: usize,
    },
    /// Another process has the directory open.
    #[error("data directory {path} is in use by {owner}, stop that process or choose another directory", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the owner wrote about itself.
        owner: String,
    },
    /// The directory was written by a newer version.
    #[error("data directory {path} has format {found}, this version reads up to {supported}, install a newer cairn", path = path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Format number found there.
        found: u32,
        /// Newest format this version knows.
        supported: u32,
    },
    /// The directory was written by a version whose format is no longer read.
    #[error("data directory {path} has format {found}, this version reads {supported}, export it with the version that wrote it", path = path.display())]
    OlderFormat {
        /// The directory.
        path: PathBuf,
        /// Format number found there.
        found: u32,
        /// Oldest format this version reads.
        supported: u32,
    },
    /// The directory should hold a store but its log does not.
    #[error("data directory {path} should hold store {store_id}, but its log is empty or another store's, restore the `log` folder from a backup or move the directory aside", path = path.display())]
    LostStore {
        /// The directory.
        path: PathBuf,
        /// The identity the directory was created with.
        store_id: String,
    },
    /// A record read back from disk is damaged.
    #[error("{what} is damaged: {reason}, restore the data directory from a backup or drop the collection")]
    Corrupt {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too little room is left on the disk; nothing was written.
    #[error("no space left on the disk of {path}: {free_bytes} bytes free, {needed_bytes} needed, free some space and try again", path = path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Room left.
        free_bytes: u64,
        /// Room this write and the reserve need.
        needed_bytes: u64,
    },
    /// An earlier write failed, so no more writes are taken.
    #[error(
        "the database stopped writing after a disk failure ({cause}), reads still work, mend the disk and restart"
    )]
    ReadOnly {
        /// The first failure.
        cause: String,
    },
    /// A file operation failed.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The key-value store below failed.
    #[error("the store failed while {action}: {reason}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// The store's own words.
        reason: String,
    },
    /// The graph could not be built, read or searched.
    #[error("graph of collection `{collection}`")]
    Graph {
        /// The collection.
        collection: String,
        /// What went wrong.
        #[source]
        source: cairn_ann::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
