//! Vector stores in the OpenAI shape: a store is a collection of texts, a file in
//! it a document of that collection.
//!
//! What other endpoints added is seen here and the other way round: the id of a
//! store is the collection's name, that of a file the document's id. A store's
//! own name and metadata lie in the collection's metadata, a file's name, size
//! and attributes in that of its passages. What is still being added, what could
//! not be, and when a store was used last are records of their own.

mod adding;
pub(crate) mod attached;
mod attaching;
pub(crate) mod batches;
mod chunking;
mod filters;
mod listed;
mod pending;
pub(crate) mod search;
mod shape;
#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::response::Response;
use cairn_index::ConfigChange;
use cairn_rag::Engine;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::adding::resume;
pub(crate) use self::attaching::Attaching;
use self::chunking::strategy;
pub(crate) use self::filters::AttributeFilter;
pub(crate) use self::listed::Listed;
use self::pending::Wanted;
pub(crate) use self::search::{Ranking, filename, result, results};
pub(crate) use self::shape::{Item, Paging, refusal, shaped};
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Params};
use crate::error::{ApiError, ApiResult};
use crate::files::now;

/// The key of a passage's metadata that says what file it is of.
pub(crate) const FILE: &str = "_file";
/// The key of a collection's metadata that says what store it is.
const STORE: &str = "vector_store";

/// A vector store to be made, or what is to change about one.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StoreInput {
    #[serde(default)]
    name: Option<String>,
    /// Files to add at once.
    #[serde(default)]
    file_ids: Vec<String>,
    /// `{"anchor": "last_active_at", "days": 1 to 365}`
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    #[allow(clippy::option_option)] // Nothing said, `null`, or a time.
    expires_after: Option<Option<ExpiresAfter>>,
    /// `{"type": "auto"}`, or `{"type": "static", "static": {"max_chunk_size_tokens":
    /// 100 to 4096, "chunk_overlap_tokens": up to half of that}}`: how files are cut
    /// that do not say otherwise. It stays as it was made.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chunking_strategy: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// Tells `null`, which takes away what there is, from nothing said.
#[allow(clippy::option_option)]
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<ExpiresAfter>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ExpiresAfter {
    anchor: Anchor,
    days: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Anchor {
    LastActiveAt,
}

/// What a collection's metadata says of its store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Store {
    name: Option<String>,
    created_at: u64,
    expires_after: Option<ExpiresAfter>,
    metadata: Map<String, Value>,
}

impl Store {
    /// Of a collection that is not empty of texts.
    fn of(engine: &Engine, id: &str) -> ApiResult<Self> {
        engine.about(id).map_err(|error| match error {
            cairn_rag::Error::NoTextModel { .. }
            | cairn_rag::Error::Index(cairn_index::Error::UnknownCollection { .. }) => missing(id),
            error => error.into(),
        })?;
        let config = engine.database().collection(id)?.config();
        let kept = config.metadata.get(STORE).and_then(|kept| Self::deserialize(kept).ok());
        Ok(kept.unwrap_or_default())
    }

    fn keep(&self, engine: &Engine, id: &str) -> ApiResult<()> {
        let collection = engine.database().collection(id)?;
        let mut metadata = collection.config().metadata.clone();
        metadata.insert(STORE.to_owned(), serde_json::to_value(self).map_err(ApiError::internal)?);
        collection.configure(ConfigChange::Metadata(metadata))?;
        Ok(())
    }

    /// Seconds since 1970 at which it has not been used for too long.
    fn expires_at(&self, app: &App, id: &str) -> Option<u64> {
        self.expires_after.map(|after| self.last_active(app, id) + after.days * 86_400)
    }

    fn last_active(&self, app: &App, id: &str) -> u64 {
        app.attaching.last_active(id, self.expires_after.is_some())
    }

    /// Refuses it where it has not been used for too long, and notes a use.
    fn used(&self, app: &App, id: &str) -> ApiResult<()> {
        if self.expires_at(app, id).is_some_and(|at| at <= now()) {
            return Err(ApiError::not_found(format!(
                "Vector store '{id}' has expired, give it another expires_after at /v1/vector_stores/{id}"
            )));
        }
        app.attaching.touch(id, self.expires_after.is_some());
        Ok(())
    }

    fn body(&self, app: &App, id: &str) -> ApiResult<Value> {
        let collection = app.engine.database().collection(id)?;
        let bytes = collection.stored_bytes();
        let counts = app.attaching.counts(id);
        let completed = app.listed.count(app, id)?;
        let expires_at = self.expires_at(app, id);
        let status = match expires_at {
            Some(at) if at <= now() => "expired",
            _ if counts.in_progress > 0 => "in_progress",
            _ => "completed",
        };
        Ok(json!({
            "id": id, "object": "vector_store", "created_at": self.created_at,
            "name": self.name.as_deref().unwrap_or(id),
            "usage_bytes": bytes.vectors + bytes.payloads,
            "file_counts": {
                "in_progress": counts.in_progress, "completed": completed, "failed": counts.failed,
                "cancelled": counts.cancelled,
                "total": counts.in_progress + completed + counts.failed + counts.cancelled,
            },
            "status": status, "expires_after": self.expires_after, "expires_at": expires_at,
            "last_active_at": self.last_active(app, id), "metadata": self.metadata,
        }))
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found(format!("Vector store with id '{id}' not found."))
}

/// Refuses a store that is none or has not been used for too long, and notes a use.
fn used(app: &App, id: &str) -> ApiResult<()> {
    Store::of(&app.engine, id)?.used(app, id)
}

/// The store of a collection, by the collection's name or an alias; none where it
/// is no store, or is not there, which is for others to refuse.
fn store_of(app: &App, name: &str) -> Option<(String, Store)> {
    let collection = app.engine.database().collection(name).ok()?;
    let config = collection.config();
    let store = config.metadata.get(STORE).and_then(|kept| Store::deserialize(kept).ok())?;
    Some((collection.name().to_owned(), store))
}

/// As `used`, for a collection that may be no store.
pub(crate) fn in_use(app: &App, name: &str) -> ApiResult<()> {
    store_of(app, name).map_or(Ok(()), |(id, store)| store.used(app, &id))
}

/// Whether a collection is a store that has not been used for too long.
pub(crate) fn has_expired(app: &App, name: &str) -> bool {
    let at = store_of(app, name).and_then(|(id, store)| store.expires_at(app, &id));
    at.is_some_and(|at| at <= now())
}

fn checked(input: &StoreInput) -> ApiResult<()> {
    if let Some(after) = input.expires_after.flatten().filter(|after| !(1..=365).contains(&after.days)) {
        return Err(ApiError::bad_request(format!(
            "expires_after.days must be 1 to 365, got {}",
            after.days
        )));
    }
    if input.metadata.as_ref().is_some_and(|metadata| metadata.len() > 16) {
        return Err(ApiError::bad_request("metadata has more than 16 keys"));
    }
    Ok(())
}

/// Makes a vector store, which is a collection of texts.
#[utoipa::path(
    post, path = "/v1/vector_stores", tag = "openai", operation_id = "create_store",
    request_body = StoreInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn create(
    State(app): State<App>,
    access: Access,
    input: Result<Input<StoreInput>, ApiError>,
) -> Response {
    let made = async move {
        let Input(input) = input?;
        access.check_global(Level::Manage)?;
        checked(&input)?;
        let chunk = strategy(input.chunking_strategy.as_ref())?;
        let wanted = input.file_ids.into_iter().map(Wanted::plain).collect::<Vec<_>>();
        let shared = app.clone();
        app.write(move |engine| {
            for file in &wanted {
                shared.files.get(&file.file_id)?;
            }
            let id = format!("vs_{}", Uuid::new_v4().simple());
            engine.make_text_collection(&id, chunk)?;
            let store = Store {
                name: input.name,
                created_at: now(),
                expires_after: input.expires_after.flatten(),
                metadata: input.metadata.unwrap_or_default(),
            };
            store.keep(engine, &id)?;
            store.used(&shared, &id)?;
            adding::start(&shared, &id, wanted, None)?;
            store.body(&shared, &id)
        })
        .await
    };
    shaped(made.await)
}

/// The collections of texts, as vector stores.
#[utoipa::path(
    get, path = "/v1/vector_stores", tag = "openai", operation_id = "list_stores",
    params(Paging),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    access: Access,
    paging: Result<Params<Paging>, ApiError>,
) -> Response {
    let listed = async move {
        let Params(paging) = paging?;
        let shared = app.clone();
        app.write(move |engine| {
            let mut items = Vec::new();
            let names = engine.database().collections().into_iter();
            for id in names.filter(|name| access.allows(name, Level::Read)) {
                let Ok(store) = Store::of(engine, &id) else { continue };
                items.push(Item { created_at: store.created_at, body: store.body(&shared, &id)?, id });
            }
            paging.page(items, 20, 100)
        })
        .await
    };
    shaped(listed.await)
}

/// A vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}", tag = "openai", operation_id = "get_store",
    params(("store" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn get(State(app): State<App>, access: Access, At(id): At<String>) -> Response {
    let found = async move {
        access.check(&id, Level::Read)?;
        let shared = app.clone();
        app.write(move |engine| Store::of(engine, &id)?.body(&shared, &id)).await
    };
    shaped(found.await)
}

/// Changes the name, metadata or expiry of a vector store.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}", tag = "openai", operation_id = "change_store",
    params(("store" = String, Path)),
    request_body = StoreInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn change(
    State(app): State<App>,
    access: Access,
    At(id): At<String>,
    input: Result<Input<StoreInput>, ApiError>,
) -> Response {
    let changed = async move {
        let Input(input) = input?;
        access.check(&id, Level::Write)?;
        checked(&input)?;
        if input.chunking_strategy.is_some() {
            return Err(ApiError::bad_request(
                "chunking_strategy: a store cuts its files as it was made to, give it with a file",
            ));
        }
        let shared = app.clone();
        app.write(move |engine| {
            let mut store = Store::of(engine, &id)?;
            store.name = input.name.or(store.name);
            store.expires_after = input.expires_after.unwrap_or(store.expires_after);
            store.metadata = input.metadata.unwrap_or(store.metadata);
            store.keep(engine, &id)?;
            shared.attaching.touch(&id, store.expires_after.is_some());
            store.body(&shared, &id)
        })
        .await
    };
    shaped(changed.await)
}

/// Deletes a vector store with all that is in it; uploaded files stay.
#[utoipa::path(
    delete, path = "/v1/vector_stores/{store}", tag = "openai", operation_id = "delete_store",
    params(("store" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn delete(State(app): State<App>, access: Access, At(id): At<String>) -> Response {
    let deleted = async move {
        access.check(&id, Level::Manage)?;
        let shared = app.clone();
        app.write(move |engine| {
            Store::of(engine, &id)?;
            engine.database().drop_collection(&id)?;
            shared.attaching.forget(&id)?;
            Ok::<_, ApiError>(json!({ "id": id, "object": "vector_store.deleted", "deleted": true }))
        })
        .await
    };
    shaped(deleted.await)
}
