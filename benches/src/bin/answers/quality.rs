//! Right answers, verbatim quotes, refusals.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_embed::TextKind;
use cairn_index::{Database, Options};
use cairn_rag::eval::{JudgedQuery, JudgedSet, Text, contains, read_lines};
use cairn_rag::{Answer, Document, Engine, ExtractOptions, Format, ModelOptions, Question, RagOptions};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Sentences an answer may have.
const BUDGETS: [usize; 2] = [1, 3];

/// Questions of another set that are asked of each.
const FOREIGN: usize = 150;

pub(crate) fn run(wanted: &crate::Quality) -> Outcome {
    let handbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handbook");
    let folders = [wanted.data.join("xquad-en"), wanted.data.join("cranfield"), handbook.clone()];
    let sets: Vec<Set> = folders.iter().map(|folder| Set::read(folder)).collect::<Outcome<_>>()?;
    let near_misses: Vec<JudgedQuery> = read_lines(&handbook.join("unanswerable.jsonl"))?;

    let dir = tempfile::tempdir()?;
    let options = Options { min_free_bytes: 0, ..Options::default() };
    // Every question is answered with as many sentences as there may be; what
    // would have been refused follows from the confidence.
    let extract = ExtractOptions { min_confidence: 0.0, min_share: 0.0, ..ExtractOptions::default() };
    let rag = RagOptions { extract, ..RagOptions::default() };
    let engine = Engine::new(Database::open_with(dir.path(), options)?, ModelOptions::default(), rag);

    let mut asked: Vec<Asked> = Vec::new();
    for (number, set) in sets.iter().enumerate() {
        engine.add(&set.name, &set.documents(), Format::Text, &mut |_| {})?;
        for (place, query) in set.judged.queries.iter().enumerate() {
            asked.push(Asked::ask(&engine, set, query, place, true)?);
        }
        for (place, query) in sets[(number + 1) % sets.len()].judged.queries.iter().take(FOREIGN).enumerate()
        {
            asked.push(Asked::ask(&engine, set, query, place, false)?);
        }
    }
    answers(&engine, &sets[0], &asked)?;
    quotes(&sets, &asked);
    refusals(&asked);
    let mut refused = 0;
    for query in &near_misses {
        let answer = Asked::ask(&engine, &sets[2], query, 0, false)?;
        refused += usize::from(answer.confidence() < ExtractOptions::default().min_confidence);
    }
    println!(
        "handbook's own questions without an answer, half of them near misses: {refused} of {} refused",
        near_misses.len()
    );
    if let Some(file) = &wanted.dump {
        dump(file, &asked)?;
    }
    Ok(())
}

/// A judged set with its documents.
struct Set {
    name: String,
    corpus: Vec<Text>,
    judged: JudgedSet,
}

impl Set {
    fn read(folder: &Path) -> Outcome<Self> {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut corpus: Vec<Text> = read_lines(&folder.join("corpus.jsonl"))?;
        corpus.retain(|one| !one.text.trim().is_empty());
        let judged = JudgedSet::read(&folder.join("queries.jsonl"), &folder.join("qrels.tsv"))?;
        Ok(Self { name, corpus, judged })
    }

    fn documents(&self) -> Vec<Document> {
        let document = |one: &Text| Document {
            id: one.id.clone(),
            title: one.title.clone(),
            text: one.text.clone(),
            metadata: serde_json::Map::new(),
            pages: Vec::new(),
        };
        self.corpus.iter().map(document).collect()
    }
}

/// A question and what came of it.
struct Asked {
    set: String,
    /// Among the questions of its file.
    place: usize,
    query: JudgedQuery,
    answerable: bool,
    answer: Answer,
}

impl Asked {
    fn ask(engine: &Engine, set: &Set, query: &JudgedQuery, place: usize, answerable: bool) -> Outcome<Self> {
        let answer = engine.ask(&set.name, &Question::new(query.text.as_str()), &mut |_| Ok(()))?;
        Ok(Self { set: set.name.clone(), place, query: query.clone(), answerable, answer })
    }

    fn confidence(&self) -> f32 {
        self.answer.searched.confidence
    }

    /// The best `budget` sentences.
    fn best(&self, budget: usize) -> String {
        let mut citations: Vec<_> = self.answer.citations.iter().collect();
        citations.sort_by(|a, b| b.score.total_cmp(&a.score));
        let quotes: Vec<&str> = citations.iter().take(budget).map(|one| one.quote.as_str()).collect();
        quotes.join(" ")
    }

    fn is_reported(&self) -> bool {
        self.place % 2 == 1
    }
}

/// Answers that hold a known one, beside the baseline.
fn answers(engine: &Engine, set: &Set, asked: &[Asked]) -> Outcome {
    let baseline = Baseline::new(engine, set)?;
    println!("{}: share of answers that hold a known one\n", set.name);
    println!("| sentences | questions | baseline | answers | points above |\n|--:|---|--:|--:|--:|");
    for budget in BUDGETS {
        for (name, reported) in [("even places (weights chosen)", false), ("odd places (reported)", true)] {
            let questions: Vec<&Asked> = asked
                .iter()
                .filter(|one| one.answerable && one.set == set.name && one.is_reported() == reported)
                .collect();
            let share = |right: &dyn Fn(&Asked) -> bool| {
                100.0 * questions.iter().filter(|one| right(one)).count() as f64 / questions.len() as f64
            };
            let ours = share(&|one| contains(&one.best(budget), &one.query.answers));
            let simple = share(&|one| contains(&baseline.best(one.place, budget), &one.query.answers));
            println!("| {budget} | {name} | {simple:.1} | {ours:.1} | {:+.1} |", ours - simple);
        }
    }
    println!();
    Ok(())
}

/// The nearest sentences in the nearest document.
struct Baseline {
    /// By question: the sentences of its nearest document, nearest first.
    ranked: Vec<Vec<String>>,
}

impl Baseline {
    fn new(engine: &Engine, set: &Set) -> Outcome<Self> {
        let embed = |texts: &[&str], kind| engine.embed(None, texts, kind).map(|made| made.vectors);
        let whole: Vec<String> =
            set.corpus.iter().map(|one| format!("{} {}", one.title, one.text).trim().to_owned()).collect();
        let documents = embed(&whole.iter().map(String::as_str).collect::<Vec<_>>(), TextKind::Passage)?;
        let texts: Vec<&str> = set.judged.queries.iter().map(|query| query.text.as_str()).collect();
        let questions = embed(&texts, TextKind::Query)?;
        let mut sentences: HashMap<usize, Vec<(String, Vec<f32>)>> = HashMap::new();
        let mut ranked = Vec::new();
        for question in &questions {
            let near = |vector: &[f32]| question.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
            let nearest = (0..documents.len())
                .max_by(|a, b| near(&documents[*a]).total_cmp(&near(&documents[*b])))
                .ok_or("the corpus is empty")?;
            if let std::collections::hash_map::Entry::Vacant(entry) = sentences.entry(nearest) {
                let texts = cairn_rag::eval::split_sentences(&set.corpus[nearest].text);
                let vectors =
                    embed(&texts.iter().map(String::as_str).collect::<Vec<_>>(), TextKind::Passage)?;
                entry.insert(texts.into_iter().zip(vectors).collect());
            }
            let mut of: Vec<_> = sentences[&nearest].iter().collect();
            of.sort_by(|a, b| near(&b.1).total_cmp(&near(&a.1)));
            ranked.push(of.into_iter().map(|(text, _)| text.clone()).collect());
        }
        Ok(Self { ranked })
    }

    fn best(&self, question: usize, budget: usize) -> String {
        self.ranked[question].iter().take(budget).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Whether each quote stands in the source text at its place.
fn quotes(sets: &[Set], asked: &[Asked]) {
    let sources: HashMap<(&str, &str), Vec<char>> = sets
        .iter()
        .flat_map(|set| {
            set.corpus.iter().map(|one| ((set.name.as_str(), one.id.as_str()), one.text.chars().collect()))
        })
        .collect();
    let (mut citations, mut verbatim, mut answers) = (0, 0, 0);
    for one in asked.iter().filter(|one| !one.answer.citations.is_empty()) {
        answers += 1;
        for citation in &one.answer.citations {
            citations += 1;
            let source = sources.get(&(one.set.as_str(), citation.document_id.as_str()));
            let there = source.and_then(|source| source.get(citation.start..citation.end));
            verbatim +=
                usize::from(there.is_some_and(|there| there.iter().copied().eq(citation.quote.chars())));
        }
    }
    println!(
        "quotes that stand verbatim in the source at their place: {verbatim} of {citations}, over {answers} answers on {} corpora\n",
        sets.len()
    );
}

/// What is refused at each confidence, of the reported half.
fn refusals(asked: &[Asked]) {
    println!(
        "Refused below a confidence, questions at odd places: each set's own questions, and those of another set\n"
    );
    println!(
        "| confidence | own refused, % | foreign refused, % | own xquad-en | own cranfield | own handbook |\n|--:|--:|--:|--:|--:|--:|"
    );
    let share = |threshold: f32, keep: &dyn Fn(&Asked) -> bool| {
        let of: Vec<&Asked> = asked.iter().filter(|one| one.is_reported() && keep(one)).collect();
        100.0 * of.iter().filter(|one| one.confidence() < threshold).count() as f64 / of.len().max(1) as f64
    };
    for step in 1..20 {
        let threshold = step as f32 * 0.05;
        let own = |name: &str| share(threshold, &|one: &Asked| one.answerable && one.set == name);
        println!(
            "| {threshold:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            share(threshold, &|one| one.answerable),
            share(threshold, &|one| !one.answerable),
            own("xquad-en"),
            own("cranfield"),
            own("handbook")
        );
    }
    println!();
}

fn dump(file: &PathBuf, asked: &[Asked]) -> Outcome {
    let line = |one: &Asked| {
        json!({ "set": one.set, "place": one.place, "answerable": one.answerable,
            "evidence": one.answer.searched.evidence, "confidence": one.confidence(), "question": one.query.text })
        .to_string()
    };
    fs::write(file, asked.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    Ok(())
}
