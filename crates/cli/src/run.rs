//! What each command does.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use cairn_index::Filter;
use cairn_rag::{Question, Retrieval, TextSearch};
use clap::CommandFactory;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Ask, Command, Find, Health, Serve};
use crate::failure::{Failure, Outcome};
use crate::settings::{LogFormat, Settings};
use crate::verbs::{load_model_of, one_line, open, print_answer, serve, serve_mcp};
use crate::{add, demo, embed, eval, export, import, models, out, snapshots};

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
        Command::Add(wanted) => add::run(&settings, &wanted, args.json),
        Command::Search(wanted) => search(&settings, &wanted, args.json),
        Command::Ask(wanted) => ask(&settings, &wanted, args.json),
        Command::Eval(wanted) => eval::run(&settings, &wanted, args.json),
        Command::Embed(wanted) => embed::run(&settings, &wanted, args.json),
        Command::Model(wanted) => models::run(&settings, &wanted, args.json),
        Command::Demo(wanted) => {
            apply(&mut settings, &wanted.listen);
            demo::run(&settings, wanted.serve)
        }
        Command::Mcp => serve_mcp(&Arc::new(open(&settings)?), &settings),
        Command::Snapshot(wanted) => snapshots::run(&settings, &wanted, args.json),
        Command::Export(wanted) => export::run(&settings, &wanted, args.json),
        Command::Import(wanted) => import::run(&settings, &wanted, args.json),
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

fn text_search(wanted: &Find) -> Outcome<TextSearch> {
    let filter: Option<Filter> = match &wanted.filter {
        None => None,
        Some(json) => Some(serde_json::from_str(json).map_err(|error| Failure::Filter(error.to_string()))?),
    };
    Ok(TextSearch {
        limit: usize::from(wanted.limit),
        filter,
        retrieval: wanted.retrieval.change()?,
        explain: wanted.explain,
        ..TextSearch::new(wanted.text.as_str())
    })
}

fn search(settings: &Settings, wanted: &Find, as_json: bool) -> Outcome {
    let query = text_search(wanted)?;
    let engine = open(settings)?;
    load_model_of(&engine, &wanted.collection)?;
    let found = engine.search(&wanted.collection, &query)?;
    if as_json {
        out::json(&json!({
            "hits": found.passages, "seq": found.seq, "stages": found.stages, "warnings": found.warnings
        }));
        return Ok(());
    }
    print_found(&found);
    Ok(())
}

fn print_found(found: &Retrieval) {
    for hit in &found.passages {
        let heading = hit.heading.iter().map(|heading| format!(" > {heading}")).collect::<String>();
        out::line(format!(
            "{:.3}  {}{heading}  ({}, {}..{})",
            hit.score, hit.title, hit.document_id, hit.start, hit.end
        ));
        for step in &hit.path {
            out::line(format!("       {}: rank {}, {:.4}", step.stage, step.rank, step.score));
        }
        out::line(format!("       {}\n", one_line(&hit.text, 240)));
    }
    for stage in &found.stages {
        let detail = stage.detail.as_deref().unwrap_or_default();
        out::line(format!("{:<10} {:>5} found, {:>6} us  {detail}", stage.stage, stage.found, stage.micros));
    }
    for warning in &found.warnings {
        out::note(format!("warning: {warning}"));
    }
}

fn ask(settings: &Settings, wanted: &Ask, as_json: bool) -> Outcome {
    let search = text_search(&wanted.find)?;
    let engine = open(settings)?;
    load_model_of(&engine, &wanted.find.collection)?;
    let collection = &wanted.find.collection;
    let conversation_id = match wanted.conversation.as_deref() {
        Some("new") => Some(engine.start_conversation(collection)?.id),
        other => other.map(str::to_owned),
    };
    let question = Question {
        conversation_id,
        max_sentences: wanted.sentences.map(usize::from),
        min_confidence: wanted.min_confidence,
        generate: !wanted.extractive,
        ..search.into()
    };
    let answer = engine.ask(collection, &question, &mut |_| Ok(()))?;
    if as_json {
        out::json(&answer);
    } else {
        print_answer(&answer);
        if let Some(id) = &answer.conversation_id {
            out::line(format!("  (go on with --conversation {id})"));
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
