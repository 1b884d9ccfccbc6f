//! Whether quotes stand verbatim at the characters their citations name, over
//! corpora written out as files of four types.
//!
//! The files are added as `cairn add` adds a folder. A quote is looked up in two
//! places: in the text that is taken out of the file, at the span of the citation
//! and on the page that it names, and in the passages as the collection has
//! stored them. Beside that it is told how many quotes have the words of the
//! corpus in their order, which says how well a type of files is read.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cairn_embed::{Cancel, Silent};
use cairn_index::{Database, Options, Parts, Scroll};
use cairn_rag::eval::{JudgedQuery, JudgedSet, Text, read_lines};
use cairn_rag::parse::{Parsed, parse};
use cairn_rag::{Citation, Engine, IngestOptions, ModelOptions, Question, RagOptions};

use crate::written::Kind;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub(crate) fn run(wanted: &crate::Citations) -> Outcome {
    let handbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handbook");
    let folders = [wanted.data.join("xquad-en"), wanted.data.join("cranfield"), handbook];
    let corpora: Vec<Corpus> = folders.iter().map(|folder| Corpus::read(folder)).collect::<Outcome<_>>()?;
    let share = wanted.answers.div_ceil(corpora.len() * Kind::ALL.len());

    println!("| corpus | type | files | asked | answers | quotes | verbatim, % | words of the corpus, % |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    let mut all = Count::default();
    for corpus in &corpora {
        for kind in Kind::ALL {
            let dir = tempfile::tempdir()?;
            let written = Written::new(corpus, kind, dir.path())?;
            let count = written.ask(share)?;
            println!("| {} | {} | {} |", corpus.name, kind.end(), count.row());
            all.add(&count);
        }
    }
    println!("| all | | {} |", all.row());
    if all.answers < wanted.answers {
        return Err(format!("{} answers quote something, {} are wanted", all.answers, wanted.answers).into());
    }
    if all.verbatim < all.quotes {
        return Err(format!("{} quotes do not stand where they should", all.quotes - all.verbatim).into());
    }
    Ok(())
}

/// A judged set.
struct Corpus {
    name: String,
    texts: Vec<Text>,
    queries: Vec<JudgedQuery>,
}

impl Corpus {
    fn read(folder: &Path) -> Outcome<Self> {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut texts: Vec<Text> = read_lines(&folder.join("corpus.jsonl"))?;
        texts.retain(|one| !one.text.trim().is_empty());
        let judged = JudgedSet::read(&folder.join("queries.jsonl"), &folder.join("qrels.tsv"))?;
        Ok(Self { name, texts, queries: judged.queries })
    }
}

#[derive(Default)]
struct Count {
    files: usize,
    asked: usize,
    answers: usize,
    quotes: usize,
    verbatim: usize,
    same_words: usize,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.asked += other.asked;
        self.answers += other.answers;
        self.quotes += other.quotes;
        self.verbatim += other.verbatim;
        self.same_words += other.same_words;
    }

    /// Shares of nothing are not told.
    fn row(&self) -> String {
        let share = |part: usize| match self.quotes {
            0 => "not measured".to_owned(),
            quotes => format!("{:.2}", 100.0 * part as f64 / quotes as f64),
        };
        let Self { files, asked, answers, quotes, .. } = self;
        format!(
            "{files} | {asked} | {answers} | {quotes} | {} | {}",
            share(self.verbatim),
            share(self.same_words)
        )
    }
}

/// A corpus in a collection, from files of one type.
struct Written<'c> {
    corpus: &'c Corpus,
    engine: Engine,
    /// What is read from each file, and the words that were written into it.
    files: HashMap<String, (Parsed, String)>,
    /// Of each document: where its passages begin, and their texts.
    stored: HashMap<String, Vec<(usize, Vec<char>)>>,
}

const COLLECTION: &str = "files";

impl<'c> Written<'c> {
    fn new(corpus: &'c Corpus, kind: Kind, dir: &Path) -> Outcome<Self> {
        let (folder, mut files) = (dir.join("files"), HashMap::new());
        fs::create_dir_all(&folder)?;
        for (number, one) in corpus.texts.iter().enumerate() {
            let name = format!("{number}.{}", kind.end());
            let bytes = kind.file(one.title.trim(), one.text.trim())?;
            fs::write(folder.join(&name), &bytes)?;
            let parsed = parse(&name, &bytes)?;
            files.insert(name, (parsed, words(&one.text)));
        }
        let options = Options { min_free_bytes: 0, ..Options::default() };
        let db = Database::open_with(dir.join("data"), options)?;
        let engine = Engine::new(db, ModelOptions::default(), RagOptions::default());
        let (options, cancel) = (IngestOptions::default(), Cancel::new());
        let done = engine.ingest(
            COLLECTION,
            std::slice::from_ref(&folder),
            &options,
            &Silent,
            &cancel,
            &mut |_| {},
        )?;
        if done.added.documents != files.len() {
            return Err(format!("{} of {} files were added", done.added.documents, files.len()).into());
        }
        let stored = stored(&engine)?;
        Ok(Self { corpus, engine, files, stored })
    }

    /// Asks questions, evenly from the whole list, until `wanted` answers quote
    /// something or there are no more.
    fn ask(&self, wanted: usize) -> Outcome<Count> {
        let mut count = Count { files: self.files.len(), ..Count::default() };
        let questions = &self.corpus.queries;
        let step = (questions.len() / wanted.max(1)).max(1);
        // Those that were passed over come when the others are not enough.
        let order = (0..step).flat_map(|from| (from..questions.len()).step_by(step));
        for place in order {
            if count.answers == wanted {
                break;
            }
            let question = Question::new(questions[place].text.as_str());
            let answer = self.engine.ask(COLLECTION, &question, &mut |_| Ok(()))?;
            count.asked += 1;
            count.answers += usize::from(!answer.citations.is_empty());
            for citation in &answer.citations {
                count.quotes += 1;
                count.verbatim += usize::from(self.stands(citation));
                let (_, written) = &self.files[&citation.document_id];
                count.same_words += usize::from(written.contains(&words(&citation.quote)));
            }
        }
        Ok(count)
    }

    /// Whether a quote stands at its place, both in what is read from the file and
    /// in what is stored.
    fn stands(&self, citation: &Citation) -> bool {
        let Some((parsed, _)) = self.files.get(&citation.document_id) else { return false };
        let quote: Vec<char> = citation.quote.chars().collect();
        let is_read = parsed
            .text
            .chars()
            .skip(citation.start)
            .take(citation.end - citation.start)
            .eq(quote.iter().copied());
        let page = parsed.pages.partition_point(|start| *start <= citation.start);
        let is_on_page = citation.page.unwrap_or(0) as usize == page;
        let passages = self.stored.get(&citation.document_id);
        let is_stored = passages.into_iter().flatten().any(|(start, text)| {
            let from = citation.start.checked_sub(*start);
            from.and_then(|from| text.get(from..from + quote.len())) == Some(quote.as_slice())
        });
        !quote.is_empty() && is_read && is_on_page && is_stored
    }
}

/// Of each document its passages: where they begin, and their characters.
type Stored = HashMap<String, Vec<(usize, Vec<char>)>>;

/// The passages as a client reads them.
fn stored(engine: &Engine) -> Outcome<Stored> {
    let collection = engine.database().collection(COLLECTION)?;
    let everything = Scroll { filter: None, limit: usize::MAX - 1, parts: Parts::payload(), from: None };
    let mut stored = Stored::new();
    for record in collection.scroll(&everything)?.records {
        let payload = record.payload.ok_or("a passage has no payload")?;
        let document = payload["document_id"].as_str().ok_or("a passage has no document")?;
        let start = payload["start"].as_u64().ok_or("a passage has no place")?;
        let text = payload["text"].as_str().ok_or("a passage has no text")?;
        stored.entry(document.to_owned()).or_default().push((start as usize, text.chars().collect()));
    }
    Ok(stored)
}

/// Words with one space between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
