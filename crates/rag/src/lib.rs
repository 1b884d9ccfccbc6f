//! Documents to passages to retrieval to answers whose citations are checked.
//!
//! An [`Engine`] stands over a database: [`Engine::add`] cuts documents along
//! their structure, embeds the passages and stores them; [`Engine::search`]
//! finds passages by meaning; [`Engine::ask`] answers from them. Every citation
//! of an answer is a quotation that stands in its document at the offsets it
//! names. No HTTP is served here; the one file that speaks it, as a client of
//! a language model, is `generate`.
//!
//! ```no_run
//! use cairn_index::Database;
//! use cairn_rag::{Document, Engine, Format, ModelOptions, Question, RagOptions};
//!
//! let db = Database::open("data")?;
//! let engine = Engine::new(db, ModelOptions::default(), RagOptions::default());
//! let guide = Document {
//!     id: "guide".to_owned(),
//!     title: "Guide".to_owned(),
//!     text: "A cairn is a pile of stones. It marks the way.".to_owned(),
//!     metadata: serde_json::Map::new(),
//!     pages: Vec::new(),
//! };
//! engine.add("docs", &[guide], Format::Markdown, &mut |_| {})?;
//! let answer = engine.ask("docs", &Question::new("What marks the way?"), &mut |_| Ok(()))?;
//! println!("{}", answer.answer);
//! # Ok::<(), cairn_rag::Error>(())
//! ```

mod adding;
mod answer;
mod ask;
mod chunking;
mod confidence;
mod conversation;
mod cues;
mod document;
mod engine;
mod error;
pub mod eval;
mod extract;
mod follow_up;
mod generate;
mod ingest;
mod kept;
mod loaded;
mod local;
mod models;
mod overlap;
pub mod parse;
mod passages;
mod provenance;
mod retrieval;
mod sections;
mod sentences;
mod similarity;
mod standalone;
mod stop_words;
mod stored;
mod verify;
mod words;

pub use answer::{Answer, Citation, Event, Retrieved, Scores, Searched, Sentence, TextSearch};
pub use ask::Question;
pub use chunking::{ChunkChange, ChunkOptions};
pub use confidence::Evidence;
pub use conversation::{Conversation, ConversationOptions, Turn};
pub use document::{Document, Format};
pub use engine::{Added, Engine, Preview, RagOptions};
pub use error::{Error, Result};
pub use extract::ExtractOptions;
pub use generate::{GeneratorOptions, LocalOptions};
pub use ingest::{Event as IngestEvent, IngestOptions, Ingested, corpus_line};
pub use kept::{DocumentEntry, KeptDocument, TextCollection};
pub use local::LocalModel;
pub use models::{ModelOptions, Models};
pub use passages::{Chunk, Passage};
pub use provenance::{ModelUsed, Provenance, Replayed, Used};
pub use retrieval::{
    Decay, Expand, Fusion, FusionMethod, Mode, Rerank, Retrieval, RetrievalChange, RetrievalOptions, Stage,
    Step,
};
pub use verify::{Unsupported, VerifyOptions};
