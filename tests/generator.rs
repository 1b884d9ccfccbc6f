//! Answers by a language model, against a small server that speaks the wire
//! format of one: what it says is scripted, everything else is real.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use cairn_index::Database;
use cairn_rag::{Document, Engine, Event, Format, GeneratorOptions, ModelOptions, Question, RagOptions};
use serde_json::{Value, json};

/// Answers one request with `reply` and hands on what was asked.
fn language_model(reply: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = sender.send(serde_json::from_slice(&body).unwrap());
        reply(&mut stream);
    });
    (url, receiver)
}

fn stream_of(
    pieces: &'static [&'static str],
    finished: bool,
) -> impl FnOnce(&mut TcpStream) + Send + 'static {
    move |stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for piece in pieces {
            let chunk = json!({ "choices": [{ "delta": { "content": piece }, "finish_reason": null }] });
            stream.write_all(format!("data: {chunk}\n\n").as_bytes()).unwrap();
        }
        if finished {
            stream.write_all(b"data: [DONE]\n\n").unwrap();
        }
    }
}

fn engine(dir: &Path, url: &str) -> Engine {
    let generator = GeneratorOptions {
        url: url.to_owned(),
        model: "scripted".to_owned(),
        retries: 0,
        ..Default::default()
    };
    let options = RagOptions { generator, ..RagOptions::default() };
    let index = cairn_index::Options { min_free_bytes: 0, ..cairn_index::Options::default() };
    let engine = Engine::new(Database::open_with(dir, index).unwrap(), ModelOptions::default(), options);
    let document = |id: &str, text: &str| Document {
        id: id.to_owned(),
        title: id.to_owned(),
        text: text.to_owned(),
        metadata: serde_json::Map::new(),
    };
    let documents = [
        document("stones", "A cairn is a pile of stones that marks a path. Hikers add a stone as they pass."),
        document("lamps", "A lighthouse shows a lamp to ships at night. Its lens throws the light far."),
    ];
    engine.add("c", &documents, Format::Text, &mut |_| {}).unwrap();
    engine
}

const QUESTION: &str = "What marks a path?";

#[test]
fn a_generated_answer_is_cited_by_sentences_that_stand_in_the_sources() {
    let pieces = ["A pile of ", "stones marks a path [1]. ", "It also sings at noon [7]."];
    let (url, asked) = language_model(stream_of(Box::leak(Box::new(pieces)), true));
    let dir = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let answer = engine(dir.path(), &url)
        .ask("c", &Question::new(QUESTION), &mut |event| {
            events.push(event);
            Ok(())
        })
        .unwrap();

    let asked = asked.recv().unwrap();
    assert_eq!(asked["model"], "scripted");
    let prompt = asked["messages"][1]["content"].as_str().unwrap();
    assert!(prompt.contains("[1] stones") && prompt.ends_with(QUESTION), "{prompt}");

    assert_eq!(answer.generator, "scripted");
    assert_eq!(answer.answer, "A pile of stones marks a path [1]. It also sings at noon [7].");
    assert_eq!(answer.citations.len(), 1);
    assert_eq!(answer.citations[0].quote, "A cairn is a pile of stones that marks a path.");
    assert!(answer.warnings[0].contains("1 sentences"), "{:?}", answer.warnings);
    let deltas = events.iter().filter(|event| matches!(event, Event::Delta(_))).count();
    assert!(deltas >= 2, "the answer came in {deltas} pieces");
    assert!(matches!(events.last(), Some(Event::Done(done)) if *done == answer));
}

#[test]
fn a_model_that_finds_no_answer_makes_a_refusal() {
    let (url, _asked) = language_model(stream_of(&["NO_", "ANSWER"], true));
    let dir = tempfile::tempdir().unwrap();
    let mut told = String::new();
    let answer = engine(dir.path(), &url)
        .ask("c", &Question::new(QUESTION), &mut |event| {
            if let Event::Delta(piece) = event {
                told.push_str(&piece);
            }
            Ok(())
        })
        .unwrap();
    assert!(answer.refused && answer.citations.is_empty());
    assert_eq!(told, "", "the word for no answer is not shown");
}

#[test]
fn a_model_that_fails_leaves_an_extractive_answer_and_a_warning() {
    fn not_json(stream: &mut TcpStream) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {oops\n\n").unwrap();
    }
    fn error(stream: &mut TcpStream) {
        let text = b"HTTP/1.1 500 Internal\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy";
        stream.write_all(text).unwrap();
    }
    type Reply = Box<dyn FnOnce(&mut TcpStream) + Send>;
    let failures: [(Reply, &str); 3] = [
        (Box::new(not_json), "not JSON"),
        (Box::new(error), "busy"),
        (Box::new(stream_of(&["A pile"], false)), "ended before"),
    ];
    for (reply, reason) in failures {
        let (url, _asked) = language_model(reply);
        let dir = tempfile::tempdir().unwrap();
        let answer = engine(dir.path(), &url).ask("c", &Question::new(QUESTION), &mut |_| Ok(())).unwrap();
        assert_eq!(answer.generator, "extractive");
        assert!(answer.answer.contains("marks a path"), "{}", answer.answer);
        assert!(answer.warnings[0].contains(reason), "{:?}", answer.warnings);
    }
}
