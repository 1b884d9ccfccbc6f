//! The one-minute path: a real corpus, three questions, cited answers.
//!
//! The corpus travels in the binary, so the demo needs no file but the model:
//! Cairn's own documentation, and a small judged set of general knowledge.

use std::sync::Arc;
use std::time::Instant;

use cairn_rag::{Added, Document, Engine, Format, Question, corpus_line};
use serde_json::Map;

use crate::failure::Outcome;
use crate::out;
use crate::progress::counting;
use crate::settings::Settings;
use crate::verbs::{load_model_of, open, print_answer, serve};

// Without the front page, which shows these very questions.
const DOCUMENTATION: [(&str, &str, &str); 6] = [
    ("crates/README.md", "The house", include_str!("../../README.md")),
    ("crates/ann/README.md", "cairn-ann", include_str!("../../ann/README.md")),
    ("crates/index/README.md", "cairn-index", include_str!("../../index/README.md")),
    ("crates/embed/README.md", "cairn-embed", include_str!("../../embed/README.md")),
    ("crates/rag/README.md", "cairn-rag", include_str!("../../rag/README.md")),
    ("crates/server/README.md", "cairn-server", include_str!("../../server/README.md")),
];

const HANDBOOK: &str = include_str!("../../../tests/data/handbook/corpus.jsonl");

const COLLECTION: &str = "demo";

/// Three that the corpus answers and one that it does not.
const QUESTIONS: [&str; 4] = [
    "Why do hikers build cairns?",
    "What happens when the disk fails?",
    "Which lighthouse had the first Fresnel lens?",
    "Who won the chess world championship in 1972?",
];

pub(crate) fn run(settings: &Settings, then_serve: bool) -> Outcome {
    let started = Instant::now();
    let engine = Arc::new(open(settings)?);
    out::note("Getting the model, once:");
    load_model_of(&engine, COLLECTION)?;

    let added = add_corpus(&engine)?;
    out::line(format!(
        "{} documents in `{COLLECTION}` ({} new, {} passages embedded)\n",
        added.documents + added.unchanged,
        added.documents,
        added.passages
    ));

    for question in QUESTIONS {
        out::line(format!("> {question}"));
        let asked = Instant::now();
        let answer = engine.ask(COLLECTION, &Question::new(question), &mut |_| Ok(()))?;
        print_answer(&answer);
        out::line(format!("  answered in {} ms\n", asked.elapsed().as_millis()));
    }

    let dir = settings.data_dir.display();
    // As it was started: `cairn` need not be on the path yet.
    let cairn = std::env::args().next().unwrap_or_else(|| "cairn".to_owned());
    let address = format!("http://{}:{}", settings.server.host, settings.server.port);
    out::line(format!(
        "All of it took {:.1} s. The data is in {dir}. Go on with:",
        started.elapsed().as_secs_f64()
    ));
    out::line(format!("  {cairn} --data-dir {dir} ask {COLLECTION} \"your question\""));
    out::line(format!("  {cairn} --data-dir {dir} add {COLLECTION} your/folder"));
    out::line(format!("  {cairn} --data-dir {dir} serve"));
    out::line(format!("      API      {address}/openapi.json"));
    out::line(format!("      console  {address}/dashboard"));
    if then_serve {
        serve(&engine, settings)?;
    }
    Ok(())
}

fn add_corpus(engine: &Engine) -> Outcome<Added> {
    let documentation = DOCUMENTATION.map(|(id, title, text)| Document {
        id: id.to_owned(),
        title: title.to_owned(),
        text: text.to_owned(),
        metadata: Map::new(),
        pages: Vec::new(),
    });
    let mut handbook = Vec::new();
    for line in HANDBOOK.lines() {
        handbook.extend(corpus_line(line)?);
    }
    let bar = counting("embedding documents", documentation.len() + handbook.len());
    let mut all = Added::default();
    for (documents, format) in
        [(documentation.as_slice(), Format::Markdown), (handbook.as_slice(), Format::Text)]
    {
        let before = all.documents + all.unchanged;
        let mut show = |done: usize| bar.set_position((before + done) as u64);
        let added = engine.add(COLLECTION, documents, format, &mut show)?;
        all.documents += added.documents;
        all.unchanged += added.unchanged;
        all.passages += added.passages;
        all.tokens += added.tokens;
    }
    bar.finish_and_clear();
    Ok(all)
}
