//! What several commands do: open, serve, load, add, print.

use std::sync::Arc;
use std::time::Duration;

use cairn_index::Database;
use cairn_rag::{Answer, Engine, Models};

use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::Download;
use crate::settings::Settings;

pub(crate) fn open(settings: &Settings) -> Outcome<Engine> {
    open_with(settings, Arc::new(Models::new(settings.models.clone())))
}

/// With models that outlive it.
pub(crate) fn open_with(settings: &Settings, models: Arc<Models>) -> Outcome<Engine> {
    let db = Database::open_with(&settings.data_dir, settings.index.clone())?;
    Ok(Engine::with_models(db, models, settings.rag.clone()))
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

pub(crate) fn serve_mcp(engine: &Arc<Engine>, settings: &Settings) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime
        .block_on(cairn_server::serve_mcp_stdio(engine.clone(), settings.server.clone()))
        .map_err(Failure::Serve)?;
    Ok(())
}

pub(crate) async fn stop_signal() {
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

/// Loads the model of a collection with progress shown, so that no later step
/// waits for it in silence.
pub(crate) fn load_model_of(engine: &Engine, collection: &str) -> Outcome {
    engine.load_model_of(collection, &Download::new())?;
    Ok(())
}

pub(crate) fn print_answer(answer: &Answer) {
    out::line(one_line(&answer.answer, usize::MAX));
    for (number, citation) in (1..).zip(&answer.citations) {
        let page = citation.page.map_or(String::new(), |page| format!("page {page}, "));
        out::line(format!(
            "  [{number}] {} ({}, {page}characters {}..{}, support {:.2}): \"{}\"",
            citation.title,
            citation.document_id,
            citation.start,
            citation.end,
            citation.score,
            one_line(&citation.quote, 160)
        ));
    }
    if let Some(reason) = &answer.reason {
        let searched = &answer.searched;
        out::line(format!(
            "  ({reason}: {} of {} passages read, confidence {:.2})",
            searched.read, searched.passages, searched.confidence
        ));
        if !searched.missing.is_empty() {
            out::line(format!("  (in none of them: {})", searched.missing.join(", ")));
        }
    }
    for warning in &answer.warnings {
        out::note(format!("warning: {warning}"));
    }
}

pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words,
    }
}
