//! `cairn add --watch`: folders are kept as they are, until Ctrl-C.
//!
//! A round is `cairn add --prune`: the same walk, which leaves alone what has
//! not changed. Between two rounds nobody holds the data directory, so that it
//! can be searched and asked meanwhile; the model stays loaded.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cairn_embed::Cancel;
use cairn_rag::{Engine, IngestOptions, Ingested, Models};
use serde_json::json;

use crate::add::{LeftOut, Told, check_paths, stop_on_signal};
use crate::args::Add;
use crate::changes::{Changed, Changes, LOOK_EVERY, Scope};
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::settings::Settings;
use crate::verbs::open_with;

/// After a round that failed, the next one is tried so much later.
const AGAIN: Duration = Duration::from_secs(3);
/// How long a round waits for the data directory.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(settings: &Settings, wanted: &Add, options: &IngestOptions, as_json: bool) -> Outcome {
    let folders = wanted.paths.iter().map(|path| full_path(path)).collect::<Outcome<Vec<_>>>()?;
    let cancel = Cancel::new();
    stop_on_signal(&cancel)?;
    let mut watch = Watch {
        settings,
        wanted,
        options: IngestOptions { prune: true, ..options.clone() },
        as_json,
        cancel,
        models: Arc::new(Models::new(settings.models.clone())),
        scope: Scope { folders, but: future_path(&settings.data_dir) },
        left_out: LeftOut::new(),
        sum: Sum::default(),
    };
    // From before the first round, so that nothing falls between the two.
    let changes = watch.changes();
    if watch.round(&Changed::new())?.stopped {
        return Err(Failure::Stopped.into());
    }
    let shown: Vec<String> = wanted.paths.iter().map(|path| path.display().to_string()).collect();
    out::note(format!("watching {} (ctrl-c ends it)", shown.join(", ")));
    watch.follow(changes);
    watch.sum_up();
    Ok(())
}

fn full_path(path: &Path) -> Outcome<PathBuf> {
    if !path.is_dir() {
        return Err(Failure::WatchFile(path.to_owned()).into());
    }
    let full = fs::canonicalize(path);
    Ok(full.map_err(|source| cairn_rag::Error::Path { path: path.to_owned(), source })?)
}

/// The full path of what may not be there yet.
fn future_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match there {
        Some((above, full)) => path.strip_prefix(above).map_or(full.clone(), |rest| full.join(rest)),
        None => path,
    }
}

struct Watch<'a> {
    settings: &'a Settings,
    wanted: &'a Add,
    options: IngestOptions,
    as_json: bool,
    cancel: Cancel,
    /// Those that a round has loaded, for the next ones.
    models: Arc<Models>,
    scope: Scope,
    /// What is known to be left out, so that it is told once.
    left_out: LeftOut,
    sum: Sum,
}

/// What came of all rounds.
#[derive(Default)]
struct Sum {
    rounds: usize,
    written: usize,
    replaced: usize,
    removed: usize,
}

impl Watch<'_> {
    fn changes(&self) -> Changes {
        match self.wanted.poll {
            Some(seconds) => Changes::looked(&self.scope, Duration::from_secs(seconds)),
            None => Changes::told(&self.scope).unwrap_or_else(|reason| self.look_instead(&reason)),
        }
    }

    fn look_instead(&self, reason: &str) -> Changes {
        out::note(format!(
            "the system does not tell what changes here ({reason}); looking every {} s instead",
            LOOK_EVERY.as_secs()
        ));
        Changes::looked(&self.scope, LOOK_EVERY)
    }

    /// Goes on, whatever fails, until it is stopped.
    fn follow(&mut self, mut changes: Changes) {
        let mut failed: Option<String> = None;
        loop {
            let until = failed.as_ref().map(|_| Instant::now() + AGAIN);
            let changed = changes.wait(&self.cancel, until).unwrap_or_else(|reason| {
                changes = self.look_instead(&reason);
                Some(Changed::new())
            });
            if self.cancel.is_cancelled() {
                return;
            }
            let changed = changed.unwrap_or_default();
            // A folder that went away and came back has to be watched anew.
            let anew = failed.is_some() || self.scope.folders.iter().any(|folder| changed.contains(folder));
            self.try_round(&changed, &mut failed);
            if anew && failed.is_none() {
                changes = self.changes();
                self.try_round(&Changed::new(), &mut failed);
            }
        }
    }

    /// A failure is told once, however often it comes again.
    fn try_round(&mut self, changed: &Changed, failed: &mut Option<String>) {
        match self.round(changed) {
            Ok(_) => *failed = None,
            Err(error) => {
                let text = error.to_string();
                if failed.as_ref() != Some(&text) {
                    out::note(format!("not added: {text}; watching goes on"));
                }
                *failed = Some(text);
            }
        }
    }

    /// Adds what is new and removes what is gone.
    fn round(&mut self, changed: &Changed) -> Outcome<Ingested> {
        check_paths(self.wanted)?;
        let changed = self.as_given(changed);
        self.left_out.retain(|(path, _)| !changed.contains(path));
        let engine = self.open()?;
        let mut told = Told::new(self.as_json);
        told.known = std::mem::take(&mut self.left_out);
        let done = told.ingest(&engine, self.wanted, &self.options, &self.cancel);
        drop(engine);
        if self.sum.rounds == 0 || told.has_news() {
            done.iter().for_each(|done| told.sum_up(self.wanted, done));
        }
        self.left_out = if done.is_ok() { told.left_out } else { told.known };
        let done = done?;
        self.sum.take(&done);
        Ok(done)
    }

    /// After the first round, waits a while for whoever searches.
    fn open(&self) -> Outcome<Engine> {
        let until = Instant::now() + PATIENCE;
        loop {
            match open_with(self.settings, self.models.clone()) {
                Err(error) if self.sum.rounds > 0 && is_in_use(&*error) && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(20));
                }
                opened => return opened,
            }
        }
    }

    /// The paths as those of the folders were given, which is how they are told.
    fn as_given(&self, changed: &Changed) -> Changed {
        let given = |path: &PathBuf| {
            let mut folders = self.wanted.paths.iter().zip(&self.scope.folders);
            folders.find_map(|(given, full)| Some(given.join(path.strip_prefix(full).ok()?)))
        };
        changed.iter().filter_map(given).collect()
    }

    fn sum_up(&self) {
        let Sum { rounds, written, replaced, removed } = self.sum;
        if self.as_json {
            let watched =
                json!({ "rounds": rounds, "added": written, "replaced": replaced, "removed": removed });
            out::json(&json!({ "watched": watched }));
            return;
        }
        out::line(format!(
            "watched `{}`: {written} documents added ({} new, {replaced} replaced), {removed} removed",
            self.wanted.collection,
            written - replaced
        ));
    }
}

fn is_in_use(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(cairn_index::Error::InUse { .. }))
}

impl Sum {
    fn take(&mut self, done: &Ingested) {
        self.rounds += 1;
        self.written += done.added.documents;
        self.replaced += done.replaced;
        self.removed += done.removed;
    }
}
