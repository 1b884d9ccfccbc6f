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
//!
//! A filter is written as JSON, or built from [`Condition`]s. With an index on
//! the field it costs a lookup, without one a look at each payload:
//!
//! ```
//! # use cairn_index::{CollectionConfig, Database, FieldKind, Metric, Point, Search};
//! # use serde_json::json;
//! # let dir = tempfile::tempdir().unwrap();
//! # let db = Database::open(dir.path())?;
//! let config = CollectionConfig::new(2, Metric::Dot).with_index("year", FieldKind::Integer.into())?;
//! let papers = db.create_collection("papers", config)?;
//! papers.upsert(vec![
//!     Point::new(1, vec![1.0, 0.0]).with_payload(json!({"year": 1998}))?,
//!     Point::new(2, vec![0.5, 0.5]).with_payload(json!({"year": 2016}))?,
//! ])?;
//! let recent = serde_json::from_value(json!({"must": [{"key": "year", "range": {"gte": 2010}}]})).unwrap();
//! let found = papers.search(&Search::nearest(vec![1.0, 0.0]).filter(recent))?;
//! assert_eq!(found.hits.len(), 1);
//! # Ok::<(), cairn_index::Error>(())
//! ```
//!
//! Words and meaning together: BM25 is a sparse vector with the idf modifier, and
//! a [`QueryRequest`] fuses what several searches found:
//!
//! ```
//! # use cairn_index::{Bm25, Bm25Options, CollectionConfig, Database, Metric, Modifier, Point};
//! # use cairn_index::{Prefetch, Query, QueryRequest};
//! # let dir = tempfile::tempdir().unwrap();
//! # let db = Database::open(dir.path())?;
//! let config = CollectionConfig::new(2, Metric::Cosine).with_sparse("words", Modifier::Idf);
//! let docs = db.create_collection("docs", config)?;
//! let bm25 = Bm25::new(&Bm25Options::default())?;
//! for (id, text, vector) in [(1, "a pile of stones", [0.9, 0.1]), (2, "a river bed", [0.2, 0.8])] {
//!     let point = Point::new(id, vector.to_vec()).with_vector("words", bm25.document(text));
//!     docs.upsert(vec![point])?;
//! }
//! let request = QueryRequest::new(Query::rrf())
//!     .prefetch(Prefetch::new(Query::nearest(vec![1.0, 0.0])))
//!     .prefetch(Prefetch::new(Query::nearest(bm25.query("stones"))).using("words"));
//! assert_eq!(docs.query(&request)?[0].id, 1.into());
//! # Ok::<(), cairn_index::Error>(())
//! ```
//!
//! A snapshot is a folder of hard links, or one file for another machine:
//!
//! ```
//! # use cairn_index::{CollectionConfig, Database, Metric, Point};
//! # let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
//! # let db = Database::open(dir.path())?;
//! # let stones = db.create_collection("stones", CollectionConfig::new(1, Metric::Dot))?;
//! # stones.upsert(vec![Point::new(1, vec![1.0])])?;
//! let mut packed = Vec::new();
//! stones.create_snapshot()?.pack(&mut packed)?;
//! let other = Database::open(elsewhere.path())?;
//! assert_eq!(other.restore_from("stones", packed.as_slice())?.count(None)?, 1);
//! # Ok::<(), cairn_index::Error>(())
//! ```
//!
//! # What calls cost
//!
//! `n` points, `d` dimensions; a *part* is a segment file or the points that are
//! in none yet, at most [`Options::seal_points`] of them.
//!
//! | call | time | durable when it returns |
//! |---|---|---|
//! | [`Database::open`] | segments + log since the last seal; not `n` | |
//! | [`Collection::upsert`], [`delete`](Collection::delete) by id | the batch, one sync of the disk shared by all writers | yes, see [`Durability`] |
//! | the same by filter, payload updates by filter | the matches, each written again | yes |
//! | [`Collection::search`] with a graph | about `ef · log n` distances in each part | |
//! | without a graph, or exact | `n · d`, on all cores | |
//! | filtered | as above, over the matches or through the graph, whichever is expected to be faster; `explain` tells | |
//! | sparse | postings of the query's positions, those skipped that cannot be among the best | |
//! | [`Collection::get`] | a hash lookup in each part | |
//! | [`Collection::scroll`] | the page, plus what the filter passes over | |
//! | [`Collection::count`] | parts; with a filter, index lookups or payloads | |
//! | [`Collection::create_snapshot`] | a seal and a hard link a file | yes |
//! | [`Collection::compact`] | writes all live points once, graphs are built again | yes |
//!
//! # Memory
//!
//! Points in segments are mapped, and the system keeps in memory what is used.
//! Per point a segment has the vectors (`d` numbers), a graph of 8 `m` bytes and
//! a little, 44 to 52 bytes of ids, versions and places, and the payload as JSON.
//! Held in memory are two bits a point and one for each vector of it, and the
//! points not sealed yet.

mod bits;
mod bm25;
mod bytes;
mod cancel;
mod catalogue;
mod chunked;
mod clocks;
mod collection;
mod config;
mod database;
mod elements;
mod error;
mod fields;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod growing;
mod id;
mod journal;
mod label;
mod lines;
mod maintain;
mod op;
mod owner;
mod part;
mod path;
mod picked;
mod plan;
mod point;
mod queried;
mod query;
mod reading;
mod schema;
mod search;
mod segment;
mod shard;
mod similarity;
mod snapshot;
mod sparse;
mod state;
mod store;
mod text;
mod vector;
mod view;
mod worded;

pub use cairn_ann::{Compression, Metric};

pub use bm25::{Bm25, Bm25Options};
pub use cancel::Cancel;
pub use collection::{Collection, Info, Page, Scroll, StoredBytes};
pub use config::{
    Builder, Codes, CollectionConfig, ConfigChange, Datatype, Durability, HnswConfig, MAX_DIM, Modifier,
    Options, SparseConfig, StoreKind, VectorConfig,
};
pub use database::{Database, Health};
pub use error::{Error, Result};
pub use fields::{FacetValue, OrderValue};
pub use filter::geo::{GeoBox, GeoPoint, GeoPolygon, GeoRadius, GeoRing};
pub use filter::slice::Slice;
pub use filter::time::DateTime;
pub use filter::{Condition, Filter, MinShould, Range, Scalar, Test};
pub use id::PointId;
pub use label::{LABELS, WrittenId, with_labels};
pub use op::{Selection, When, WriteMode};
pub use path::Path;
pub use plan::Explained;
pub use point::{Expiry, Parts, Payload, Point, Record, Selector};
pub use query::{
    ContextPair, Decay, Direction, Expression, FacetHit, FacetRequest, FeedbackExample, FeedbackWeights,
    Formula, Fusion, Group, GroupId, GroupLookup, GroupRequest, LookupFrom, MatrixOffsets, MatrixPair,
    MatrixRequest, MatrixResult, Measured, Mmr, OrderBy, Prefetch, Query, QueryHit, QueryRequest,
    SearchParams, Strategy, Target, WithLookup, WordsQuery,
};
pub use reading::Reading;
pub use schema::{
    CommonOptions, FieldKind, FieldOptions, FieldSchema, IntegerOptions, KeywordOptions, PrincipalOptions,
    Schema, TenantOptions,
};
pub use search::{Found, Hit, Plan, Search, Step};
pub use shard::Damage;
pub use snapshot::{Snapshot, StorageSnapshot};
pub use state::Applied;
pub use text::{Scoring, ScoringKind, Stemmer, Stopwords, TextOptions, Tokenizer};
pub use vector::{MultiVector, SparseVector, Vector, Vectors};
