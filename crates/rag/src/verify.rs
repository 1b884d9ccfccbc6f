//! Whether what a language model wrote stands in the sources it cites.
//!
//! A number in brackets is a claim, not a citation. It becomes one through a
//! sentence of that passage, quoted at its place, that supports the claim: their
//! embeddings are near and, when there is a rerank model, it agrees. A number
//! that the claim states and the cited passage does not have halves the support,
//! for embeddings hardly see the difference. What retrieved text says about
//! citations changes nothing, for only passages that were retrieved can be cited
//! and only by sentences that stand in them.

use std::collections::HashSet;

use cairn_embed::{Embedder, TextKind};
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::answer::{Citation, Retrieved, Sentence};
use crate::error::Result;
use crate::extract::{self, Candidate};
use crate::generate::{self, Claim};
use crate::retrieval::Rerank;
use crate::similarity::cosine;

/// What becomes of sentences that nothing supports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsupported {
    /// They stay, and the answer says which they are.
    #[default]
    Mark,
    /// They are left out; an answer of nothing else is a refusal.
    Drop,
}

/// When a sentence of a language model counts as supported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyOptions {
    /// Support, 0 to 1, from which on a quote supports a sentence.
    pub min_support: f32,
    /// What becomes of sentences that nothing supports: `mark` or `drop`.
    pub unsupported: Unsupported,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { min_support: 0.45, unsupported: Unsupported::Mark }
    }
}

/// Checks an answer against its sources.
pub(crate) struct Verifier<'a> {
    pub(crate) encoder: &'a Embedder,
    pub(crate) reranker: Option<&'a dyn Rerank>,
    pub(crate) passages: &'a [Retrieved],
    pub(crate) options: &'a VerifyOptions,
}

/// An answer whose citations were checked.
pub(crate) struct Verified {
    /// As it is given: without dropped sentences.
    pub(crate) text: String,
    pub(crate) citations: Vec<Citation>,
    pub(crate) sentences: Vec<Sentence>,
    /// Sentences that nothing supports.
    pub(crate) unsupported: usize,
}

impl Verifier<'_> {
    pub(crate) fn verify(&self, answer: &str) -> Result<Verified> {
        let candidates = extract::candidates(self.passages, self.passages.len());
        let claims = generate::claims(answer, self.passages.len());
        let mut texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        texts.extend(claims.iter().map(|claim| if claim.text.is_empty() { "-" } else { &claim.text }));
        let vectors = self.encoder.embed(&texts, TextKind::Passage)?.vectors;
        let (sources, spoken) = vectors.split_at(candidates.len());

        let mut citations: Vec<Citation> = Vec::new();
        let mut sentences = Vec::new();
        let mut kept = Vec::new();
        for (claim, vector) in claims.iter().zip(spoken) {
            let mut places = Vec::new();
            let mut support = 0.0f32;
            for number in &claim.numbers {
                let Some((candidate, score)) = self.best(claim, vector, *number, &candidates, sources)?
                else {
                    continue;
                };
                support = support.max(score);
                if score < self.options.min_support {
                    continue;
                }
                let citation = self.passages[*number].cite(candidate.bytes.clone(), score);
                places.extend(citation.map(|citation| place_of(&mut citations, citation)));
            }
            let supported = !places.is_empty();
            if supported || self.options.unsupported == Unsupported::Mark {
                kept.push(claim.raw.as_str());
                sentences.push(Sentence { text: claim.text.clone(), citations: places, support, supported });
            }
        }
        let unsupported = claims.len() - sentences.iter().filter(|sentence| sentence.supported).count();
        let text = match self.options.unsupported {
            Unsupported::Mark => answer.to_owned(),
            Unsupported::Drop => kept.join(" "),
        };
        Ok(Verified { text, citations, sentences, unsupported })
    }

    /// The sentence of one passage that supports a claim best.
    fn best<'c>(
        &self,
        claim: &Claim,
        vector: &[f32],
        passage: usize,
        candidates: &'c [Candidate],
        sources: &[Vec<f32>],
    ) -> Result<Option<(&'c Candidate, f32)>> {
        let best = candidates
            .iter()
            .zip(sources)
            .filter(|(candidate, _)| candidate.passage == passage)
            .map(|(candidate, source)| (candidate, cosine(vector, source).clamp(0.0, 1.0)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((candidate, mut score)) = best else { return Ok(None) };
        if let Some(reranker) = self.reranker {
            let agreed = reranker.score(&claim.text, &[&candidate.text])?;
            score = 0.5 * (score + agreed.first().copied().unwrap_or(score));
        }
        let there = numbers(&self.passages[passage].text);
        if numbers(&claim.text).iter().any(|number| !there.contains(number)) {
            score *= 0.5;
        }
        Ok(Some((candidate, score)))
    }
}

/// The place of a citation in the list, where it is put if it is new.
fn place_of(citations: &mut Vec<Citation>, new: Citation) -> usize {
    let same =
        |old: &Citation| (&old.document_id, old.start, old.end) == (&new.document_id, new.start, new.end);
    if let Some(place) = citations.iter().position(same) {
        citations[place].score = citations[place].score.max(new.score);
        return place;
    }
    citations.push(new);
    citations.len() - 1
}

/// The words of a text that have a digit.
fn numbers(text: &str) -> HashSet<&str> {
    text.unicode_words().filter(|word| word.contains(|c: char| c.is_ascii_digit())).collect()
}
