//! What each command does.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_embed::{ModelStore, Silent};
use cairn_index::{Database, Filter};
use cairn_rag::{Added, Answer, Engine, Format, TextSearch};
use clap::CommandFactory;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::args::{Add, Args, Command, Find, Health, Model, Serve};
use crate::documents::Found;
use crate::progress::{Download, counting};
use crate::settings::{LogFormat, Settings};
use crate::{demo, out};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("configuration: {0}; `cairn config` prints the keys there are")]
    Settings(String),
    #[error("the filter is not valid: {0}")]
    Filter(String),
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("found nothing to add: only .md, .txt and .jsonl files are read from folders")]
    NothingToAdd,
    #[error("no file could be added, see the reasons above")]
    AllSkipped,
    #[error("cannot listen on {address}, choose another --port or --host")]
    Listen { address: String, source: std::io::Error },
    #[error("the server stopped")]
    Serve(#[source] std::io::Error),
    #[error("the server at {url} is not ready: {reason}")]
    NotReady { url: String, reason: String },
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub(crate) fn run(args: Args) -> Outcome {
    let mut settings = Settings::load(args.config.as_deref())?;
    if let Some(dir) = args.data_dir {
        settings.data_dir = dir;
    }
    start_logging(&settings, matches!(args.command, Command::Serve(_)))?;
    match args.command {
        Command::Serve(listen) => {
            apply(&mut settings, &listen);
            serve(&Arc::new(open(&settings)?), &settings)
        }
        Command::Add(wanted) => add(&settings, &wanted, args.json),
        Command::Search(wanted) => search(&settings, &wanted, args.json),
        Command::Ask(wanted) => ask(&settings, &wanted, args.json),
        Command::Model(wanted) => model(&settings, &wanted, args.json),
        Command::Demo(wanted) => {
            apply(&mut settings, &wanted.listen);
            demo::run(&settings, wanted.serve)
        }
        Command::Health(wanted) => health(&wanted),
        Command::Config => {
            config(&settings, args.json);
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "cairn", &mut script);
            out::write(&script);
            Ok(())
        }
    }
}

fn apply(settings: &mut Settings, listen: &Serve) {
    settings.server.host = listen.host.unwrap_or(settings.server.host);
    settings.server.port = listen.port.unwrap_or(settings.server.port);
}

/// Commands other than `serve` speak through their output, so only what went
/// wrong is logged there.
fn start_logging(settings: &Settings, serving: bool) -> Outcome {
    let level = if serving { settings.log.level.as_str() } else { "warn" };
    let filter =
        EnvFilter::try_new(level).map_err(|error| Failure::Settings(format!("log.level: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

pub(crate) fn open(settings: &Settings) -> Outcome<Engine> {
    let db = Database::open_with(&settings.data_dir, settings.index.clone())?;
    Ok(Engine::new(db, settings.models.clone(), settings.rag.clone()))
}

pub(crate) fn serve(engine: &Arc<Engine>, settings: &Settings) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let listener = cairn_server::listen(&settings.server).await.map_err(|source| Failure::Listen {
            address: format!("{}:{}", settings.server.host, settings.server.port),
            source,
        })?;
        let address = listener.local_addr().map_err(Failure::Serve)?;
        tracing::info!(%address, data_dir = %settings.data_dir.display(), "serving");
        out::note(format!(
            "cairn serves http://{address} from {} (ctrl-c stops it)",
            settings.data_dir.display()
        ));
        cairn_server::serve(listener, engine.clone(), settings.server.clone(), stop_signal())
            .await
            .map_err(Failure::Serve)
    })?;
    // Work that a timed-out request left behind must not hold up the exit;
    // every acknowledged write is on the disk.
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(())
}

async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

/// Loads the model with progress shown, so that no later step waits for it in
/// silence.
pub(crate) fn load_default_model(engine: &Engine) -> Outcome {
    engine.load_model(&engine.default_model(), &Download::new())?;
    Ok(())
}

fn add(settings: &Settings, wanted: &Add, as_json: bool) -> Outcome {
    let found = Found::read(&wanted.paths, wanted.format.map(Format::from))?;
    for skipped in &found.skipped {
        out::note(format!("skipped {}: {}", skipped.path.display(), skipped.reason));
    }
    if found.count() == 0 {
        return Err(if found.skipped.is_empty() { Failure::NothingToAdd } else { Failure::AllSkipped }.into());
    }
    let engine = open(settings)?;
    load_default_model(&engine)?;
    let added = add_found(&engine, &wanted.collection, &found)?;
    if as_json {
        let skipped: Vec<_> = found
            .skipped
            .iter()
            .map(|skipped| json!({ "path": skipped.path, "reason": skipped.reason }))
            .collect();
        out::json(&json!({ "added": added, "skipped": skipped }));
    } else {
        out::line(format!(
            "{} documents added to `{}`, {} unchanged, {} files skipped: {} passages, {} tokens",
            added.documents,
            wanted.collection,
            added.unchanged,
            found.skipped.len(),
            added.passages,
            added.tokens
        ));
    }
    Ok(())
}

pub(crate) fn add_found(engine: &Engine, collection: &str, found: &Found) -> Outcome<Added> {
    let bar = counting("embedding documents", found.count());
    let mut added = Added::default();
    for (documents, format) in [(&found.markdown, Format::Markdown), (&found.text, Format::Text)] {
        let before = added.documents + added.unchanged;
        let more = engine
            .add(collection, documents, format, &mut |done| bar.set_position((before + done) as u64))?;
        added.documents += more.documents;
        added.unchanged += more.unchanged;
        added.passages += more.passages;
        added.tokens += more.tokens;
    }
    bar.finish_and_clear();
    Ok(added)
}

fn text_search(wanted: &Find) -> Outcome<TextSearch> {
    let filter: Option<Filter> = match &wanted.filter {
        None => None,
        Some(json) => Some(serde_json::from_str(json).map_err(|error| Failure::Filter(error.to_string()))?),
    };
    Ok(TextSearch { query: wanted.text.clone(), limit: usize::from(wanted.limit), filter })
}

fn search(settings: &Settings, wanted: &Find, as_json: bool) -> Outcome {
    let query = text_search(wanted)?;
    let engine = open(settings)?;
    load_default_model(&engine)?;
    let hits = engine.search(&wanted.collection, &query)?;
    if as_json {
        out::json(&json!({ "hits": hits }));
        return Ok(());
    }
    for hit in hits {
        let heading = hit.heading.iter().map(|heading| format!(" > {heading}")).collect::<String>();
        out::line(format!(
            "{:.3}  {}{heading}  ({}, {}..{})",
            hit.score, hit.title, hit.document_id, hit.start, hit.end
        ));
        out::line(format!("       {}\n", one_line(&hit.text, 240)));
    }
    Ok(())
}

fn ask(settings: &Settings, wanted: &Find, as_json: bool) -> Outcome {
    let question = text_search(wanted)?;
    let engine = open(settings)?;
    load_default_model(&engine)?;
    let answer = engine.ask(&wanted.collection, &question, &mut |_| Ok(()))?;
    if as_json {
        out::json(&answer);
    } else {
        print_answer(&answer);
    }
    Ok(())
}

pub(crate) fn print_answer(answer: &Answer) {
    out::line(one_line(&answer.answer, usize::MAX));
    for (number, citation) in (1..).zip(&answer.citations) {
        out::line(format!(
            "  [{number}] {} ({}, characters {}..{}, support {:.2}): \"{}\"",
            citation.title,
            citation.document_id,
            citation.start,
            citation.end,
            citation.score,
            one_line(&citation.quote, 160)
        ));
    }
    if let Some(reason) = &answer.reason {
        out::line(format!("  ({reason})"));
    }
    for warning in &answer.warnings {
        out::note(format!("warning: {warning}"));
    }
}

fn one_line(text: &str, max_chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words,
    }
}

fn model(settings: &Settings, wanted: &Model, as_json: bool) -> Outcome {
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
        Model::List => list_models(&store, as_json)?,
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

fn list_models(store: &ModelStore, as_json: bool) -> Outcome {
    let installed = store.installed()?;
    if as_json {
        let known: Vec<_> = store.known().iter().map(|spec| &spec.name).collect();
        out::json(&json!({ "known": known, "installed": installed }));
        return Ok(());
    }
    for model in &installed {
        let megabytes = model.bytes as f64 / 1e6;
        out::line(format!("{}  {megabytes:.1} MB  {}", model.name, model.path.display()));
    }
    for spec in store.known() {
        if installed.iter().all(|model| model.name != spec.name) {
            out::line(format!("{}  not here, get it with `cairn model pull {}`", spec.name, spec.name));
        }
    }
    Ok(())
}

fn health(wanted: &Health) -> Outcome {
    let url = format!("{}/readyz", wanted.url.trim_end_matches('/'));
    let not_ready = |reason: String| Failure::NotReady { url: wanted.url.clone(), reason };
    let agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().new_agent();
    let mut response = agent.get(&url).call().map_err(|error| not_ready(error.to_string()))?;
    let text = response.body_mut().read_to_string().map_err(|error| not_ready(error.to_string()))?;
    out::line(text);
    Ok(())
}

fn config(settings: &Settings, as_json: bool) {
    if as_json {
        out::json(settings);
    } else {
        out::write(crate::settings::DEFAULTS.as_bytes());
        out::line("\n# In force now:");
        let json = serde_json::to_string_pretty(settings).expect("settings have string keys");
        json.lines().for_each(|line| out::line(format!("# {line}")));
    }
}
