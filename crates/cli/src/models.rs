//! `cairn model`: get, list, describe and remove models.

use std::collections::BTreeMap;

use cairn_embed::{ModelKind, ModelStore, Silent};
use serde_json::json;

use crate::args::Model;
use crate::failure::Outcome;
use crate::out;
use crate::progress::Download;
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, wanted: &Model, as_json: bool) -> Outcome {
    let store = ModelStore::new(settings.models.store.clone());
    match wanted {
        Model::Pull { name } => {
            let path =
                if as_json { store.pull(name, &Silent)? } else { store.pull(name, &Download::new())? };
            if as_json {
                out::json(&json!({ "name": name, "path": path }));
            } else {
                out::line(path.display());
            }
        }
        Model::List => list(&store, as_json)?,
        Model::Show { name } => show(&store, name, as_json)?,
        Model::Remove { name } => {
            let removed = store.remove(name)?;
            if as_json {
                out::json(&json!({ "removed": removed }));
            } else {
                out::line(format!("removed {}", removed.len()));
            }
        }
    }
    Ok(())
}

fn list(store: &ModelStore, as_json: bool) -> Outcome {
    let installed = store.installed()?;
    if as_json {
        let known: Vec<_> = store.known().iter().map(|spec| &spec.name).collect();
        let kinds: BTreeMap<_, _> = store.known().iter().map(|spec| (&spec.name, spec.kind)).collect();
        out::json(&json!({ "known": known, "kinds": kinds, "installed": installed }));
        return Ok(());
    }
    for model in &installed {
        let megabytes = model.bytes as f64 / 1e6;
        let kind = model.kind.name();
        out::line(format!("{}  {kind}  {megabytes:.1} MB  {}", model.name, model.path.display()));
    }
    for spec in store.known() {
        if installed.iter().all(|model| model.name != spec.name) {
            let kind = spec.kind.name();
            out::line(format!(
                "{}  {kind}  not here, get it with `cairn model pull {}`",
                spec.name, spec.name
            ));
        }
    }
    Ok(())
}

fn show(store: &ModelStore, name: &str, as_json: bool) -> Outcome {
    let path = store.find(name)?;
    let spec = store.canonical(name);
    let kind = spec.map(|spec| spec.kind).or_else(|| path.as_deref().map(ModelKind::of));
    let name = spec.map_or(name, |spec| &spec.name);
    if as_json {
        out::json(&json!({ "name": name, "kind": kind, "path": path, "known": spec }));
        return Ok(());
    }
    out::line(name);
    out::line(format!("  kind       {}", kind.map_or("unknown until it is pulled", ModelKind::name)));
    if let Some(spec) = spec {
        out::line(format!("  family     {}", spec.architecture));
        if spec.dim > 0 {
            out::line(format!("  dimensions {}", spec.dim));
        }
        out::line(format!("  tokens     {} at most", spec.max_tokens));
        out::line(format!("  licence    {}", spec.licence));
        let pinned = if spec.is_pinned() { "pinned by checksum" } else { "checked against the hub" };
        out::line(format!("  revision   {}, {pinned}", spec.revision));
    }
    match path {
        Some(path) => out::line(format!("  here       {}", path.display())),
        None => out::line(format!("  not here   get it with `cairn model pull {name}`")),
    }
    Ok(())
}
