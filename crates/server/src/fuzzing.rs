//! Doors for the fuzz targets of `tests/fuzz` to what is private otherwise. They
//! are no part of the interface and may change at any time.

use std::fmt::Debug;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use cairn_rag::Engine;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::Service as _;

use crate::app::App;
use crate::json;
use crate::options::ServerOptions;
use crate::wire::points::ScrollPoints;
use crate::wire::query::legacy::{DiscoverPoints, RecommendPoints, SearchPoints};
use crate::wire::query::{QueryBatch, QueryGroups, QueryPoints};
use crate::wire::writes::{Operations, SetPayload, UpsertPoints};

/// The service without its listener: requests are answered on threads as they are
/// when they come in by the network.
pub struct Service {
    router: Router,
    runtime: Runtime,
}

impl Service {
    /// Over an engine; nothing of it is done before it is asked for.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(engine: Engine) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let app = App::new(Arc::new(engine), ServerOptions::default())?;
        Ok(Self { router: crate::router::router(app), runtime })
    }

    /// The status and the body of the answer.
    ///
    /// # Panics
    /// When the request cannot be written as HTTP, or its answer cannot be read.
    pub fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Body::from(body.to_vec()))
            .expect("method and path are plain");
        let mut router = self.router.clone();
        // As a task of its own, so that its stack is as large as that of a real one.
        let answered = self.runtime.spawn(async move {
            let Ok(answer) = router.call(request).await;
            let status = answer.status().as_u16();
            (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await)
        });
        let (status, body) = self.runtime.block_on(answered).expect("a panic of a handler is caught");
        (status, body.expect("the body is in memory").to_vec())
    }
}

/// The shapes of bodies that are read by `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any JSON.
    Any,
    /// `points/query`.
    Query,
    /// `points/query/batch`.
    QueryBatch,
    /// `points/query/groups`.
    QueryGroups,
    /// `points/search`.
    Search,
    /// `points/recommend`.
    Recommend,
    /// `points/discover`.
    Discover,
    /// `points/scroll`.
    Scroll,
    /// `points`.
    Upsert,
    /// `points/batch`.
    Operations,
    /// `points/payload`.
    SetPayload,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Any,
        Self::Query,
        Self::QueryBatch,
        Self::QueryGroups,
        Self::Search,
        Self::Recommend,
        Self::Discover,
        Self::Scroll,
        Self::Upsert,
        Self::Operations,
        Self::SetPayload,
    ];

    /// What is read of a body that comes in pieces.
    pub fn read(self, pieces: &[&[u8]]) -> Reads {
        match self {
            Self::Any => read::<Value>(pieces),
            Self::Query => read::<QueryPoints>(pieces),
            Self::QueryBatch => read::<QueryBatch>(pieces),
            Self::QueryGroups => read::<QueryGroups>(pieces),
            Self::Search => read::<SearchPoints>(pieces),
            Self::Recommend => read::<RecommendPoints>(pieces),
            Self::Discover => read::<DiscoverPoints>(pieces),
            Self::Scroll => read::<ScrollPoints>(pieces),
            Self::Upsert => read::<UpsertPoints>(pieces),
            Self::Operations => read::<Operations>(pieces),
            Self::SetPayload => read::<SetPayload>(pieces),
        }
    }
}

/// What different readers make of one body, shown as text.
#[derive(Debug)]
pub struct Reads {
    /// Read here as a whole; nothing if that was left to `serde_json`.
    pub whole: Option<String>,
    /// The same of a body in pieces.
    pub pieced: Option<String>,
    /// Read by `serde_json` alone, or why not.
    pub known: Result<String, String>,
}

fn read<T: DeserializeOwned + Debug>(pieces: &[&[u8]]) -> Reads {
    let shown = |value: T| format!("{value:?}");
    let text = pieces.concat();
    let mut collected = json::Collected::new(0);
    pieces.iter().for_each(|piece| collected.push(piece));
    Reads {
        known: serde_json::from_slice(&text).map(shown).map_err(|error| error.to_string()),
        pieced: json::quick(&json::Text::Collected(Box::new(collected))).ok().map(shown),
        whole: json::quick(&json::Text::Whole(text.into())).ok().map(shown),
    }
}

/// The f32 nearest to the number at the beginning of a text, and how long it is.
pub fn nearest_f32(text: &[u8]) -> Option<(f32, usize)> {
    json::nearest_f32(text)
}
