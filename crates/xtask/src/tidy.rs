//! The house rules that a compiler does not check: which crate may depend on
//! which, and in which file or folder each foreign engine stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{Outcome, cargo, root};

/// Each crate and those it may use. Arrows go one way.
const ARROWS: [(&str, &[&str]); 9] = [
    ("cairn-ann", &[]),
    ("cairn-embed", &[]),
    ("cairn-index", &["cairn-ann"]),
    ("cairn-rag", &["cairn-embed", "cairn-index"]),
    ("cairn-server", &["cairn-embed", "cairn-index", "cairn-rag"]),
    ("cairn", &["cairn-embed", "cairn-index", "cairn-rag", "cairn-server"]),
    ("xtask", &[]),
    ("cairn-fuzz", &["cairn-index", "cairn-rag", "cairn-server"]),
    ("cairn-benches", &["cairn-ann", "cairn-embed", "cairn-index", "cairn-rag"]),
];

/// A foreign crate, the packages that may name it as a dependency, and the
/// places in their sources where it may appear.
const WALLS: [(&str, &[&str], &[&str]); 28] = [
    ("hnsw_rs", &["cairn-ann"], &["crates/ann/src/build/"]),
    ("simsimd", &["cairn-ann"], &["crates/ann/src/metric/"]),
    ("sled", &["cairn-index"], &["crates/index/src/store.rs", "crates/index/src/store/nudge.rs"]),
    ("redb", &["cairn-index"], &["crates/index/src/store.rs", "crates/index/src/store/redb.rs"]),
    ("postcard", &["cairn-index"], &["crates/index/src/op.rs", "crates/index/src/id.rs"]),
    ("memmap2", &["cairn-index", "cairn-benches"], &["crates/index/src/bytes.rs"]),
    ("tar", &["cairn-index"], &["crates/index/src/snapshot"]),
    ("rust_stemmers", &["cairn-index"], &["crates/index/src/text/", "crates/index/src/text.rs"]),
    ("jiff", &["cairn-index"], &["crates/index/src/filter/time.rs"]),
    ("candle_core", &["cairn-embed"], &["crates/embed/src/"]),
    ("candle_flash_attn", &["cairn-embed"], &["crates/embed/src/encoder/tensors/flash.rs"]),
    ("candle_nn", &["cairn-embed"], &["crates/embed/src/"]),
    ("candle_transformers", &["cairn-embed"], &["crates/embed/src/"]),
    ("tokenizers", &["cairn-embed"], &["crates/embed/src/"]),
    ("minijinja", &["cairn-embed"], &["crates/embed/src/generator/template.rs"]),
    ("minijinja_contrib", &["cairn-embed"], &["crates/embed/src/generator/template.rs"]),
    ("pulldown_cmark", &["cairn-rag"], &["crates/rag/src/sections.rs", "crates/rag/src/sentences.rs"]),
    ("text_splitter", &["cairn-rag"], &["crates/rag/src/passages.rs"]),
    ("axum", &["cairn-server"], &["crates/server/src/"]),
    ("tokio", &["cairn-server", "cairn"], &["crates/server/src/", "crates/cli/src/"]),
    ("notify", &["cairn"], &["crates/cli/src/changes.rs"]),
    ("flate2", &["cairn"], &["crates/cli/src/export.rs", "crates/cli/src/import/lines.rs"]),
    ("parquet", &["cairn"], &["crates/cli/src/import/parquet.rs", "crates/cli/src/embed/parquet"]),
    ("postgres", &["cairn"], &["crates/cli/src/import/postgres.rs"]),
    ("rusqlite", &["cairn"], &["crates/cli/src/import/chroma.rs"]),
    ("serde_pickle", &["cairn"], &["crates/cli/src/import/chroma/graph.rs"]),
    ("libfuzzer_sys", &["cairn-fuzz"], &[]),
    ("metrics_exporter_prometheus", &["cairn-server"], &["crates/server/src/metrics.rs"]),
];

/// What belongs at the top; anything else needs a reason and a line here.
const TOP: [&str; 15] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "cairn-data",
    "clients",
    "config",
    "crates",
    "deny.toml",
    "docker",
    "rustfmt.toml",
    "target",
    "tests",
];

pub(crate) fn run() -> Outcome {
    let mut faults = top_faults()?;
    faults.extend(arrow_faults(&metadata()?));
    faults.extend(wall_faults()?);
    if faults.is_empty() {
        println!("tidy: arrows and walls hold");
        return Ok(());
    }
    Err(format!("house rules are broken:\n  {}", faults.join("\n  ")))
}

fn metadata() -> Outcome<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The dependencies of each package: ordinary and build ones, not those of tests.
fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let used = list(&package["dependencies"]);
            let used = used.iter().filter(|used| used["kind"] != "dev").map(|used| text(&used["name"]));
            (text(&package["name"]), used.collect())
        })
        .collect()
}

fn arrow_faults(metadata: &Value) -> Vec<String> {
    let dependencies = dependencies(metadata);
    let mut faults = Vec::new();
    for (package, allowed) in ARROWS {
        for used in dependencies.get(package).into_iter().flatten() {
            let ours = dependencies.contains_key(used);
            if ours && !allowed.contains(&used.as_str()) {
                faults.push(format!("{package} must not depend on {used}"));
            }
        }
    }
    for (engine, owners, _) in WALLS {
        let engine = engine.replace('_', "-");
        for (package, used) in &dependencies {
            let named = used.iter().any(|used| used.replace('_', "-") == engine);
            if named && !owners.contains(&package.as_str()) {
                faults.push(format!("{package} must not depend on {engine}"));
            }
        }
    }
    faults
}

fn wall_faults() -> Outcome<Vec<String>> {
    let root = root();
    let mut faults = Vec::new();
    for file in sources(&root.join("crates"))? {
        let shown = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        // The rules themselves name every engine.
        if shown.starts_with("crates/xtask/") || !shown.contains("/src/") {
            continue;
        }
        let text = fs::read_to_string(&file).map_err(|error| format!("{shown}: {error}"))?;
        faults.extend(faults_of(&shown, &text));
    }
    Ok(faults)
}

fn faults_of(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        for (engine, _, places) in WALLS {
            if uses(code, engine) && !places.iter().any(|place| file.starts_with(place)) {
                faults.push(format!("{file}:{number}: {engine} belongs in {}", places.join(" or ")));
            }
        }
    }
    faults
}

/// Whether code names a crate: `engine::…` or `use engine`, not a longer word.
fn uses(code: &str, engine: &str) -> bool {
    let mut from = 0;
    while let Some(found) = code[from..].find(engine) {
        let at = from + found;
        let before = code[..at].chars().next_back();
        let after = &code[at + engine.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"');
        if whole
            && (after.starts_with("::") || (code.trim_start().starts_with("use ") && after.starts_with(';')))
        {
            return true;
        }
        from = at + engine.len();
    }
    false
}

fn sources(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn top_faults() -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root()).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP.contains(&name.as_str()) {
            faults.push(format!("{name} does not belong at the top"));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_outside_its_file_is_found() {
        assert_eq!(faults_of("crates/index/src/shard.rs", "use sled::Db;\n").len(), 1);
        assert_eq!(faults_of("crates/index/src/shard.rs", "let x = sled::open(p);\n").len(), 1);
        assert!(faults_of("crates/index/src/store.rs", "use sled::Db;\n").is_empty());
        assert!(
            faults_of("crates/index/src/shard.rs", "// sled::Db is elsewhere\nlet bobsled::x;").is_empty()
        );
    }

    #[test]
    fn an_arrow_against_the_house_is_found() {
        let package = |name: &str, used: &[&str]| {
            let used: Vec<Value> =
                used.iter().map(|name| serde_json::json!({ "name": name, "kind": null })).collect();
            serde_json::json!({ "name": name, "dependencies": used })
        };
        let packages =
            [package("cairn-ann", &["cairn-index"]), package("cairn-index", &["cairn-ann", "tokio"])];
        let faults = arrow_faults(&serde_json::json!({ "packages": packages }));
        assert_eq!(
            faults,
            ["cairn-ann must not depend on cairn-index", "cairn-index must not depend on tokio"]
        );
    }
}
