//! `cairn model`: get, list, describe, remove, run and distill models. How fast one
//! is is measured in `bench`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_embed::{
    Cancel, DistillOptions, Encoder, EncoderOptions, ModelKind, ModelSpec, ModelStore, Precision, Silent,
};
use serde_json::json;

use crate::args::{Distill, Model};
use crate::bench;
use crate::failure::Outcome;
use crate::generation;
use crate::out;
use crate::progress::{Download, counting};
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, wanted: &Model, as_json: bool) -> Outcome {
    let store = ModelStore::new(settings.models.store.clone());
    match wanted {
        Model::Pull { name } => {
            let path = pull(&store, name, as_json)?;
            if as_json {
                out::json(&json!({ "name": name, "path": path }));
            } else {
                out::line(path.display());
            }
        }
        Model::Run(wanted) => generation::run(settings, &store, wanted, as_json)?,
        Model::Distill(wanted) => distill(settings, &store, wanted, as_json)?,
        Model::Bench(wanted) => bench::run(settings, wanted, as_json)?,
        Model::List => list(settings, &store, as_json)?,
        Model::Show { name } => show(settings, &store, name, as_json)?,
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

fn pull(store: &ModelStore, name: &str, as_json: bool) -> Outcome<PathBuf> {
    Ok(if as_json { store.pull(name, &Silent)? } else { store.pull(name, &Download::new())? })
}

fn distill(settings: &Settings, store: &ModelStore, wanted: &Distill, as_json: bool) -> Outcome {
    let path = pull(store, &wanted.name, as_json)?;
    let spec = store.canonical(&wanted.name);
    let name = spec.map_or_else(|| name_of(&wanted.name, &path), |spec| spec.name.clone());
    let licence = spec.map(|spec| spec.licence.clone()).or_else(|| licence_of(&path));
    let short = name.rsplit('/').next().unwrap_or(&name);
    let out = wanted.out.clone().unwrap_or_else(|| format!("{short}-static-{}", wanted.dim).into());

    // It is done once; what a shorter precision saves does not matter.
    let options = EncoderOptions { precision: Precision::F32, ..settings.models.encoder.clone() };
    let encoder = Encoder::load(&path, &options)?;
    let options = DistillOptions { dim: wanted.dim, name: name.clone(), licence };
    let bar = counting("tokens", 0);
    let mut progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let made = encoder.distill(&out, &options, &mut progress, &Cancel::new())?;
    bar.finish_and_clear();
    if as_json {
        let (dim, tokens, explained) = (made.dim, made.tokens, made.explained);
        out::json(
            &json!({ "name": name, "path": out, "dim": dim, "tokens": tokens, "explained": explained }),
        );
    } else {
        let percent = 100.0 * made.explained;
        out::note(format!(
            "  {} tokens, {} dimensions with {percent:.1} % of the variance",
            made.tokens, made.dim
        ));
        out::line(out.display());
    }
    Ok(())
}

/// The name of a model that is not known: of a folder its last part.
fn name_of(name: &str, path: &Path) -> String {
    let last = path.file_name().filter(|_| path == Path::new(name));
    last.map_or_else(|| name.to_owned(), |last| last.to_string_lossy().into_owned())
}

/// The licence that the head of a model's README names.
fn licence_of(folder: &Path) -> Option<String> {
    let readme = std::fs::read_to_string(folder.join("README.md")).ok()?;
    let head = readme.strip_prefix("---\n")?.split("\n---").next()?;
    let licence = head.lines().find_map(|line| line.strip_prefix("license:"))?.trim();
    (!licence.is_empty()).then(|| licence.to_owned())
}

fn list(settings: &Settings, store: &ModelStore, as_json: bool) -> Outcome {
    let installed = store.installed()?;
    let remote = &settings.models.remote;
    if as_json {
        let known: Vec<_> = store.known().iter().map(|spec| &spec.name).collect();
        let kinds: BTreeMap<_, _> = store.known().iter().map(|spec| (&spec.name, spec.kind)).collect();
        let built_in = store.known().iter().filter(|spec| spec.built_in).map(|spec| &spec.name);
        let built_in: Vec<_> = built_in.collect();
        let several = store.known().iter().filter(|spec| !spec.also.is_empty());
        let also: BTreeMap<_, _> = several.map(|spec| (&spec.name, &spec.also)).collect();
        let remote: BTreeMap<_, _> = remote.iter().map(|remote| (&remote.name, &remote.url)).collect();
        out::json(&json!({
            "known": known, "kinds": kinds, "also": also, "installed": installed, "built_in": built_in,
            "remote": remote
        }));
        return Ok(());
    }
    for model in &installed {
        let megabytes = model.bytes as f64 / 1e6;
        let kind = named(&model.kinds());
        out::line(format!("{}  {kind}  {megabytes:.1} MB  {}", model.name, model.path.display()));
    }
    for spec in store.known() {
        let kind = named(&spec.kinds());
        if spec.built_in {
            out::line(format!("{}  {kind}  built in", spec.name));
        } else if installed.iter().all(|model| model.name != spec.name) {
            out::line(format!(
                "{}  {kind}  not here, get it with `cairn model pull {}`",
                spec.name, spec.name
            ));
        }
    }
    for remote in remote {
        out::line(format!("{}  embedding  behind {}", remote.name, remote.url));
    }
    Ok(())
}

/// The kinds of a model, the main one first: `embedding+sparse`.
fn named(kinds: &[ModelKind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join("+")
}

fn show(settings: &Settings, store: &ModelStore, name: &str, as_json: bool) -> Outcome {
    if let Some(remote) = settings.models.remote.iter().find(|remote| remote.name == name) {
        if as_json {
            out::json(&json!({ "name": name, "kind": ModelKind::Embedding, "remote": remote }));
        } else {
            out::line(name);
            out::line("  kind       embedding");
            out::line(format!("  behind     {}", remote.url));
        }
        return Ok(());
    }
    let path = store.find(name)?;
    let spec = store.canonical(name);
    let kinds = spec.map(ModelSpec::kinds).or_else(|| path.as_deref().map(ModelKind::all_of));
    let kinds = kinds.unwrap_or_default();
    let name = spec.map_or(name, |spec| &spec.name);
    if as_json {
        let (kind, also) = (kinds.first(), kinds.get(1..).unwrap_or_default());
        out::json(&json!({ "name": name, "kind": kind, "also": also, "path": path, "known": spec }));
        return Ok(());
    }
    out::line(name);
    let kind = if kinds.is_empty() { "unknown until it is pulled".to_owned() } else { named(&kinds) };
    out::line(format!("  kind       {kind}"));
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
        None if spec.is_some_and(|spec| spec.built_in) => {
            out::line("  built in   needs no download; pulling it writes its files into the cache");
        }
        None => out::line(format!("  not here   get it with `cairn model pull {name}`")),
    }
    Ok(())
}
