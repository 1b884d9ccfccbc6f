//! Everything that can go wrong between a document and an answer.

/// A failure of ingestion, retrieval or answering.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database refused or failed.
    #[error(transparent)]
    Index(#[from] cairn_index::Error),
    /// The model could not be loaded or run.
    #[error(transparent)]
    Embed(#[from] cairn_embed::Error),
    /// A model is asked for that is not on this machine.
    #[error(
        "model `{name}` is not on this machine, get it with `cairn model pull {name}`; here or known: {known}"
    )]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Names that would work.
        known: String,
    },
    /// A model is asked for what it does not do.
    #[error(
        "model `{name}` is of the kind {}, one of the kind {} is needed: see `cairn model list`",
        kind.name(),
        want.name()
    )]
    ModelKind {
        /// The name asked for.
        name: String,
        /// What the model is for.
        kind: cairn_embed::ModelKind,
        /// What is to be done.
        want: cairn_embed::ModelKind,
    },
    /// A model behind an address is asked for what only one in this process has.
    #[error(
        "model `{name}` is behind an address and gives vectors of texts only: for tokens, and vectors of \
         tokens, name a model that is here"
    )]
    NotHere {
        /// The name asked for.
        name: String,
    },
    /// There is no model that reranks.
    #[error(
        "no rerank model is set: name one in models.rerank of the settings or in `model`, \
         for example cross-encoder/ms-marco-MiniLM-L6-v2"
    )]
    NoReranker,
    /// A document cannot be taken as it is.
    #[error("document `{id}` cannot be added: {reason}")]
    Document {
        /// Its id.
        id: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// Two documents of one request have the same id.
    #[error("document id `{id}` appears twice in the request, ids must be unique")]
    DuplicateDocument {
        /// The id.
        id: String,
    },
    /// A path that was given leads nowhere.
    #[error("cannot read {path}", path = path.display())]
    Path {
        /// The path.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A collection is there and cut in another way than is asked for.
    #[error(
        "the documents of collection `{name}` are cut with max_tokens {max_tokens} and overlap {overlap}; \
         leave the chunk settings out, or add to a new collection"
    )]
    ChunkSettings {
        /// The collection.
        name: String,
        /// Its setting.
        max_tokens: usize,
        /// Its setting.
        overlap: usize,
    },
    /// The system gives no thread.
    #[error("cannot start a thread to read files")]
    Threads(#[source] std::io::Error),
    /// The text of a question or query is empty.
    #[error("{field} is empty, send some text")]
    EmptyText {
        /// The field of the request.
        field: &'static str,
    },
    /// The collection was not made for texts.
    #[error("collection `{name}` has no text model, add documents to it first or search it with vectors")]
    NoTextModel {
        /// The collection.
        name: String,
    },
    /// Words are to be searched where none are indexed.
    #[error(
        "collection `{name}` has no BM25 vectors and cannot be searched by words alone; \
         search it with mode dense, or add its documents to a new collection"
    )]
    NoWords {
        /// The collection.
        name: String,
    },
    /// An option of a request or of the settings is out of range.
    #[error("{field}: value {value} invalid, must be {range}")]
    Option {
        /// The option.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        range: String,
    },
    /// There is no such conversation about this collection.
    #[error("there is no conversation `{id}` about collection `{collection}`, start one first")]
    UnknownConversation {
        /// The id asked for.
        id: String,
        /// The collection.
        collection: String,
    },
    /// Conversations cannot be read or written.
    #[error("conversations cannot be kept in {}", folder.display())]
    Conversation {
        /// Where they are kept.
        folder: std::path::PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Queries or judgements of an evaluation cannot be used.
    #[error("{what}")]
    Judged {
        /// What is wrong, and where.
        what: String,
    },
    /// The model's vectors do not fit the collection.
    #[error("model `{model}` makes vectors of {got} dimensions, collection `{name}` has {want}")]
    ModelDimension {
        /// The collection.
        name: String,
        /// The model.
        model: String,
        /// Dimensions of the collection.
        want: usize,
        /// Dimensions of the model.
        got: usize,
    },
    /// The language model could not be used.
    #[error("the generator at {url} failed: {reason}")]
    Generator {
        /// Its address, or its file.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Whoever asked has gone away.
    #[error("the caller went away")]
    Cancelled,
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
