//! Models over HTTP from the hub, into the hub's cache.
//!
//! A file is asked for twice: once for what it is (commit, digest, length) and
//! once for its bytes, which may come from another host. They go to
//! `blobs/<etag>.incomplete`, are continued where a connection was cut, and get
//! their name only when the checksum is right.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::{Agent, Body};

use super::hub_cache::HubCache;
use super::{Progress, REQUIRED, SpecFile, WEIGHTS, digest, sync_folder};
use crate::encoder::weights::TORCH_FILE;
use crate::{Error, Result};

/// Tries without any progress before a download is given up.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const REDIRECTS: u32 = 10;

/// Files a model may have besides the required ones.
const OPTIONAL: [&str; 5] = [
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
];

pub(super) struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    cache: HubCache,
}

/// What to take: files with pinned checksums, or whatever belongs to a model.
pub(super) struct Wanted<'a> {
    pub(super) repo: &'a str,
    /// A commit or a branch.
    pub(super) revision: &'a str,
    pub(super) files: Option<&'a [SpecFile]>,
}

/// What the hub says about a file.
struct About {
    commit: Option<String>,
    etag: String,
    bytes: Option<u64>,
}

/// Why one try failed.
enum Trouble {
    /// It will not get better.
    Final(Error),
    /// Another try may work.
    Again(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Final(error)
    }
}

impl Hub {
    pub(super) fn new(endpoint: String, token: Option<String>, cache: HubCache) -> Hub {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed by hand: the token must not travel, and the first
            // answer has the headers that tell what the file is.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        Hub { agent: config.new_agent(), endpoint, token, cache }
    }

    /// Fetches a model and gives its snapshot folder.
    pub(super) fn pull(&self, wanted: &Wanted, progress: &dyn Progress) -> Result<PathBuf> {
        let snapshot = match wanted.files {
            Some(files) => {
                let mut commit = wanted.revision.to_owned();
                for file in files {
                    let sha256 = Some(file.sha256.as_str());
                    commit = self.file(wanted, wanted.revision, &file.path, sha256, progress)?;
                }
                self.cache.snapshot(wanted.repo, &commit)
            }
            None => self.pull_unpinned(wanted, progress)?,
        };
        Ok(snapshot)
    }

    fn pull_unpinned(&self, wanted: &Wanted, progress: &dyn Progress) -> Result<PathBuf> {
        progress.note(&format!(
            "no checksum is pinned for {}: its files are checked against what the hub says they are",
            wanted.repo
        ));
        // The first answer tells the commit; all files are taken from that one.
        let [first, others @ ..] = REQUIRED;
        let commit = self.file(wanted, wanted.revision, first, None, progress)?;
        for file in others {
            match self.file(wanted, &commit, file, None, progress) {
                // Older models have no other weights than what torch saved.
                Err(error @ Error::Status { status: 404, .. }) if *file == *WEIGHTS => {
                    match self.file(wanted, &commit, TORCH_FILE, None, progress) {
                        Err(Error::Status { status: 404, .. }) => return Err(error),
                        fetched => drop(fetched?),
                    }
                }
                fetched => drop(fetched?),
            }
        }
        let snapshot = self.cache.snapshot(wanted.repo, &commit);
        for file in OPTIONAL {
            self.optional(wanted, &commit, file, progress)?;
        }
        let modules = module_files(&snapshot.join("modules.json"));
        for file in modules.into_iter().chain(head_files(&snapshot)) {
            if !snapshot.join(&file).exists() {
                self.optional(wanted, &commit, &file, progress)?;
            }
        }
        if commit != wanted.revision {
            self.cache.set_ref(wanted.repo, wanted.revision, &commit)?;
        }
        Ok(snapshot)
    }

    fn optional(&self, wanted: &Wanted, commit: &str, file: &str, progress: &dyn Progress) -> Result<()> {
        match self.file(wanted, commit, file, None, progress) {
            Ok(_) | Err(Error::Status { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fetches one file into the cache and gives the commit it is of.
    fn file(
        &self,
        wanted: &Wanted,
        revision: &str,
        file: &str,
        sha256: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<String> {
        let url = format!("{}/{}/resolve/{revision}/{file}", self.endpoint, wanted.repo);
        let about = Hub::retry(&url, &mut || self.about(&url))?;
        let commit = about.commit.clone().unwrap_or_else(|| revision.to_owned());
        if let Some(want) = sha256
            && is_sha256(&about.etag)
            && about.etag != want
        {
            return Err(Error::Checksum {
                file: file.into(),
                origin: self.endpoint.clone(),
                got: about.etag,
                want: want.into(),
            });
        }
        let _lock = self.cache.lock(wanted.repo, &about.etag, progress)?;
        let blob = self.cache.blob(wanted.repo, &about.etag);
        if !blob.exists() {
            self.fetch(&url, file, &about, &blob, sha256, progress)?;
        }
        self.cache.link(wanted.repo, &commit, file, &about.etag)?;
        Ok(commit)
    }

    fn about(&self, url: &str) -> Result<About, Trouble> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.send("HEAD", &url, 0)?;
            let headers = response.headers();
            let next = redirect(&url, &response);
            let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
            let Some(next) = next.filter(|next| self.is_hub(next) || etag.is_none()) else {
                let etag = etag.as_deref().map(plain_etag).unwrap_or_default();
                let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if etag.is_empty() || !etag.chars().all(safe) || etag.starts_with('.') {
                    return Err(Trouble::Final(Error::Unreachable {
                        url,
                        reason: "the answer has no usable ETag, so this is not a hub".into(),
                    }));
                }
                let linked = text(headers, "x-linked-size");
                let length = linked.or_else(|| text(headers, "content-length"));
                return Ok(About {
                    commit: text(headers, "x-repo-commit").filter(|commit| is_commit(commit)),
                    etag: etag.into(),
                    bytes: length.and_then(|length| length.parse().ok()),
                });
            };
            url = next;
        }
        Err(endless(&url))
    }

    fn fetch(
        &self,
        url: &str,
        file: &str,
        about: &About,
        blob: &Path,
        sha256: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let folder = blob.parent().expect("a blob is in a folder");
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut name = blob.as_os_str().to_owned();
        name.push(".incomplete");
        let partial = PathBuf::from(name);
        let mut out = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&partial)
            .map_err(Error::io(&partial))?;

        Hub::retry_while_growing(url, &partial, &mut || {
            self.continue_into(&mut out, &partial, url, file, about, progress)
        })?;
        out.sync_all().map_err(Error::io(&partial))?;
        if let Err(error) = self.check(&partial, file, &about.etag, sha256) {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        fs::rename(&partial, blob).map_err(Error::io(blob))?;
        sync_folder(folder)?;
        progress.finish(file);
        Ok(())
    }

    /// Appends what is missing.
    fn continue_into(
        &self,
        out: &mut File,
        partial: &Path,
        url: &str,
        file: &str,
        about: &About,
        progress: &dyn Progress,
    ) -> Result<(), Trouble> {
        let mut have = out.seek(SeekFrom::End(0)).map_err(Error::io(partial))?;
        if about.bytes == Some(have) {
            progress.begin(file, about.bytes, have);
            return Ok(());
        }
        if about.bytes.is_some_and(|bytes| have > bytes) {
            have = 0;
        }
        let response = self.follow(url, have)?;
        let start = format!("bytes {have}-");
        let continues = response.status() == 206
            && text(response.headers(), "content-range").is_some_and(|r| r.starts_with(&start));
        if !continues {
            have = 0;
        }
        out.set_len(have).map_err(Error::io(partial))?;
        out.seek(SeekFrom::End(0)).map_err(Error::io(partial))?;
        progress.begin(file, about.bytes, have);

        let mut body = response.into_body().into_reader();
        let mut block = vec![0; 1 << 16];
        loop {
            match body.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    out.write_all(&block[..read]).map_err(Error::io(partial))?;
                    have += read as u64;
                    progress.advance(read as u64);
                }
                Err(error) => return Err(Trouble::Again(error.to_string())),
            }
        }
        match about.bytes {
            Some(bytes) if have < bytes => Err(Trouble::Again(format!("{have} of {bytes} bytes arrived"))),
            _ => Ok(()),
        }
    }

    /// Compares a complete file with what the manifest and the hub say it is.
    fn check(&self, path: &Path, file: &str, etag: &str, sha256: Option<&str>) -> Result<()> {
        let mut wanted = Vec::new();
        if is_commit(etag) {
            wanted.push((digest::git_blob(path)?, etag));
        }
        let sha256 = sha256.or(is_sha256(etag).then_some(etag));
        if let Some(want) = sha256 {
            wanted.push((digest::sha256(path)?, want));
        }
        match wanted.into_iter().find(|(got, want)| got != want) {
            None => Ok(()),
            Some((got, want)) => Err(Error::Checksum {
                file: file.into(),
                origin: self.endpoint.clone(),
                got,
                want: want.into(),
            }),
        }
    }

    /// A GET that follows redirects, for the bytes from `from` on.
    fn follow(&self, url: &str, from: u64) -> Result<Response<Body>, Trouble> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.send("GET", &url, from)?;
            match redirect(&url, &response) {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(endless(&url))
    }

    fn send(&self, method: &str, url: &str, from: u64) -> Result<Response<Body>, Trouble> {
        let mut request = match method {
            "HEAD" => self.agent.head(url),
            _ => self.agent.get(url),
        };
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| trouble(url, &error))?;
        match response.status().as_u16() {
            200..400 => Ok(response),
            // What is here already is longer than the file: begin anew.
            416 if from > 0 => self.send(method, url, 0),
            status @ (408 | 429 | 500..) => Err(Trouble::Again(format!("status {status}"))),
            status => Err(Trouble::Final(Error::Status { url: url.into(), status })),
        }
    }

    /// Whether an address is on the hub itself, so that the token may be sent.
    fn is_hub(&self, url: &str) -> bool {
        origin(url).is_some_and(|there| Some(there) == origin(&self.endpoint))
    }

    fn retry<T>(url: &str, work: &mut dyn FnMut() -> Result<T, Trouble>) -> Result<T> {
        try_again(url, || 0, work)
    }

    fn retry_while_growing<T>(
        url: &str,
        partial: &Path,
        work: &mut dyn FnMut() -> Result<T, Trouble>,
    ) -> Result<T> {
        let bytes = || partial.metadata().map_or(0, |data| data.len());
        try_again(url, bytes, work)
    }
}

/// Tries until it works, is hopeless, or `TRIES` in a row gained nothing.
fn try_again<T>(
    url: &str,
    gained: impl Fn() -> u64,
    work: &mut dyn FnMut() -> Result<T, Trouble>,
) -> Result<T> {
    let mut tries = 0;
    let mut had = gained();
    loop {
        let reason = match work() {
            Ok(value) => return Ok(value),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Again(reason)) => reason,
        };
        tries = if gained() > had { 1 } else { tries + 1 };
        had = gained();
        if tries >= TRIES {
            return Err(Error::Cut { url: url.into(), tries, reason });
        }
        tracing::debug!(url, tries, reason, "trying again");
        std::thread::sleep(FIRST_PAUSE * 2u32.pow(tries - 1));
    }
}

/// Files of heads that no module tells of: the settings of ColBERT, and what
/// stands beside BGE-M3 and its kin.
fn head_files(snapshot: &Path) -> Vec<String> {
    let config = fs::read(snapshot.join("config.json")).ok();
    let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(config) = config else { return Vec::new() };
    let architectures = config["architectures"].as_array();
    let named = |name: &str| architectures.is_some_and(|names| names.iter().any(|one| one == name));
    let names: &[&str] = if named("HF_ColBERT") {
        &["artifact.metadata"]
    } else if named("XLMRobertaModel") {
        &["sparse_linear.pt", "colbert_linear.pt", "sparse_linear.safetensors", "colbert_linear.safetensors"]
    } else {
        &[]
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The configurations of the modules `modules.json` names, and the weights of
/// those that have some.
fn module_files(modules: &Path) -> Vec<String> {
    let modules: Vec<Value> =
        fs::read(modules).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    modules
        .iter()
        .filter_map(|module| Some((module.get("path")?.as_str()?, module["type"].as_str().unwrap_or(""))))
        .filter(|(path, _)| !path.is_empty() && path.split('/').all(is_plain))
        .flat_map(|(path, kind)| {
            let files: &[&str] = if kind.ends_with(".Dense") {
                &["config.json", WEIGHTS, TORCH_FILE]
            } else {
                &["config.json"]
            };
            files.iter().map(move |file| format!("{path}/{file}"))
        })
        .collect()
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && super::is_name(part)
}

/// Where an answer sends us, as a whole address.
fn redirect(url: &str, response: &Response<Body>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = text(response.headers(), "location")?;
    if to.contains("://") {
        return Some(to);
    }
    if to.starts_with('/') {
        return Some(format!("{}{to}", origin(url)?));
    }
    let (folder, _) = url.rsplit_once('/')?;
    Some(format!("{folder}/{to}"))
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme()?, uri.authority()?))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn plain_etag(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_sha256(text: &str) -> bool {
    is_hex(text, 64)
}

fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

fn endless(url: &str) -> Trouble {
    Trouble::Final(Error::Unreachable { url: url.into(), reason: format!("more than {REDIRECTS} redirects") })
}

/// A host that does not answer now will not in a second; a connection that
/// broke may be made again.
fn trouble(url: &str, error: &ureq::Error) -> Trouble {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let passing = match error {
        ureq::Error::Io(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        ureq::Error::Timeout(which) => {
            !matches!(which, ureq::Timeout::Resolve | ureq::Timeout::Connect | ureq::Timeout::Global)
        }
        _ => false,
    };
    if passing {
        return Trouble::Again(error.to_string());
    }
    Trouble::Final(Error::Unreachable { url: url.into(), reason: error.to_string() })
}
