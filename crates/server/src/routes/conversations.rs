//! Conversations about a collection.

use axum::extract::State;
use cairn_rag::Conversation;

use crate::app::App;
use crate::body::{At, Reply, Started};
use crate::error::ApiResult;

/// Starts a conversation; its id goes into questions.
#[utoipa::path(
    post, path = "/collections/{collection}/conversations", tag = "text",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn start(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Conversation>> {
    let conversation = app.write(move |engine| engine.start_conversation(&name)).await?;
    Ok(started.reply(conversation))
}

/// What was said in a conversation so far.
#[utoipa::path(
    get, path = "/collections/{collection}/conversations/{id}",
    tag = "text", operation_id = "get_conversation",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    At((name, id)): At<(String, String)>,
) -> ApiResult<Reply<Conversation>> {
    let conversation = app.write(move |engine| engine.conversation(&name, &id)).await?;
    Ok(started.reply(conversation))
}

/// Deletes a conversation.
#[utoipa::path(
    delete, path = "/collections/{collection}/conversations/{id}",
    tag = "text", operation_id = "delete_conversation",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<bool>), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At((name, id)): At<(String, String)>,
) -> ApiResult<Reply<bool>> {
    app.write(move |engine| engine.delete_conversation(&name, &id)).await?;
    Ok(started.reply(true))
}
