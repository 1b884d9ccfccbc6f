//! A request made ready to run: checked, and its examples turned into vectors.
//!
//! Points whose ids are examples anywhere in the tree are excluded from the
//! root's filter, unless they were looked up in another collection.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::filter::{Condition, Filter};
use crate::id::PointId;
use crate::vector::{MultiVector, Vector};

use super::check_limit;
use super::examples::{Rule, average_vector};
use super::kinds::{ContextPair, FeedbackExample, FeedbackWeights, Mmr, Query, Strategy, Target, WordsQuery};
use super::mmr::Selection;
use super::request::{LookupFrom, Prefetch, QueryRequest, SearchParams};
use super::source::{Source, VectorKind};
use super::stage::{Ask, Scored, Stage, both};

const MAX_DEPTH: usize = 64;
const MAX_MMR_CANDIDATES: usize = 16_384;

/// A tree that can be run, more than once.
pub(super) struct Plan<'q> {
    pub root: Stage<'q>,
    offset: usize,
}

impl<'q> Plan<'q> {
    pub(super) fn new(source: &dyn Source, request: &'q QueryRequest) -> Result<Self> {
        let mut builder = Builder { source, examples: HashSet::new() };
        let mut root = builder.stage(&Node::from(request), "", 0)?;
        if !builder.examples.is_empty() {
            let exclude = Filter { must_not: vec![Condition::HasId(builder.examples)], ..Filter::default() };
            root.filter =
                both(Some(&exclude), request.filter.as_ref()).map(|both| Cow::Owned(both.into_owned()));
        }
        // A sample of the collection is not stable, so no page of it is either.
        let unordered = matches!(root.ask, Ask::Sample) && root.prefetch.is_empty();
        let offset = if unordered { 0 } else { request.offset };
        root.limit = request.limit.saturating_add(offset);
        Ok(Self { root, offset })
    }

    /// The scored places, best first; only those that match `also`.
    pub(super) fn run(
        &self,
        source: &dyn Source,
        also: Option<&Filter>,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Scored>> {
        let mut scored = self.root.run(source, also, rng)?.scored;
        scored.drain(..self.offset.min(scored.len()));
        Ok(scored)
    }
}

/// What a request and a prefetch have in common.
struct Node<'q> {
    query: Option<&'q Query>,
    prefetch: &'q [Prefetch],
    using: &'q str,
    filter: Option<&'q Filter>,
    params: &'q SearchParams,
    score_threshold: Option<f32>,
    limit: usize,
    lookup_from: Option<&'q LookupFrom>,
}

impl<'q> From<&'q QueryRequest> for Node<'q> {
    fn from(request: &'q QueryRequest) -> Self {
        Self {
            query: request.query.as_ref(),
            prefetch: &request.prefetch,
            using: &request.using,
            filter: request.filter.as_ref(),
            params: &request.params,
            score_threshold: request.score_threshold,
            limit: request.limit,
            lookup_from: request.lookup_from.as_ref(),
        }
    }
}

impl<'q> From<&'q Prefetch> for Node<'q> {
    fn from(prefetch: &'q Prefetch) -> Self {
        Self {
            query: prefetch.query.as_ref(),
            prefetch: &prefetch.prefetch,
            using: &prefetch.using,
            filter: prefetch.filter.as_ref(),
            params: &prefetch.params,
            score_threshold: prefetch.score_threshold,
            limit: prefetch.limit,
            lookup_from: prefetch.lookup_from.as_ref(),
        }
    }
}

impl Node<'_> {
    fn check(&self, field: &str, depth: usize) -> Result<()> {
        let refuse = |text: &str| Err(Error::Request(text.to_owned()));
        if depth > MAX_DEPTH {
            return Err(Error::Request(format!("prefetches depth exceeds max depth {MAX_DEPTH}")));
        }
        check_limit(&format!("{field}limit"), self.limit)?;
        match self.query {
            None if !self.prefetch.is_empty() => refuse(
                "A query is needed to merge the prefetches. Can't have prefetches without defining a query.",
            ),
            None if self.score_threshold.is_some() => refuse(
                "A query is needed to use the score_threshold. Can't have score_threshold without defining a query.",
            ),
            Some(Query::OrderBy(_)) if self.score_threshold.is_some() => {
                refuse("Can't use score_threshold with an order_by query.")
            }
            Some(Query::Fusion(_)) if !self.using.is_empty() => {
                refuse("Fusion queries cannot be combined with the 'using' field.")
            }
            Some(Query::Fusion(_)) if self.prefetch.is_empty() => {
                refuse("cannot apply Fusion without prefetches")
            }
            Some(Query::Formula(_)) if self.prefetch.is_empty() => {
                refuse("cannot apply Formula without prefetches")
            }
            Some(Query::Fusion(fusion)) => fusion.check(self.prefetch.len()),
            Some(Query::Formula(formula)) => formula.check(),
            _ => Ok(()),
        }
    }
}

struct Builder<'s> {
    source: &'s dyn Source,
    /// Points of this collection that are examples.
    examples: HashSet<PointId>,
}

impl Builder<'_> {
    fn stage<'q>(&mut self, node: &Node<'q>, field: &str, depth: usize) -> Result<Stage<'q>> {
        node.check(field, depth)?;
        let below =
            node.prefetch.iter().map(|prefetch| self.stage(&Node::from(prefetch), "prefetch.", depth + 1));
        let prefetch = below.collect::<Result<_>>()?;
        Ok(Stage {
            ask: self.ask(node)?,
            prefetch,
            filter: node.filter.map(Cow::Borrowed),
            params: node.params.clone(),
            score_threshold: node.score_threshold,
            limit: node.limit,
        })
    }

    fn ask<'q>(&mut self, node: &Node<'q>) -> Result<Ask<'q>> {
        match node.query {
            None => Ok(Ask::Scroll),
            Some(Query::Sample) => Ok(Ask::Sample),
            Some(Query::OrderBy(order)) => Ok(Ask::OrderBy(order)),
            Some(Query::Words(words)) => words_of(words, node.using),
            Some(Query::Fusion(fusion)) => Ok(Ask::Fusion(fusion)),
            Some(Query::Formula(formula)) => Ok(Ask::Formula(formula)),
            Some(query) => {
                let kind = self.source.kind(node.using)?;
                let lookup = node.lookup_from;
                let elsewhere = lookup.map(|from| self.source.lookup(&from.collection)).transpose()?;
                let from = elsewhere.as_deref().unwrap_or(self.source);
                let named = lookup.and_then(|from| from.vector.as_deref()).unwrap_or(node.using);
                let here = from.name() == self.source.name();
                let mut resolver =
                    Resolver { source: self.source, using: node.using, kind, from, named, met: Vec::new() };
                let ask = resolver.ask(query, node.using, node.limit)?;
                if here {
                    self.examples.extend(resolver.met);
                }
                Ok(ask)
            }
        }
    }
}

fn words_of<'q>(words: &'q WordsQuery, using: &str) -> Result<Ask<'q>> {
    if using.is_empty() {
        let told = "A query for words needs `using`: the payload field, with a text index, that is ranked.";
        return Err(Error::Request(told.to_owned()));
    }
    crate::worded::check(words.k, words.b)?;
    Ok(Ask::Words { key: using.parse()?, words })
}

/// Turns the examples of one query into vectors that can be compared.
struct Resolver<'r> {
    source: &'r dyn Source,
    using: &'r str,
    kind: VectorKind,
    /// Where examples given by id are read, and under which name.
    from: &'r dyn Source,
    named: &'r str,
    /// The ids that were examples.
    met: Vec<PointId>,
}

impl Resolver<'_> {
    fn ask<'q>(&mut self, query: &Query, using: &'q str, limit: usize) -> Result<Ask<'q>> {
        let (examples, rule) = match query {
            Query::Nearest { target, mmr } => {
                let vector = self.needed(target)?;
                let mmr = mmr.as_ref().map(|mmr| selection(mmr, limit)).transpose()?;
                return Ok(Ask::Nearest { vector: self.prepare(vector)?, using, kind: self.kind, mmr });
            }
            Query::Recommend { positive, negative, strategy: Strategy::AverageVector } => {
                let vector = self.average(positive, negative)?;
                return Ok(Ask::Nearest { vector, using, kind: self.kind, mmr: None });
            }
            Query::Recommend { positive, negative, strategy } => {
                let mut examples = self.present(positive)?;
                let positives = examples.len();
                examples.extend(self.present(negative)?);
                let rule = Rule::recommend(*strategy, positives, examples.len())?;
                (examples, rule)
            }
            Query::Discover { target, context } => {
                let mut examples = vec![self.needed(target)?];
                examples.extend(self.pairs(context)?);
                (examples, Rule::Discover)
            }
            Query::Context(pairs) => (self.pairs(pairs)?, Rule::Context),
            Query::Feedback { target, feedback, weights } => self.feedback(target, feedback, *weights)?,
            _ => unreachable!("queries without examples are not resolved"),
        };
        let examples = examples.into_iter().map(|vector| self.prepare(vector)).collect::<Result<_>>()?;
        Ok(Ask::Best { examples, using, rule })
    }

    /// Examples are averaged as they are, and only the average is brought into
    /// the form that is compared.
    fn average(&mut self, positive: &[Target], negative: &[Target]) -> Result<Vector> {
        let (positive, negative) = (self.present(positive)?, self.present(negative)?);
        for example in positive.iter().chain(&negative) {
            self.prepare(example.clone())?;
        }
        self.prepare(average_vector(&positive, &negative)?)
    }

    fn feedback(
        &mut self,
        target: &Target,
        feedback: &[FeedbackExample],
        weights: FeedbackWeights,
    ) -> Result<(Vec<Vector>, Rule)> {
        let mut examples = vec![self.needed(target)?];
        for given in feedback {
            examples.push(self.needed(&given.example)?);
        }
        let scores: Vec<f32> = feedback.iter().map(|given| given.score).collect();
        Ok((examples, Rule::feedback(weights, &scores)?))
    }

    fn pairs(&mut self, pairs: &[ContextPair]) -> Result<Vec<Vector>> {
        let mut examples = Vec::with_capacity(pairs.len() * 2);
        for pair in pairs {
            examples.push(self.needed(&pair.positive)?);
            examples.push(self.needed(&pair.negative)?);
        }
        Ok(examples)
    }

    /// The vectors of those targets that have one.
    fn present(&mut self, targets: &[Target]) -> Result<Vec<Vector>> {
        let mut vectors = Vec::with_capacity(targets.len());
        for target in targets {
            vectors.extend(self.vector(target)?);
        }
        Ok(vectors)
    }

    fn needed(&mut self, target: &Target) -> Result<Vector> {
        self.vector(target)?.ok_or_else(|| Error::MissingVector { name: self.named.to_owned() })
    }

    fn vector(&mut self, target: &Target) -> Result<Option<Vector>> {
        let vector = match target {
            Target::Vector(vector) => Some(vector.clone()),
            Target::Id(written) => {
                let unknown = || Error::UnknownPoint { id: written.clone() };
                let place = self.from.resolve(written.id).ok_or_else(unknown)?;
                self.met.push(written.id);
                self.from.vector(place, self.named)?
            }
        };
        match vector {
            // One row is a multi-vector too.
            Some(Vector::Dense(values)) if self.kind.multi => {
                Ok(Some(MultiVector::new(values.len(), values)?.into()))
            }
            vector => Ok(vector),
        }
    }

    fn prepare(&self, vector: Vector) -> Result<Vector> {
        self.source.prepare(self.using, vector)
    }
}

fn selection(mmr: &Mmr, limit: usize) -> Result<Selection> {
    let Mmr { diversity, candidates_limit } = *mmr;
    if !(0.0..=1.0).contains(&diversity) {
        let text = format!("mmr.diversity: value {diversity} invalid, must be from 0.0 to 1.0");
        return Err(Error::Request(text));
    }
    let candidates = candidates_limit.unwrap_or(limit);
    if candidates_limit.is_some_and(|limit| limit > MAX_MMR_CANDIDATES) {
        return Err(Error::Request(format!(
            "mmr.candidates_limit: value {candidates} invalid, must be {MAX_MMR_CANDIDATES} or smaller"
        )));
    }
    Ok(Selection { lambda: 1.0 - diversity, candidates })
}
