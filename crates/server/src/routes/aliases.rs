//! Other names for collections.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult};

/// Changes of aliases, all at once.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChangeAliases {
    actions: Vec<AliasAction>,
}

// The names are those of the API.
#[allow(clippy::enum_variant_names)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AliasAction {
    CreateAlias { collection_name: String, alias_name: String },
    DeleteAlias { alias_name: String },
    RenameAlias { old_alias_name: String, new_alias_name: String },
}

/// Aliases with their collections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Aliases {
    aliases: Vec<Alias>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Alias {
    alias_name: String,
    collection_name: String,
}

/// Creates, removes and renames aliases; readers see all changes or none.
#[utoipa::path(
    post, path = "/collections/aliases", tag = "aliases", operation_id = "change_aliases",
    request_body = ChangeAliases,
    responses((status = 200, body = Reply<bool>), (status = "4XX"))
)]
pub(crate) async fn change(
    State(app): State<App>,
    started: Started,
    Input(body): Input<ChangeAliases>,
) -> ApiResult<Reply<bool>> {
    app.write(move |engine| {
        let db = engine.database();
        // What each name means after the actions before.
        let mut aliases = db.aliases();
        let mut changes: Vec<(String, Option<String>)> = Vec::new();
        for action in body.actions {
            match action {
                AliasAction::CreateAlias { collection_name, alias_name } => {
                    aliases.insert(alias_name.clone(), collection_name.clone());
                    changes.push((alias_name, Some(collection_name)));
                }
                AliasAction::DeleteAlias { alias_name } => {
                    aliases.remove(&alias_name);
                    changes.push((alias_name, None));
                }
                AliasAction::RenameAlias { old_alias_name, new_alias_name } => {
                    let Some(collection) = aliases.remove(&old_alias_name) else {
                        let text = format!("Alias {old_alias_name} does not exists!");
                        return Err(ApiError::not_found(text));
                    };
                    aliases.insert(new_alias_name.clone(), collection.clone());
                    changes.push((old_alias_name, None));
                    changes.push((new_alias_name, Some(collection)));
                }
            }
        }
        let changes: Vec<(&str, Option<&str>)> =
            changes.iter().map(|(alias, collection)| (alias.as_str(), collection.as_deref())).collect();
        Ok(db.set_aliases(&changes)?)
    })
    .await?;
    Ok(started.reply(true))
}

fn seen(app: &App, access: &Access, wanted: impl Fn(&str) -> bool) -> Aliases {
    let aliases = app.engine.database().aliases().into_iter();
    let seen = aliases.filter(|(_, collection)| wanted(collection) && access.allows(collection, Level::Read));
    Aliases {
        aliases: seen.map(|(alias_name, collection_name)| Alias { alias_name, collection_name }).collect(),
    }
}

/// All aliases.
#[utoipa::path(
    get, path = "/aliases", tag = "aliases", operation_id = "list_aliases",
    responses((status = 200, body = Reply<Aliases>), (status = "4XX"))
)]
pub(crate) async fn list(State(app): State<App>, started: Started, access: Access) -> Reply<Aliases> {
    started.reply(seen(&app, &access, |_| true))
}

/// The aliases of a collection.
#[utoipa::path(
    get, path = "/collections/{collection}/aliases", tag = "aliases",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Aliases>), (status = "4XX"))
)]
pub(crate) async fn of_collection(
    State(app): State<App>,
    started: Started,
    access: Access,
    At(name): At<String>,
) -> ApiResult<Reply<Aliases>> {
    let collection = app.engine.database().collection(&name)?;
    Ok(started.reply(seen(&app, &access, |of| of == collection.name())))
}
