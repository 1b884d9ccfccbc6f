//! Runs judged questions through a collection.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use cairn_embed::Embedder;
use cairn_index::{Parts, PointId, Reading};
use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::judged::{JudgedQuery, JudgedSet};
use super::measures::{Measures, contains, token_f1};
use crate::answer::{Answer, TextSearch};
use crate::ask::Question;
use crate::conversation::now_ms;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::retrieval::{Mode, RetrievalChange, RetrievalOptions, Retriever};
use crate::stored::{passage_id, retrieved};

/// What is measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalOptions {
    /// The way of searching that counts, where it differs from the collection's.
    pub retrieval: RetrievalChange,
    /// Only the way of searching that counts, not each way beside it.
    pub only_configured: bool,
    /// Also ask the questions that have known answers.
    pub answers: bool,
    /// Questions that the collection does not answer.
    pub unanswerable: Vec<String>,
}

/// One way of searching, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemReport {
    /// `dense`, `sparse`, `fused`, `reranked`, or `configured` for options that
    /// are none of these.
    pub system: String,
    /// See [`Measures::ndcg_10`].
    pub ndcg_10: Interval,
    /// See [`Measures::recall_100`].
    pub recall_100: Interval,
    /// See [`Measures::mrr_10`].
    pub mrr_10: Interval,
    /// See [`Measures::map`].
    pub map: Interval,
    /// Milliseconds from the text of a query to its passages, half of the
    /// queries.
    pub p50_ms: f64,
    /// The same for 95 of 100 queries.
    pub p95_ms: f64,
}

/// Answers, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswersReport {
    /// Questions with known answers that were asked.
    pub questions: usize,
    /// Share of the answers that hold a known one; a refusal holds none.
    pub contains: Interval,
    /// Token F1 with the best known answer.
    pub f1: Interval,
    /// Citations given.
    pub citations: usize,
    /// Share of them whose quote stands verbatim at its place.
    pub verbatim: f64,
    /// Share of the answers that cite a relevant document.
    pub cites_relevant: Interval,
    /// Share of the questions that were refused although they have an answer.
    pub refused: Interval,
    /// Questions without an answer here that were asked.
    pub unanswerable: usize,
    /// Share of these that were refused.
    pub unanswerable_refused: Interval,
    /// Milliseconds for an answer, half of the questions.
    pub p50_ms: f64,
    /// The same for 95 of 100.
    pub p95_ms: f64,
}

/// What came of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The collection.
    pub collection: String,
    /// Its seq.
    pub seq: u64,
    /// Passages in it.
    pub passages: usize,
    /// Questions that were run.
    pub queries: usize,
    /// The model of the embeddings.
    pub model: String,
    /// The system that the collection's options are.
    pub configured: String,
    /// The options in force.
    pub retrieval: RetrievalOptions,
    /// Each way of searching.
    pub systems: Vec<SystemReport>,
    /// The answers, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answers: Option<AnswersReport>,
    /// What may make the numbers mean something else.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// Passages that are searched, so that there are a hundred documents.
const DEPTH: usize = 300;

impl Engine {
    /// Measures how good a collection is at finding what is judged relevant,
    /// and at answering. A document's rank is that of its best passage. Tells
    /// `progress` how many questions are done and how many there are.
    ///
    /// # Errors
    /// [`Error::Judged`] for a set without questions, and as for
    /// [`Engine::search`].
    pub fn evaluate(
        &self,
        collection: &str,
        set: &JudgedSet,
        options: &EvalOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Report> {
        if set.queries.is_empty() {
            return Err(Error::Judged { what: "no query has a relevant document".to_owned() });
        }
        let (held, model) = self.text_collection(collection)?;
        let reading = held.reading()?;
        let encoder = self.models.get(&model)?;
        let base = TextSearch { retrieval: options.retrieval.clone(), ..TextSearch::new("-") };
        let in_force = self.retriever(&reading, &encoder, &base, 0, false)?.options;
        in_force.check()?;
        let has_words = reading.config().sparse_vectors.contains_key(crate::words::WORDS);
        let (systems, configured) =
            systems(&in_force, has_words, self.reranker().is_some(), options.only_configured);

        let asked = if options.answers {
            set.queries.iter().filter(|query| !query.answers.is_empty()).count() + options.unanswerable.len()
        } else {
            0
        };
        let all = systems.len() * set.queries.len() + asked;
        let mut done = 0;
        let mut step = || {
            done += 1;
            progress(done, all);
        };
        let mut warnings = doubts(&reading, set)?;
        let mut reports = Vec::new();
        for (name, options) in systems {
            let system = System { engine: self, reading: &reading, encoder: &encoder, options };
            reports.push(system.measure(name, set, &mut warnings, &mut step)?);
        }
        let answers = if options.answers {
            Some(self.measure_answers(collection, &reading, set, options, &mut step)?)
        } else {
            None
        };
        Ok(Report {
            collection: held.name().to_owned(),
            seq: reading.seq(),
            passages: reading.count(None)?,
            queries: set.queries.len(),
            model,
            configured: configured.to_owned(),
            retrieval: in_force,
            systems: reports,
            answers,
            warnings,
        })
    }

    fn measure_answers(
        &self,
        collection: &str,
        reading: &Reading,
        set: &JudgedSet,
        options: &EvalOptions,
        step: &mut dyn FnMut(),
    ) -> Result<AnswersReport> {
        let mut tally = Tally::default();
        let ask = |text: &str| {
            let mut question = Question::new(text);
            question.search.retrieval = options.retrieval.clone();
            self.ask(collection, &question, &mut |_| Ok(()))
        };
        for query in set.queries.iter().filter(|query| !query.answers.is_empty()) {
            let started = Instant::now();
            let answer = ask(&query.text)?;
            tally.millis.push(started.elapsed().as_secs_f64() * 1e3);
            tally.answered(query, &answer, &set.relevant[&query.id]);
            tally.verbatim += verbatim(reading, &answer)?;
            step();
        }
        for text in &options.unanswerable {
            tally.unanswerable.push(f64::from(ask(text)?.refused));
            step();
        }
        Ok(tally.report())
    }
}

/// Judged documents that the collection does not have.
fn doubts(reading: &Reading, set: &JudgedSet) -> Result<Vec<String>> {
    let judged: std::collections::HashSet<&String> = set.relevant.values().flat_map(HashMap::keys).collect();
    let ids: Vec<PointId> = judged.iter().map(|document| passage_id(document, 0)).collect();
    let there = reading.get(&ids, &Parts::default())?.len();
    let missing = judged.len() - there;
    if missing == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![format!("{missing} of {} relevant documents are not in the collection", judged.len())])
}

/// The ways of searching that are compared, and which of them is in force.
fn systems(
    in_force: &RetrievalOptions,
    has_words: bool,
    reranks: bool,
    only_configured: bool,
) -> (Vec<(&'static str, RetrievalOptions)>, &'static str) {
    let plain = RetrievalOptions { rerank: false, fusion: in_force.fusion, ..RetrievalOptions::default() };
    let of = |mode: Mode| RetrievalOptions { mode, ..plain.clone() };
    let mut systems = vec![("dense", of(Mode::Dense))];
    if has_words {
        systems.push(("sparse", of(Mode::Sparse)));
        systems.push(("fused", of(Mode::Hybrid)));
    }
    if reranks {
        let mode = if has_words { Mode::Hybrid } else { Mode::Dense };
        systems.push(("reranked", RetrievalOptions { rerank: true, ..of(mode) }));
    }
    let settled = RetrievalOptions {
        rerank: in_force.rerank && reranks,
        mode: if has_words { in_force.mode } else { Mode::Dense },
        ..in_force.clone()
    };
    let alike = |options: &RetrievalOptions| {
        let options = RetrievalOptions { rerank_candidates: settled.rerank_candidates, ..options.clone() };
        options == settled
    };
    let configured = systems.iter().find(|(_, options)| alike(options)).map(|(name, _)| *name);
    let name = configured.unwrap_or("configured");
    if configured.is_none() {
        systems.push((name, settled));
    }
    if only_configured {
        systems.retain(|(system, _)| *system == name);
    }
    (systems, name)
}

/// One way of searching.
struct System<'e> {
    engine: &'e Engine,
    reading: &'e Reading,
    encoder: &'e Embedder,
    options: RetrievalOptions,
}

impl System<'_> {
    fn measure(
        &self,
        name: &str,
        set: &JudgedSet,
        warnings: &mut Vec<String>,
        step: &mut dyn FnMut(),
    ) -> Result<SystemReport> {
        let mut measured = Vec::with_capacity(set.queries.len());
        let mut millis = Vec::with_capacity(set.queries.len());
        for query in &set.queries {
            let wanted = TextSearch { limit: DEPTH, ..TextSearch::new(query.text.as_str()) };
            let now = now_ms() as i64 * 1000;
            let retriever = self.engine.retriever(self.reading, self.encoder, &wanted, now, false)?;
            let retriever = Retriever { options: self.options.clone(), ..retriever };
            let started = Instant::now();
            let mut found = retriever.run(&wanted)?;
            millis.push(started.elapsed().as_secs_f64() * 1e3);
            let mut ranked: Vec<String> = Vec::new();
            for passage in found.passages {
                if !ranked.contains(&passage.document_id) {
                    ranked.push(passage.document_id);
                }
            }
            measured.push(Measures::of(&ranked, &set.relevant[&query.id]));
            found.warnings.retain(|warning| !warnings.contains(warning));
            warnings.append(&mut found.warnings);
            step();
        }
        let interval = |of: fn(&Measures) -> f64| Interval::of(&measured.iter().map(of).collect::<Vec<_>>());
        Ok(SystemReport {
            system: name.to_owned(),
            ndcg_10: interval(|one| one.ndcg_10),
            recall_100: interval(|one| one.recall_100),
            mrr_10: interval(|one| one.mrr_10),
            map: interval(|one| one.map),
            p50_ms: percentile(&mut millis, 0.5),
            p95_ms: percentile(&mut millis, 0.95),
        })
    }
}

/// What is counted while questions are asked.
#[derive(Default)]
struct Tally {
    contains: Vec<f64>,
    f1: Vec<f64>,
    relevant: Vec<f64>,
    refused: Vec<f64>,
    unanswerable: Vec<f64>,
    citations: usize,
    verbatim: usize,
    millis: Vec<f64>,
}

impl Tally {
    fn answered(&mut self, query: &JudgedQuery, answer: &Answer, relevant: &HashMap<String, u32>) {
        let right = !answer.refused && contains(&answer.answer, &query.answers);
        self.contains.push(f64::from(right));
        self.f1.push(if answer.refused { 0.0 } else { token_f1(&answer.answer, &query.answers) });
        let cites = answer.citations.iter().any(|citation| relevant.contains_key(&citation.document_id));
        self.relevant.push(f64::from(cites));
        self.refused.push(f64::from(answer.refused));
        self.citations += answer.citations.len();
    }

    fn report(mut self) -> AnswersReport {
        AnswersReport {
            questions: self.contains.len(),
            contains: Interval::of(&self.contains),
            f1: Interval::of(&self.f1),
            citations: self.citations,
            verbatim: if self.citations == 0 { 1.0 } else { self.verbatim as f64 / self.citations as f64 },
            cites_relevant: Interval::of(&self.relevant),
            refused: Interval::of(&self.refused),
            unanswerable: self.unanswerable.len(),
            unanswerable_refused: Interval::of(&self.unanswerable),
            p50_ms: percentile(&mut self.millis, 0.5),
            p95_ms: percentile(&mut self.millis, 0.95),
        }
    }
}

/// Citations of an answer that stand in the passages as they are stored.
fn verbatim(reading: &Reading, answer: &Answer) -> Result<usize> {
    let ids: Vec<PointId> =
        answer.provenance.iter().flat_map(|record| record.passages.iter().map(|one| one.id)).collect();
    let stored: BTreeMap<PointId, _> = reading
        .get(&ids, &Parts::payload())?
        .into_iter()
        .filter_map(|record| Some((record.id, retrieved(record.id, record.payload?)?)))
        .collect();
    let stands = |citation: &&crate::Citation| stored.values().any(|passage| passage.supports(citation));
    Ok(answer.citations.iter().filter(stands).count())
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().saturating_sub(1)) as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

impl Report {
    /// A measure by its name: `ndcg`, `recall`, `mrr` or `map` of the system in
    /// force or, as in `sparse.ndcg`, of another; of answers `contains`, `f1`,
    /// `verbatim`, `refused`, `unanswerable_refused`.
    pub fn value(&self, name: &str) -> Option<f64> {
        let (system, measure) = name.split_once('.').unwrap_or((&self.configured, name));
        if let Some(answers) = &self.answers {
            match measure {
                "contains" => return Some(answers.contains.mean),
                "f1" => return Some(answers.f1.mean),
                "verbatim" => return Some(answers.verbatim),
                "refused" => return Some(answers.refused.mean),
                "unanswerable_refused" => return Some(answers.unanswerable_refused.mean),
                _ => {}
            }
        }
        let system = self.systems.iter().find(|one| one.system == system)?;
        match measure {
            "ndcg" => Some(system.ndcg_10.mean),
            "recall" => Some(system.recall_100.mean),
            "mrr" => Some(system.mrr_10.mean),
            "map" => Some(system.map.mean),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_in_force_is_one_of_those_compared_or_one_more() {
        let usual = RetrievalOptions::default();
        let names = |options: &RetrievalOptions, words, reranks| {
            let (systems, name) = systems(options, words, reranks, false);
            (systems.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), name)
        };
        assert_eq!(names(&usual, true, false), (vec!["dense", "sparse", "fused"], "fused"));
        assert_eq!(names(&usual, true, true).1, "reranked");
        assert_eq!(names(&usual, false, false), (vec!["dense"], "dense"));
        let diverse = RetrievalOptions { diversity: 0.5, ..usual };
        assert_eq!(names(&diverse, true, false).1, "configured");
    }
}
