//! An embeddable vector database.
//!
//! A [`Database`] is a directory of collections; a [`Collection`] holds points,
//! each with an id, vectors and a JSON payload. Searches walk SIMD-accelerated
//! graphs and honour payload filters; an acknowledged write survives a crash of
//! the process and of the machine. No async runtime, no server, no models.
//!
//! ```
//! use cairn_index::{CollectionConfig, Database, Metric, Point, Search};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let db = Database::open(path)?;
//! let stones = db.create_collection("stones", CollectionConfig::new(3, Metric::Cosine))?;
//! stones.upsert(vec![
//!     Point::new(1, vec![0.9, 0.1, 0.0]).with_payload(serde_json::json!({"kind": "slate"}))?,
//!     Point::new(2, vec![0.1, 0.9, 0.0]).with_payload(serde_json::json!({"kind": "granite"}))?,
//! ])?;
//! let found = stones.search(&Search::nearest(vec![1.0, 0.0, 0.0]).limit(1))?;
//! assert_eq!(found.hits[0].id, 1.into());
//! # Ok::<(), cairn_index::Error>(())
//! ```

mod bits;
mod collection;
mod column;
mod config;
mod database;
mod error;
mod filter;
mod graphs;
mod id;
mod journal;
mod op;
mod owner;
mod path;
mod point;
mod search;
mod shard;
mod state;
mod store;

pub use cairn_ann::Metric;

pub use collection::{Collection, Info, Page, Scroll};
pub use config::{CollectionConfig, HnswConfig, MAX_DIM, Options, StoreKind, VectorConfig};
pub use database::{Database, Health};
pub use error::{Error, Result};
pub use filter::{Condition, Filter, MinShould, Range, Scalar, Test};
pub use id::PointId;
pub use path::Path;
pub use point::{Parts, Payload, Point, Record, Selector, Vectors};
pub use search::{Found, Hit, Plan, Search};
pub use state::Applied;
