//! Models behind addresses, against a small server on this machine that speaks
//! both protocols and fails as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairn_embed::{Cancel, Embedder, Error, Input, Protocol, Remote, RemoteOptions, TextKind};
use serde_json::{Value, json};

/// What the server does to the next requests, one at a time; then it answers.
#[derive(Clone)]
enum Act {
    Status(u16, &'static str, &'static str),
    Body(&'static str),
    Hang(Duration),
    HangUp,
    /// Vectors of so many dimensions.
    Dim(usize),
}

struct Seen {
    path: String,
    key: Option<String>,
    body: Value,
    at: Instant,
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    seen: Vec<Seen>,
    now: usize,
    most: usize,
    /// Inputs that are taken at once; more are answered 413.
    limit: usize,
    delay: Duration,
}

#[derive(Clone)]
struct Service {
    url: String,
    state: Arc<Mutex<State>>,
}

/// What the server makes of an input: its length, its first byte, and ones.
fn vector(input: &Value, dim: usize) -> Vec<f32> {
    let mut vector = vec![1.0; dim];
    let (length, first) = match input {
        Value::String(text) => (text.len(), text.bytes().next().unwrap_or(0)),
        ids => (ids.as_array().map_or(0, Vec::len), 0),
    };
    (vector[0], vector[1]) = (length as f32, f32::from(first));
    vector
}

impl Service {
    fn start(acts: &[Act]) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State { acts: acts.iter().cloned().collect(), limit: usize::MAX, ..State::default() };
        let service = Service { url, state: Arc::new(Mutex::new(state)) };
        let inner = service.clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = inner.clone();
                std::thread::spawn(move || {
                    let _ = service.serve(stream);
                });
            }
        });
        service
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Service {
        change(&mut self.state());
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    fn seen<T>(&self, read: impl Fn(&Seen) -> T) -> Vec<T> {
        self.state().seen.iter().map(read).collect()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let (mut length, mut key) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body)?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (act, delay, limit) = {
            let mut state = self.state();
            state.now += 1;
            state.most = state.most.max(state.now);
            state.seen.push(Seen { path: path.clone(), key, body: body.clone(), at: Instant::now() });
            (state.acts.pop_front(), state.delay, state.limit)
        };
        std::thread::sleep(delay);
        let is_tei = path.ends_with("/embed");
        let inputs = body[if is_tei { "inputs" } else { "input" }].as_array().cloned().unwrap_or_default();
        let right = |dim: usize| {
            let vectors: Vec<Vec<f32>> = inputs.iter().map(|input| vector(input, dim)).collect();
            if is_tei {
                return json!(vectors);
            }
            // The last comes first; a client has to look at the numbers.
            let data: Vec<Value> = (0..inputs.len())
                .rev()
                .map(|at| json!({ "object": "embedding", "index": at, "embedding": vectors[at] }))
                .collect();
            json!({ "data": data, "usage": { "prompt_tokens": 100 * inputs.len(), "total_tokens": 7 } })
        };
        let (status, head, body) = match act {
            Some(Act::Hang(time)) => {
                std::thread::sleep(time);
                (200, String::new(), right(4).to_string())
            }
            Some(Act::HangUp) => {
                self.state().now -= 1;
                return Ok(());
            }
            Some(Act::Status(status, head, body)) => (status, head.to_owned(), body.to_owned()),
            Some(Act::Body(body)) => (200, String::new(), body.to_owned()),
            Some(Act::Dim(dim)) => (200, String::new(), right(dim).to_string()),
            None if inputs.len() > limit => (413, String::new(), json!({ "error": "too many" }).to_string()),
            None => (200, "x-compute-tokens: 55\r\n".to_owned(), right(4).to_string()),
        };
        self.state().now -= 1;
        write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{head}\r\n{body}",
            body.len()
        )
    }

    fn remote(&self, change: impl FnOnce(&mut RemoteOptions)) -> Remote {
        let mut options = RemoteOptions {
            name: "far".into(),
            url: format!("{}/v1", self.url),
            timeout_ms: 2000,
            give_up_ms: 8000,
            ..RemoteOptions::default()
        };
        change(&mut options);
        Remote::new(options).expect("options that can be used")
    }
}

fn embed(remote: &Remote, texts: &[&str], kind: TextKind) -> Result<cairn_embed::Embeddings, Error> {
    let inputs: Vec<Input<'_>> = texts.iter().copied().map(Input::Text).collect();
    remote.embed_inputs(&inputs, kind, &Cancel::new())
}

fn failure(remote: &Remote) -> (Option<u16>, String) {
    match embed(remote, &["text"], TextKind::Query) {
        Err(error @ Error::Remote { status, .. }) => (status, error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn vectors_come_in_the_order_of_the_texts_and_tokens_as_the_service_counts_them() {
    let service = Service::start(&[]);
    let remote = service.remote(|options| options.batch_texts = 3);
    let texts: Vec<String> = (1..=10).map(|length| "x".repeat(length)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = embed(&remote, &texts, TextKind::Passage).expect("vectors");
    let lengths: Vec<f32> = found.vectors.iter().map(|vector| vector[0]).collect();
    assert_eq!(lengths, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    assert_eq!(found.tokens, 1000);
    let mut sizes = service.seen(|seen| seen.body["input"].as_array().expect("inputs").len());
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 3, 3]);
    assert_eq!(remote.dim().expect("known by now"), 4);
    assert_eq!(service.seen(|_| ()).len(), 4, "no request was needed for that");
    assert!(embed(&remote, &[], TextKind::Query).expect("nothing to do").vectors.is_empty());
}

#[test]
fn a_request_is_what_the_options_make_it() {
    let service = Service::start(&[]);
    let remote = service.remote(|options| {
        options.model = "there".into();
        // A variable that is surely there.
        options.api_key_env = "CARGO_PKG_NAME".into();
        options.dimensions = 4;
        options.query_prompt = "find: ".into();
        options.query_fields.insert("input_type".into(), json!("query"));
    });
    embed(&remote, &["one"], TextKind::Query).expect("vectors");
    let ids = Embedder::Remote(Arc::new(remote));
    let inputs = [Input::Text("two"), Input::Ids(&[5, 6])];
    let found = ids.embed_inputs(&inputs, TextKind::Passage, &Cancel::new()).expect("vectors");
    assert_eq!((found.vectors[0][0], found.vectors[1][0]), (3.0, 2.0));
    let mut bodies = service.seen(|seen| seen.body.clone());
    bodies[1..].sort_by_key(|body| body["input"].to_string());
    let with = |input: Value| json!({ "model": "there", "input": input, "encoding_format": "float", "dimensions": 4 });
    let mut query = with(json!(["find: one"]));
    query["input_type"] = json!("query");
    assert_eq!(bodies, [query, with(json!(["two"])), with(json!([[5, 6]]))]);
    for (path, key) in service.seen(|seen| (seen.path.clone(), seen.key.clone())) {
        assert_eq!((&path[..], key.as_deref()), ("/v1/embeddings", Some("Bearer cairn-embed")));
    }
}

#[test]
fn text_embeddings_inference_is_asked_in_its_own_way() {
    let service = Service::start(&[]);
    let remote = service.remote(|options| {
        options.url.clone_from(&service.url);
        options.protocol = Protocol::Tei;
    });
    let found = embed(&remote, &["one", "three"], TextKind::Passage).expect("vectors");
    assert_eq!((found.vectors[1][0], found.tokens), (5.0, 55));
    let bodies = service.seen(|seen| (seen.path.clone(), seen.body.clone(), seen.key.clone()));
    assert_eq!(bodies, [("/embed".into(), json!({ "inputs": ["one", "three"], "truncate": true }), None)]);
}

#[test]
fn what_fails_for_a_while_is_sent_again() {
    let busy = Act::Status(429, "retry-after: 1\r\n", r#"{"error": {"message": "slow down"}}"#);
    let service = Service::start(&[busy, Act::Status(500, "", "oops"), Act::HangUp]);
    let found = embed(&service.remote(|_| {}), &["text"], TextKind::Query).expect("the fourth try");
    assert_eq!(found.vectors[0][0], 4.0);
    let times = service.seen(|seen| seen.at);
    assert_eq!(times.len(), 4);
    assert!(times[1] - times[0] >= Duration::from_millis(950), "as long as it asked for");
}

#[test]
fn one_that_is_told_to_wait_makes_all_wait() {
    let busy = Act::Status(429, "retry-after: 1\r\n", "");
    let service = Service::start(&[busy]);
    let remote = service.remote(|options| (options.batch_texts, options.in_flight) = (1, 1));
    embed(&remote, &["a", "b", "c"], TextKind::Passage).expect("vectors");
    let times = service.seen(|seen| seen.at);
    assert_eq!(times.len(), 4);
    assert!(times[1..].iter().all(|time| *time - times[0] >= Duration::from_millis(950)));
}

#[test]
fn what_will_not_pass_is_told_at_once_in_the_services_words_and_without_the_key() {
    let unknown = Act::Status(404, "", r#"{"error": {"message": "the model `far` does not exist"}}"#);
    let service = Service::start(&[unknown]);
    let (status, text) = failure(&service.remote(|_| {}));
    assert_eq!(status, Some(404));
    for part in ["status 404", "the model `far` does not exist", "/v1/embeddings", "model `far`"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(service.seen(|_| ()).len(), 1);

    let service = Service::start(&[]);
    let (_, text) = failure(&service.remote(|options| options.api_key_env = "CAIRN_TEST_NO_SUCH_KEY".into()));
    assert!(text.contains("`CAIRN_TEST_NO_SUCH_KEY`") && text.contains("not set"), "{text}");
    assert!(service.seen(|_| ()).is_empty(), "nothing is sent without the key");
    let service = Service::start(&[Act::Status(401, "", "incorrect API key: cairn-embed")]);
    let (status, text) = failure(&service.remote(|options| options.api_key_env = "CARGO_PKG_NAME".into()));
    assert_eq!(status, Some(401));
    assert!(text.contains("incorrect API key: …") && !text.contains("cairn-embed"), "{text}");
}

#[test]
fn retries_end_and_the_last_failure_is_told() {
    let service = Service::start(&[const { Act::Status(503, "", "starting") }; 9]);
    let (status, text) = failure(&service.remote(|options| options.retries = 2));
    assert_eq!((status, service.seen(|_| ()).len()), (Some(503), 3));
    assert!(text.contains("starting") && text.contains("3 times tried"), "{text}");

    let service = Service::start(&[Act::Status(429, "retry-after: 3600\r\n", "quota")]);
    let began = Instant::now();
    let (status, text) = failure(&service.remote(|_| {}));
    assert_eq!((status, service.seen(|_| ()).len()), (Some(429), 1));
    assert!(text.contains("quota") && text.contains("3600.0 s"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(4), "it does not wait for what cannot be");
}

#[test]
fn answers_that_are_none_are_refused() {
    for (body, part) in [
        ("<html>hello</html>", "<html>hello"),
        (r#"{"data": []}"#, "0 vectors for 1 texts"),
        (r#"{"data": [{"index": 0, "embedding": []}]}"#, "without numbers"),
        (r#"{"data": [{"index": 0, "embedding": [1e99]}]}"#, "out of range"),
        (r#"{"data": [{"index": 0, "embedding": "AACAPw=="}]}"#, "is not what an embedding service sends"),
    ] {
        let service = Service::start(&[Act::Body(body)]);
        let (status, text) = failure(&service.remote(|_| {}));
        assert_eq!((status, service.seen(|_| ()).len()), (None, 1));
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn vectors_of_another_length_than_before_are_refused() {
    let service = Service::start(&[Act::Dim(4), Act::Dim(6)]);
    let remote = service.remote(|_| {});
    embed(&remote, &["text"], TextKind::Query).expect("vectors");
    let (_, text) = failure(&remote);
    assert!(text.contains("6 dimensions") && text.contains("has 4"), "{text}");
    let service = Service::start(&[Act::Dim(6)]);
    let (_, text) = failure(&service.remote(|options| options.dimensions = 4));
    assert!(text.contains("6 dimensions") && text.contains("has 4"), "{text}");
}

#[test]
fn a_service_that_hangs_is_given_up_in_time() {
    let service = Service::start(&[const { Act::Hang(Duration::from_secs(20)) }; 9]);
    let remote = service.remote(|options| (options.timeout_ms, options.give_up_ms) = (300, 1500));
    let began = Instant::now();
    let (status, text) = failure(&remote);
    assert!((300..4000).contains(&(began.elapsed().as_millis() as u64)), "{:?}", began.elapsed());
    assert_eq!(status, None);
    assert!(text.contains("did not answer within"), "{text}");
    let nobody = service.remote(|options| {
        options.url = "http://127.0.0.1:9".into();
        options.retries = 1;
    });
    let (_, text) = failure(&nobody);
    assert!(text.contains("127.0.0.1:9") && text.contains("2 times tried"), "{text}");
}

#[test]
fn no_more_requests_are_on_their_way_than_may_be_from_however_many_callers() {
    let service = Service::start(&[]).with(|state| state.delay = Duration::from_millis(20));
    let remote = service.remote(|options| (options.batch_texts, options.in_flight) = (1, 2));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| embed(&remote, &["a", "b", "c", "d"], TextKind::Passage).expect("vectors"));
        }
    });
    let most = service.state().most;
    assert_eq!((most, service.seen(|_| ()).len()), (2, 12));
}

#[test]
fn a_batch_that_is_too_large_for_the_service_is_halved() {
    let service = Service::start(&[]).with(|state| state.limit = 3);
    let remote = service.remote(|_| {});
    let texts = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"];
    let found = embed(&remote, &texts, TextKind::Passage).expect("vectors");
    let lengths: Vec<f32> = found.vectors.iter().map(|vector| vector[0]).collect();
    assert_eq!(lengths, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn the_first_failure_ends_the_other_batches_and_a_cancelled_call_begins_none() {
    let service = Service::start(&[Act::Status(400, "", "bad text")]).with(|state| {
        state.delay = Duration::from_millis(20);
    });
    let remote = service.remote(|options| (options.batch_texts, options.in_flight) = (1, 1));
    let texts = ["x"; 50];
    let error = embed(&remote, &texts, TextKind::Passage).expect_err("the first batch is refused");
    assert!(error.to_string().contains("bad text"), "{error}");
    assert_eq!(service.seen(|_| ()).len(), 1);
    let cancel = Cancel::new();
    cancel.cancel();
    let inputs = [Input::Text("x"); 3];
    assert!(matches!(remote.embed_inputs(&inputs, TextKind::Passage, &cancel), Err(Error::Cancelled)));
    assert_eq!(service.seen(|_| ()).len(), 1);
}
