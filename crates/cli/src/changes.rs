//! Which files below folders change: told by the system, or looked for.
//!
//! Changes come in bursts, so they are gathered until it is quiet for a moment.
//! What became of a file is not said here, only that there is something to look
//! at. `notify` stays in this file.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cairn_embed::Cancel;
use notify::event::{AccessKind, AccessMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Changes belong together until nothing more comes for so long …
const QUIET: Duration = Duration::from_millis(500);
/// … but no longer than this, for a folder that never rests.
const GATHERED: Duration = Duration::from_secs(10);
/// How soon a stop is seen.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks where the system tells nothing.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Their full paths.
    pub(crate) folders: Vec<PathBuf>,
    /// Where our own data is, which changes with every look at it.
    pub(crate) but: PathBuf,
}

/// Paths that changed; all of them may have where it is empty.
pub(crate) type Changed = HashSet<PathBuf>;

/// Whoever says what changes below folders.
pub(crate) struct Changes {
    scope: Scope,
    source: Source,
}

enum Source {
    Told { heard: Receiver<notify::Result<Event>>, _watcher: RecommendedWatcher },
    Looked { every: Duration, seen: Stamps, last: Instant },
}

/// The size and the time of each file.
type Stamps = HashMap<PathBuf, (u64, Option<SystemTime>)>;

/// What came within a tick.
enum Heard {
    Nothing,
    Something(Changed),
    /// The system cannot go on telling.
    Lost(String),
}

impl Changes {
    /// Asks the system for changes, or says why it does not tell them.
    pub(crate) fn told(scope: &Scope) -> Result<Self, String> {
        let (tell, heard) = channel();
        // Links are not followed when files are added either.
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(tell, config).map_err(|error| reason(&error))?;
        for folder in &scope.folders {
            watcher.watch(folder, RecursiveMode::Recursive).map_err(|error| reason(&error))?;
        }
        Ok(Self { scope: scope.clone(), source: Source::Told { heard, _watcher: watcher } })
    }

    /// Looks for changes once in a while.
    pub(crate) fn looked(scope: &Scope, every: Duration) -> Self {
        let (scope, seen) = (scope.clone(), stamps(scope));
        Self { scope, source: Source::Looked { every, seen, last: Instant::now() } }
    }

    /// Waits for changes; none when it was stopped, or at the latest `until`.
    ///
    /// # Errors
    /// Why the system tells nothing any more.
    pub(crate) fn wait(
        &mut self,
        cancel: &Cancel,
        until: Option<Instant>,
    ) -> Result<Option<Changed>, String> {
        let is_over = || cancel.is_cancelled() || until.is_some_and(|until| Instant::now() >= until);
        while !is_over() {
            match self.hear(TICK) {
                Heard::Nothing => {}
                Heard::Lost(reason) => return Err(reason),
                Heard::Something(first) => return self.gather(first, cancel).map(Some),
            }
        }
        Ok(None)
    }

    /// What comes with a first change, until it is quiet.
    fn gather(&mut self, mut changed: Changed, cancel: &Cancel) -> Result<Changed, String> {
        let began = Instant::now();
        let mut quiet_since = began;
        while quiet_since.elapsed() < QUIET && began.elapsed() < GATHERED && !cancel.is_cancelled() {
            match self.hear_now() {
                Heard::Nothing => {}
                Heard::Lost(reason) => return Err(reason),
                Heard::Something(more) => {
                    changed.extend(more);
                    quiet_since = Instant::now();
                }
            }
        }
        Ok(changed)
    }

    /// As `hear`, without waiting for the time of the next look.
    fn hear_now(&mut self) -> Heard {
        if let Source::Looked { last, every, .. } = &mut self.source {
            thread::sleep(QUIET / 2);
            *last = Instant::now().checked_sub(*every).unwrap_or(*last);
        }
        self.hear(TICK)
    }

    fn hear(&mut self, patience: Duration) -> Heard {
        match &mut self.source {
            Source::Told { heard, .. } => match heard.recv_timeout(patience) {
                Ok(Ok(event)) => self.scope.changed_by(&event),
                Ok(Err(error)) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    Heard::Lost(reason(&error))
                }
                // Some folder was not understood: all of them are looked at.
                Ok(Err(_)) => Heard::Something(Changed::new()),
                Err(RecvTimeoutError::Timeout) => Heard::Nothing,
                Err(RecvTimeoutError::Disconnected) => Heard::Lost("it stopped telling".to_owned()),
            },
            Source::Looked { every, seen, last } => {
                if last.elapsed() < *every {
                    thread::sleep(patience);
                    return Heard::Nothing;
                }
                let now = stamps(&self.scope);
                let changed = difference(seen, &now);
                (*seen, *last) = (now, Instant::now());
                if changed.is_empty() { Heard::Nothing } else { Heard::Something(changed) }
            }
        }
    }
}

impl Scope {
    fn changed_by(&self, event: &Event) -> Heard {
        if event.need_rescan() {
            return Heard::Something(Changed::new());
        }
        // Reading is no change, and our own reading would never end.
        let is_read = match event.kind {
            EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
            _ => false,
        };
        if is_read {
            return Heard::Nothing;
        }
        let paths: Changed = event.paths.iter().filter(|path| self.holds(path)).cloned().collect();
        if paths.is_empty() { Heard::Nothing } else { Heard::Something(paths) }
    }

    /// Whether a path can matter: hidden ones are not added.
    fn holds(&self, path: &Path) -> bool {
        let below = self.folders.iter().filter_map(|folder| path.strip_prefix(folder).ok());
        let is_shown =
            |below: &Path| !below.components().any(|part| is_hidden(&part.as_os_str().to_string_lossy()));
        !path.starts_with(&self.but) && below.into_iter().any(is_shown)
    }
}

/// What `.gitignore` says decides what is added.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != ".gitignore"
}

fn stamps(scope: &Scope) -> Stamps {
    let mut found = Stamps::new();
    scope.folders.iter().for_each(|folder| look(folder, &scope.but, &mut found));
    found
}

fn look(folder: &Path, but: &Path, found: &mut Stamps) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if is_hidden(&entry.file_name().to_string_lossy()) || path == but {
            continue;
        }
        match (kind, entry.metadata()) {
            (Ok(kind), _) if kind.is_dir() => look(&path, but, found),
            (Ok(kind), Ok(metadata)) if kind.is_file() => {
                found.insert(path, (metadata.len(), metadata.modified().ok()));
            }
            _ => {}
        }
    }
}

fn difference(before: &Stamps, now: &Stamps) -> Changed {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let new = now.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp)).map(|(path, _)| path);
    gone.chain(new).cloned().collect()
}

/// Why the system does not tell, with the mend where there is one.
fn reason(error: &notify::Error) -> String {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            "it watches no more folders; on Linux raise fs.inotify.max_user_watches".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(folder: &Path) -> Scope {
        Scope { folders: vec![folder.to_owned()], but: folder.join("data") }
    }

    #[test]
    fn only_what_can_be_added_counts_as_a_change() {
        let scope = scope(Path::new("/notes"));
        let changed = |kind, path: &str| {
            let event = Event::new(kind).add_path(PathBuf::from(path));
            matches!(scope.changed_by(&event), Heard::Something(_))
        };
        let (any, read) = (EventKind::Any, EventKind::Access(AccessKind::Open(AccessMode::Any)));
        assert!(changed(any, "/notes/deep/a.md") && changed(any, "/notes/.gitignore"));
        assert!(changed(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/notes/a.md"));
        assert!(!changed(read, "/notes/a.md"));
        assert!(!changed(any, "/notes/.git/index") && !changed(any, "/notes/data/log/db"));
        assert!(!changed(any, "/elsewhere/a.md"));
    }

    #[test]
    fn looking_finds_what_is_new_changed_and_gone() {
        let (same, other) = ((1, None), (2, None));
        let stamps = |files: &[(&str, (u64, Option<SystemTime>))]| {
            files.iter().map(|(path, stamp)| (PathBuf::from(path), *stamp)).collect::<Stamps>()
        };
        let before = stamps(&[("same", same), ("changed", same), ("gone", same)]);
        let now = stamps(&[("same", same), ("changed", other), ("new", same)]);
        let want = ["changed", "gone", "new"].map(PathBuf::from);
        assert_eq!(difference(&before, &now), HashSet::from(want));
    }
}
