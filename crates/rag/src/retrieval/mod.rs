//! From a query to passages: search, fuse, rerank, age, diversify, expand.
//!
//! Every read of one retrieval sees the collection at one seq. Scores are those
//! of the last stage that put passages in order; what each stage gave is kept
//! with the passage, and told in full when asked.

mod decay;
mod diversity;
mod explain;
mod fusion;
mod options;
mod rerank;

use std::collections::{HashMap, HashSet};

use cairn_embed::{Embedder, TextKind};
use cairn_index::{Parts, PointId, Reading, Search, Selector};

pub use explain::{Stage, Step};
pub use options::{Decay, Expand, Fusion, FusionMethod, Mode, RetrievalChange, RetrievalOptions};
pub use rerank::Rerank;

pub(crate) use options::within;
pub(crate) use rerank::SharedRerank;

use crate::answer::{Retrieved, Scores, TextSearch};
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::similarity::cosine;
use crate::stored::{passage_id, retrieved};
use crate::words::{WORDS, Words};
use explain::Trace;
use fusion::{By, Ranked, fuse};

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// The passages, best first; one that was expanded to follows its hit.
    pub passages: Vec<Retrieved>,
    /// The seq of the collection that was searched.
    pub seq: u64,
    /// What did not go as asked.
    pub warnings: Vec<String>,
    /// The stages, if the search asked to explain itself.
    pub stages: Vec<Stage>,
    /// The options in force.
    pub options: RetrievalOptions,
    /// The query's embedding, where one was needed.
    pub(crate) vector: Vec<f32>,
}

/// Passages of a section on each side of a hit at most.
const SECTION_REACH: u32 = 16;

/// Candidates that diversity chooses among, for each passage wanted.
const CHOICE: usize = 4;

/// Finds passages in a collection at one seq.
pub(crate) struct Retriever<'e> {
    pub(crate) reading: &'e Reading,
    pub(crate) encoder: &'e Embedder,
    pub(crate) options: RetrievalOptions,
    pub(crate) generator: Option<&'e Generator>,
    pub(crate) reranker: Option<SharedRerank>,
    /// Microseconds since 1970.
    pub(crate) now: i64,
    /// Embed the query even where no stage needs it.
    pub(crate) for_answer: bool,
}

/// A query in one of its wordings.
struct Wording {
    text: String,
    kind: TextKind,
}

impl Retriever<'_> {
    /// # Errors
    /// [`Error::Option`], [`Error::NoWords`], or a failure of model or database.
    pub(crate) fn run(mut self, wanted: &TextSearch) -> Result<Retrieval> {
        self.options.check()?;
        let mut warnings = Vec::new();
        let words = Words::of(self.reading.config())?;
        if words.is_none() {
            self.without_words(&mut warnings)?;
        }
        let mut trace = Trace::new(wanted.explain);
        let wordings = self.wordings(&wanted.query, &mut warnings, &mut trace);
        let vectors = self.embed(&wordings, &mut trace)?;
        let lists = self.lists(wanted, &wordings, &vectors, words.as_ref(), &mut trace)?;

        let mut found = Candidates::new(self.reading, &lists);
        let mut ranked = self.fused(&lists, &mut trace);
        self.rerank(wanted, &mut ranked, &mut found, &mut warnings, &mut trace)?;
        self.age(&mut ranked, &mut found, &mut trace)?;
        self.diversify(wanted.limit, &mut ranked, &mut trace)?;
        let mut passages = found.take(&ranked, wanted.limit)?;
        for passage in &mut passages {
            passage.path = trace.path(passage.id);
        }
        let mut passages = self.expand(passages, &mut trace)?;
        let vector = vectors.into_iter().next().unwrap_or_default();
        self.compare(&mut passages, &vector)?;
        trace.stage("read", passages.len(), || None);
        Ok(Retrieval {
            passages,
            seq: self.reading.seq(),
            warnings,
            stages: trace.stages,
            options: self.options,
            vector,
        })
    }

    /// A collection that was made without BM25 vectors is searched by meaning.
    fn without_words(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        let name = self.reading.collection().name().to_owned();
        match self.options.mode {
            Mode::Dense => {}
            Mode::Sparse => return Err(Error::NoWords { name }),
            Mode::Hybrid => {
                warnings.push(format!(
                    "collection `{name}` has no BM25 vectors, it was searched by meaning alone; \
                     add its documents to a new collection to search words as well"
                ));
                self.options.mode = Mode::Dense;
            }
        }
        Ok(())
    }

    /// The query, and what the generator makes of it.
    fn wordings(&self, query: &str, warnings: &mut Vec<String>, trace: &mut Trace) -> Vec<Wording> {
        let mut wordings = vec![Wording { text: query.to_owned(), kind: TextKind::Query }];
        if self.options.rewrites == 0 && !self.options.hyde {
            return wordings;
        }
        let Some(generator) = self.generator else {
            warnings.push(
                "rewrites and hyde need a language model, set rag.generator.gguf or rag.generator.url; \
                 searched without them"
                    .to_owned(),
            );
            return wordings;
        };
        if self.options.rewrites > 0 {
            match generator.rewrites(query, self.options.rewrites) {
                Ok(texts) => {
                    wordings.extend(texts.into_iter().map(|text| Wording { text, kind: TextKind::Query }));
                }
                Err(error) => warnings.push(format!("{error}; searched without other wordings")),
            }
        }
        if self.options.hyde {
            match generator.imagined(query) {
                Ok(text) => wordings.push(Wording { text, kind: TextKind::Passage }),
                Err(error) => warnings.push(format!("{error}; searched without an imagined answer")),
            }
        }
        trace.stage("rewrite", wordings.len(), || {
            Some(wordings.iter().skip(1).map(|one| one.text.as_str()).collect::<Vec<_>>().join(" | "))
        });
        wordings
    }

    fn embed(&self, wordings: &[Wording], trace: &mut Trace) -> Result<Vec<Vec<f32>>> {
        if self.options.mode == Mode::Sparse && !self.for_answer {
            return Ok(Vec::new());
        }
        let mut vectors = Vec::with_capacity(wordings.len());
        for group in wordings.chunk_by(|a, b| a.kind == b.kind) {
            let texts: Vec<&str> = group.iter().map(|one| one.text.as_str()).collect();
            vectors.extend(self.encoder.embed(&texts, group[0].kind)?.vectors);
        }
        trace.stage("embed", vectors.len(), || None);
        Ok(vectors)
    }

    /// The nearest passages to each wording, by meaning and by words.
    fn lists(
        &self,
        wanted: &TextSearch,
        wordings: &[Wording],
        vectors: &[Vec<f32>],
        words: Option<&Words>,
        trace: &mut Trace,
    ) -> Result<Vec<Ranked>> {
        let depth = self.options.candidates.max(wanted.limit);
        let mut lists = Vec::new();
        let mut run = |search: Search, by: By, text: &str| -> Result<()> {
            let mut search = search.limit(depth);
            search.filter.clone_from(&wanted.filter);
            let hits: Vec<_> =
                self.reading.search(&search)?.hits.into_iter().map(|hit| (hit.id, hit.score)).collect();
            let stage = if by == By::Meaning { "dense" } else { "sparse" };
            trace.ranked(stage, &hits, || (wordings.len() > 1).then(|| text.to_owned()));
            lists.push(Ranked { by, hits });
            Ok(())
        };
        for (at, wording) in wordings.iter().enumerate() {
            if self.options.mode != Mode::Sparse {
                run(Search::nearest(vectors[at].clone()), By::Meaning, &wording.text)?;
            }
            // An imagined answer has words that nobody asked for.
            let Some(words) = words.filter(|_| self.options.mode != Mode::Dense) else { continue };
            if wording.kind == TextKind::Query {
                run(Search::nearest(words.query(&wording.text)).using(WORDS), By::Words, &wording.text)?;
            }
        }
        Ok(lists)
    }

    fn fused(&self, lists: &[Ranked], trace: &mut Trace) -> Vec<(PointId, f32)> {
        if let [alone] = lists {
            return alone.hits.clone();
        }
        let fused = fuse(lists, self.options.fusion);
        trace.ranked("fuse", &fused, || {
            let Fusion { method, k, dense } = self.options.fusion;
            Some(match method {
                FusionMethod::Weighted => format!("weighted, dense {dense}"),
                FusionMethod::Rrf => format!("rrf, k {k}"),
            })
        });
        fused
    }

    fn rerank(
        &self,
        wanted: &TextSearch,
        ranked: &mut Vec<(PointId, f32)>,
        found: &mut Candidates<'_>,
        warnings: &mut Vec<String>,
        trace: &mut Trace,
    ) -> Result<()> {
        let Some(reranker) = self.reranker.as_ref().filter(|_| self.options.rerank) else { return Ok(()) };
        let count = self.options.rerank_candidates.max(wanted.limit);
        let passages = found.take(ranked, count)?;
        let texts: Vec<&str> = passages.iter().map(|passage| passage.text.as_str()).collect();
        let scores = match reranker.score(&wanted.query, &texts) {
            Ok(scores) => scores,
            Err(error) => {
                warnings.push(format!("reranking failed: {error}; the order is that before it"));
                return Ok(());
            }
        };
        *ranked = passages.iter().map(|passage| passage.id).zip(scores).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (id, score) in &*ranked {
            found.scores.entry(*id).or_default().rerank = Some(*score);
        }
        trace.ranked("rerank", ranked, || Some(reranker.name().to_owned()));
        Ok(())
    }

    fn age(
        &self,
        ranked: &mut Vec<(PointId, f32)>,
        found: &mut Candidates<'_>,
        trace: &mut Trace,
    ) -> Result<()> {
        let Some(decay) = &self.options.decay else { return Ok(()) };
        let passages = found.take(ranked, ranked.len())?;
        let of = |passage: &Retrieved| passage.score * decay::factor(decay, &passage.metadata, self.now);
        *ranked = passages.iter().map(|passage| (passage.id, of(passage))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        trace.ranked("decay", ranked, || Some(format!("metadata.{}", decay.field)));
        Ok(())
    }

    fn diversify(&self, limit: usize, ranked: &mut Vec<(PointId, f32)>, trace: &mut Trace) -> Result<()> {
        if self.options.diversity == 0.0 {
            return Ok(());
        }
        ranked.truncate(limit * CHOICE);
        let vectors = self.vectors(ranked.iter().map(|(id, _)| *id))?;
        let scores: Vec<f32> = ranked.iter().map(|(_, score)| *score).collect();
        let vectors: Vec<&[f32]> =
            ranked.iter().map(|(id, _)| vectors.get(id).map_or(&[][..], Vec::as_slice)).collect();
        // Textless points are left out later, so a few more are chosen.
        let picked = diversity::pick(&scores, &vectors, self.options.diversity, limit * 2);
        *ranked = picked.into_iter().map(|at| ranked[at]).collect();
        trace.ranked("diversify", ranked, || Some(format!("diversity {}", self.options.diversity)));
        Ok(())
    }

    /// The embeddings of passages.
    pub(crate) fn vectors(&self, ids: impl Iterator<Item = PointId>) -> Result<HashMap<PointId, Vec<f32>>> {
        let ids: Vec<PointId> = ids.collect();
        let parts = Parts { payload: Selector::None, vectors: Selector::Only(vec![String::new()]) };
        let records = self.reading.get(&ids, &parts)?;
        let vectors = records.into_iter().filter_map(|record| {
            let vector = record.vectors?.remove("")?;
            Some((record.id, vector.as_dense()?.to_vec()))
        });
        Ok(vectors.collect())
    }

    /// Gives each passage its similarity to the query, also those that only
    /// their words have brought.
    fn compare(&self, passages: &mut [Retrieved], query: &[f32]) -> Result<()> {
        if query.is_empty() {
            return Ok(());
        }
        let unknown =
            passages.iter().filter(|passage| passage.scores.dense.is_none()).map(|passage| passage.id);
        let vectors = self.vectors(unknown)?;
        for passage in passages {
            if let Some(vector) = vectors.get(&passage.id) {
                passage.scores.dense = Some(cosine(query, vector));
            }
        }
        Ok(())
    }

    /// Puts the passages around each hit behind it.
    fn expand(&self, passages: Vec<Retrieved>, trace: &mut Trace) -> Result<Vec<Retrieved>> {
        if self.options.expand == Expand::None {
            return Ok(passages);
        }
        let mut there: HashSet<PointId> = passages.iter().map(|passage| passage.id).collect();
        let mut expanded = Vec::new();
        for passage in passages {
            let around = self.around(&passage)?;
            expanded.push(passage);
            expanded.extend(around.into_iter().filter(|one| there.insert(one.id)));
        }
        trace.stage("expand", expanded.len(), || Some(format!("{:?}", self.options.expand).to_lowercase()));
        Ok(expanded)
    }

    fn around(&self, hit: &Retrieved) -> Result<Vec<Retrieved>> {
        let reach = if self.options.expand == Expand::Neighbours { 1 } else { SECTION_REACH };
        let numbers = hit.number.saturating_sub(reach)..=hit.number.saturating_add(reach);
        let ids: Vec<PointId> = numbers
            .filter(|number| *number != hit.number)
            .map(|number| passage_id(&hit.document_id, number as usize))
            .collect();
        let records = self.reading.get(&ids, &Parts::payload())?;
        let passages = records.into_iter().filter_map(|record| retrieved(record.id, record.payload?));
        let wanted = passages
            .filter(|passage| self.options.expand == Expand::Neighbours || passage.heading == hit.heading);
        Ok(wanted
            .map(|passage| Retrieved { expanded_from: Some(hit.id), score: hit.score, ..passage })
            .collect())
    }
}

/// The payloads of candidates, read when first needed, and their scores.
struct Candidates<'r> {
    reading: &'r Reading,
    known: HashMap<PointId, Option<Retrieved>>,
    scores: HashMap<PointId, Scores>,
    fused: bool,
}

impl<'r> Candidates<'r> {
    fn new(reading: &'r Reading, lists: &[Ranked]) -> Self {
        let mut scores: HashMap<PointId, Scores> = HashMap::new();
        for list in lists {
            for (id, score) in &list.hits {
                let of = scores.entry(*id).or_default();
                let slot = if list.by == By::Meaning { &mut of.dense } else { &mut of.sparse };
                *slot = Some(slot.map_or(*score, |before| before.max(*score)));
            }
        }
        Self { reading, known: HashMap::new(), scores, fused: lists.len() > 1 }
    }

    /// The first `count` of the ranked that have a text.
    fn take(&mut self, ranked: &[(PointId, f32)], count: usize) -> Result<Vec<Retrieved>> {
        let mut taken = Vec::new();
        for chunk in ranked.chunks(count.max(1)) {
            self.read(chunk)?;
            for (id, score) in chunk {
                // Points without a text came from elsewhere and cannot be quoted.
                let Some(Some(passage)) = self.known.get(id) else { continue };
                let scores = self.scores.get(id).copied().unwrap_or_default();
                let fused = self.fused.then_some(*score).filter(|_| scores.rerank.is_none());
                let scores = Scores { fused: scores.fused.or(fused), ..scores };
                taken.push(Retrieved { score: *score, scores, ..passage.clone() });
                self.scores.insert(*id, scores);
                if taken.len() == count {
                    return Ok(taken);
                }
            }
        }
        Ok(taken)
    }

    fn read(&mut self, ranked: &[(PointId, f32)]) -> Result<()> {
        let ids: Vec<PointId> =
            ranked.iter().map(|(id, _)| *id).filter(|id| !self.known.contains_key(id)).collect();
        for record in self.reading.get(&ids, &Parts::payload())? {
            let passage = record.payload.and_then(|payload| retrieved(record.id, payload));
            self.known.insert(record.id, passage);
        }
        Ok(())
    }
}
