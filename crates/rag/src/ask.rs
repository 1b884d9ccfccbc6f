//! From a question to an answer with checked citations.

use cairn_embed::{Embedder, TextKind};
use cairn_index::Reading;

use crate::answer::{Answer, Citation, Event, Retrieved, Searched, Sentence, TextSearch};
use crate::confidence::Evidence;
use crate::conversation::{Turn, now_ms, remembered};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::extract::{self, Candidate, Cue, ExtractOptions, Signals};
use crate::generate::{self, Generator};
use crate::overlap::Overlap;
use crate::provenance::{ModelUsed, Provenance, Used, sha256};
use crate::retrieval::{Retrieval, SharedRerank, within};
use crate::similarity::cosine;
use crate::standalone::Finding;
use crate::verify::{Unsupported, Verifier, VerifyOptions};

/// A question and how it is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The question, and how passages are found for it.
    pub search: TextSearch,
    /// Go on with this conversation; see
    /// [`Engine::start_conversation`](crate::Engine::start_conversation).
    pub conversation_id: Option<String>,
    /// What was said before, oldest first, where no conversation is kept here.
    pub history: Vec<Turn>,
    /// Sentences of an extractive answer at most, where it differs from the
    /// settings.
    pub max_sentences: Option<usize>,
    /// Confidence below which there is no answer, where it differs from the
    /// settings.
    pub min_confidence: Option<f32>,
    /// What becomes of sentences that nothing supports, where it differs from
    /// the settings.
    pub unsupported: Option<Unsupported>,
    /// False answers from the passages even where a language model is set.
    pub generate: bool,
}

impl Question {
    /// A question with the settings as they are, over eight passages.
    pub fn new(text: impl Into<String>) -> Self {
        TextSearch { limit: 8, ..TextSearch::new(text) }.into()
    }
}

impl From<TextSearch> for Question {
    fn from(search: TextSearch) -> Self {
        Self {
            search,
            conversation_id: None,
            history: Vec::new(),
            max_sentences: None,
            min_confidence: None,
            unsupported: None,
            generate: true,
        }
    }
}

/// What is told of an answer while it comes about.
type OnEvent<'a> = dyn FnMut(Event) -> Result<()> + 'a;

const NOTHING_FOUND: &str = "nothing was found that could answer the question";
const NOT_SUPPORTED: &str = "nothing that was found supports an answer";
const EXTRACTIVE: &str = "extractive";

/// What a stream tells between what a language model wrote and the answer that takes
/// its place.
const BROKEN_OFF: &str = " …\n\n(The language model broke off here. From the documents:)\n\n";

/// Sentences that the model looks at for one extractive answer, or twice as many
/// as there may be in it. On xquad-en more than eight change no answer.
const EMBEDDED: usize = 12;

/// Sentences that are quoted in one answer at most.
const MAX_SENTENCES: usize = 100;

impl Engine {
    /// Answers a question from a collection, telling `on_event` as it goes; an
    /// error from `on_event` ends the work.
    ///
    /// # Errors
    /// [`Error::EmptyText`], [`Error::NoTextModel`], [`Error::Option`],
    /// [`Error::UnknownConversation`], an unknown collection. A generator that
    /// fails is not an error: the answer is then extractive and carries a
    /// warning.
    pub fn ask(&self, collection: &str, question: &Question, on_event: &mut OnEvent<'_>) -> Result<Answer> {
        if question.search.query.trim().is_empty() {
            return Err(Error::EmptyText { field: "question" });
        }
        let extract = self.extract_options(question)?;
        let (collection, model) = self.text_collection(collection)?;
        let name = collection.name().to_owned();
        let mut history = question.history.clone();
        if let Some(id) = &question.conversation_id {
            history = self.conversations.get(&name, id)?.turns;
        }
        let encoder = self.models.get(&model)?;
        let mut warnings = Vec::new();
        let generator = self.generator.as_ref().filter(|_| question.generate);
        let query = self.standalone(generator, &question.search.query, &history, &mut warnings);
        let reading = collection.reading()?;
        let asked_at = now_ms() as i64 * 1000;
        let finding = Finding {
            engine: self,
            reading: &reading,
            encoder: &encoder,
            search: &question.search,
            asked_at,
        };
        let (wanted, mut found) = finding.find(query)?;
        let query = wanted.query.clone();
        warnings.append(&mut found.warnings);
        on_event(Event::Retrieval(found.passages.clone()))?;

        let verify = VerifyOptions {
            unsupported: question.unsupported.unwrap_or(self.options.verify.unsupported),
            ..self.options.verify.clone()
        };
        let asked = Asked {
            encoder: &encoder,
            reading: &reading,
            reranker: self.reranker(),
            text: &query,
            original: &question.search.query,
            history: remembered(&history, self.options.conversation.max_chars),
            passages: &found.passages,
            vector: &found.vector,
            extract,
            verify,
        };
        let (mut answer, wrote) = asked.answer(generator, &mut warnings, on_event)?;
        answer.searched.query.clone_from(&query);
        answer.warnings = warnings;
        let embedder = ModelUsed { sha256: self.models.digest(&model), name: model };
        answer.provenance = Some(asked.provenance(&found, &wanted, asked_at, embedder, wrote));
        answer.conversation_id.clone_from(&question.conversation_id);
        if let Some(id) = &question.conversation_id {
            let turn = Turn {
                question: question.search.query.clone(),
                query,
                answer: answer.answer.clone(),
                at_ms: now_ms(),
            };
            self.conversations.add(&name, id, turn)?;
        }
        self.hold(&reading);
        on_event(Event::Done(Box::new(answer.clone())))?;
        Ok(answer)
    }

    fn extract_options(&self, question: &Question) -> Result<ExtractOptions> {
        let mut options = self.options.extract.clone();
        if let Some(sentences) = question.max_sentences {
            within("max_sentences", sentences as f32, 1.0, MAX_SENTENCES as f32)?;
            options.max_sentences = sentences;
        }
        if let Some(confidence) = question.min_confidence {
            within("min_confidence", confidence, 0.0, 1.0)?;
            options.min_confidence = confidence;
        }
        Ok(options)
    }
}

/// A question on its way to an answer.
struct Asked<'a> {
    encoder: &'a Embedder,
    reading: &'a Reading,
    reranker: Option<SharedRerank>,
    /// As it is searched.
    text: &'a str,
    original: &'a str,
    history: &'a [Turn],
    passages: &'a [Retrieved],
    vector: &'a [f32],
    extract: ExtractOptions,
    verify: VerifyOptions,
}

/// The language model that wrote an answer, and the digest of its prompt.
type Wrote = Option<(ModelUsed, String)>;

/// Sentences with what is known of each.
struct Scored {
    candidates: Vec<Candidate>,
    support: Vec<f32>,
    evidence: Evidence,
}

impl Asked<'_> {
    fn answer(
        &self,
        generator: Option<&Generator>,
        warnings: &mut Vec<String>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(Answer, Wrote)> {
        let Some(generator) = generator.filter(|_| !self.passages.is_empty()) else {
            return Ok((self.extracted(on_event)?, None));
        };
        let mut told = false;
        match self.generated(generator, warnings, &mut told, on_event) {
            Err(error @ Error::Generator { .. }) => {
                tracing::warn!(%error, "answering from the passages instead");
                if told {
                    // What was told cannot be taken back, only set apart.
                    on_event(Event::Delta(BROKEN_OFF.to_owned()))?;
                }
                let answer = self.extracted(on_event)?;
                warnings.push(format!("{error}; this answer is extractive"));
                Ok((answer, None))
            }
            other => other,
        }
    }

    fn extracted(&self, on_event: &mut OnEvent<'_>) -> Result<Answer> {
        let candidates = extract::candidates(self.passages, self.extract.max_passages);
        if candidates.is_empty() {
            return self.refusal(EXTRACTIVE, NOTHING_FOUND, 0.0);
        }
        let scored = self.scored(candidates)?;
        let evidence = Some(scored.evidence);
        let confidence = scored.evidence.confidence();
        if confidence < self.extract.min_confidence {
            let refusal = self.refusal(EXTRACTIVE, NOT_SUPPORTED, confidence)?;
            let searched = Searched { evidence, ..refusal.searched };
            return Ok(Answer { searched, ..refusal });
        }
        let citations = extract::choose(self.passages, &scored.candidates, &scored.support, &self.extract);
        if citations.is_empty() {
            return self.refusal(EXTRACTIVE, NOT_SUPPORTED, confidence);
        }
        let mut text = String::new();
        let mut sentences = Vec::new();
        for (number, citation) in citations.iter().enumerate() {
            let gap = if text.is_empty() { "" } else { " " };
            let piece = format!("{gap}{}", citation.quote);
            text.push_str(&piece);
            on_event(Event::Delta(piece))?;
            on_event(Event::Citation(citation.clone()))?;
            sentences.push(Sentence {
                text: citation.quote.clone(),
                citations: vec![number],
                support: citation.score,
                supported: true,
            });
        }
        let searched = Searched { evidence, ..self.searched(confidence, self.extract.max_passages)? };
        Ok(Answer { answer: text, citations, sentences, searched, ..blank(EXTRACTIVE) })
    }

    /// Weighs each sentence, and how sure it is that they answer. What needs no
    /// model decides which sentences the model sees.
    fn scored(&self, candidates: Vec<Candidate>) -> Result<Scored> {
        let overlap = Overlap::new(self.text, self.reading)?;
        let cue = Cue::of(self.text);
        let read = &self.passages[..self.extract.max_passages.min(self.passages.len())];
        let of_passages: Vec<f32> = read.iter().map(|passage| overlap.share(&whole(passage))).collect();
        let known = candidates.into_iter().map(|candidate| {
            let signals = Signals {
                passage: self.passages[candidate.passage].scores.dense.unwrap_or(0.0),
                words: overlap.share(&candidate.text),
                beginnings: overlap.share_of_beginnings(&candidate.text),
                words_around: overlap.share(&candidate.around),
                words_of_passage: of_passages[candidate.passage],
                cue: cue.signal(&candidate.text),
                first: f32::from(candidate.passage == 0),
                ..Signals::default()
            };
            (candidate, signals)
        });
        let mut known: Vec<(Candidate, Signals)> = known.collect();
        known.sort_by(|a, b| b.1.support().total_cmp(&a.1.support()));
        known.truncate(EMBEDDED.max(2 * self.extract.max_sentences));
        self.embed(&mut known)?;

        let best =
            |of: &dyn Fn(&Signals) -> f32| known.iter().map(|(_, signals)| of(signals)).fold(0.0, f32::max);
        let evidence = Evidence {
            passage: read.iter().filter_map(|passage| passage.scores.dense).fold(0.0, f32::max),
            words: of_passages.iter().copied().fold(0.0, f32::max),
            sentence: best(&|signals| signals.alone.max(signals.in_context)),
            words_around: best(&|signals| signals.words_around),
        };
        let support = known.iter().map(|(_, signals)| signals.support()).collect();
        let candidates = known.into_iter().map(|(candidate, _)| candidate).collect();
        Ok(Scored { candidates, support, evidence })
    }

    /// Adds what the model says of each sentence.
    fn embed(&self, known: &mut [(Candidate, Signals)]) -> Result<()> {
        let alone = known.iter().map(|(candidate, _)| candidate.text.as_str());
        let in_context = known.iter().map(|(candidate, _)| candidate.in_context.as_str());
        let texts: Vec<&str> = alone.chain(in_context).collect();
        let vectors = self.encoder.embed(&texts, TextKind::Passage)?.vectors;
        let (alone, in_context) = vectors.split_at(known.len());
        for ((_, signals), (alone, in_context)) in known.iter_mut().zip(alone.iter().zip(in_context)) {
            signals.alone = cosine(self.vector, alone);
            signals.in_context = cosine(self.vector, in_context);
        }
        Ok(())
    }

    fn generated(
        &self,
        generator: &Generator,
        warnings: &mut Vec<String>,
        told: &mut bool,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(Answer, Wrote)> {
        let model = generator.model()?;
        let history: Vec<(String, String)> =
            self.history.iter().map(|turn| (turn.question.clone(), turn.answer.clone())).collect();
        let messages = generate::messages(self.original, self.passages, &history);
        let digest = sha256(&serde_json::to_string(&messages).expect("messages have string keys"));
        let wrote = Some((ModelUsed { name: model.name.clone(), sha256: model.sha256.clone() }, digest));
        let drops = self.verify.unsupported == Unsupported::Drop;
        // Held back while it could still be the word for "no answer", and as a
        // whole where sentences may have to be dropped.
        let mut held = String::new();
        let text = generator.answer(&messages, &mut |piece| {
            held.push_str(piece);
            let may_tell = *told || !generate::NO_ANSWER.starts_with(held.trim());
            if piece.is_empty() || drops || !may_tell {
                return on_event(Event::Waiting);
            }
            *told = true;
            on_event(Event::Delta(std::mem::take(&mut held)))
        })?;
        let text = text.trim();
        if text.is_empty() || text.contains(generate::NO_ANSWER) {
            return Ok((self.refusal(&model.name, NOT_SUPPORTED, 0.0)?, wrote));
        }
        let verifier = Verifier {
            encoder: self.encoder,
            reranker: self.reranker.as_deref(),
            passages: self.passages,
            options: &self.verify,
        };
        let verified = verifier.verify(text)?;
        if drops && verified.citations.is_empty() {
            let mut refusal = self.refusal(&model.name, NOT_SUPPORTED, 0.0)?;
            refusal.reason = Some("the language model wrote nothing that the passages support".to_owned());
            return Ok((refusal, wrote));
        }
        if drops {
            on_event(Event::Delta(verified.text.clone()))?;
        }
        for citation in &verified.citations {
            on_event(Event::Citation(citation.clone()))?;
        }
        if verified.unsupported > 0 {
            let fate = if drops { "were dropped" } else { "are marked" };
            warnings.push(format!(
                "{} sentences of the answer cite nothing that supports them, they {fate}",
                verified.unsupported
            ));
        }
        let supports = verified.sentences.iter().map(|sentence| sentence.support);
        let confidence = supports.clone().sum::<f32>() / supports.len().max(1) as f32;
        let searched = self.searched(confidence, self.passages.len())?;
        let answer = Answer {
            answer: verified.text,
            citations: verified.citations,
            sentences: verified.sentences,
            searched,
            ..blank(&model.name)
        };
        Ok((answer, wrote))
    }

    fn refusal(&self, generator: &str, reason: &str, confidence: f32) -> Result<Answer> {
        Ok(Answer {
            answer: "The documents do not answer this question.".to_owned(),
            refused: true,
            reason: Some(reason.to_owned()),
            searched: self.searched(confidence, self.extract.max_passages)?,
            ..blank(generator)
        })
    }

    fn searched(&self, confidence: f32, read: usize) -> Result<Searched> {
        let read = &self.passages[..read.min(self.passages.len())];
        let texts: Vec<String> = read.iter().map(whole).collect();
        let overlap = Overlap::new(self.text, self.reading)?;
        Ok(Searched {
            query: self.text.to_owned(),
            passages: self.reading.count(None)?,
            read: read.len(),
            confidence,
            evidence: None,
            missing: overlap.missing(self.text, &texts),
        })
    }

    fn provenance(
        &self,
        found: &Retrieval,
        wanted: &TextSearch,
        asked_at: i64,
        embedder: ModelUsed,
        wrote: Wrote,
    ) -> Provenance {
        let (generator, prompt_sha256) = wrote.unzip();
        let reranker = self.reranker.as_ref().filter(|_| found.options.rerank);
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            collection: self.reading.collection().name().to_owned(),
            seq: found.seq,
            query: wanted.query.clone(),
            limit: wanted.limit,
            filter: wanted.filter.clone(),
            asked_at,
            retrieval: found.options.clone(),
            extract: self.extract.clone(),
            embedder,
            reranker: reranker.map(|model| ModelUsed { name: model.name().to_owned(), sha256: None }),
            generator,
            prompt_sha256,
            passages: used(&found.passages),
        }
    }
}

/// The passages as a provenance names them.
pub(crate) fn used(passages: &[Retrieved]) -> Vec<Used> {
    passages.iter().map(|passage| Used { id: passage.id, sha256: sha256(&passage.text) }).collect()
}

/// A passage with what it stands under.
pub(crate) fn whole(passage: &Retrieved) -> String {
    format!("{} {} {}", passage.title, passage.heading.join(" "), passage.text)
}

fn blank(generator: &str) -> Answer {
    Answer {
        answer: String::new(),
        citations: Vec::<Citation>::new(),
        sentences: Vec::new(),
        refused: false,
        reason: None,
        generator: generator.to_owned(),
        searched: Searched::default(),
        provenance: None,
        conversation_id: None,
        warnings: Vec::new(),
    }
}
