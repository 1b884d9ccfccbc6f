//! Groups: the best hits, at most so many for each value of a payload field.
//!
//! One search rarely fills all groups, so up to ten are made: five that look
//! beyond the groups that are full, then five for those that are not. Fused
//! scores depend on what else was found and cannot be compared between
//! searches, so a fusion is searched again as a whole, up to five times, each
//! time twice as wide. A group may still come back short.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::filter::{Condition, Filter, Scalar, Test};
use crate::id::PointId;
use crate::path::Path;
use crate::point::{Parts, Payload};
use crate::vector::Vectors;

use super::check_limit;
use super::hit::{QueryHit, dress, read, wanted_vectors};
use super::plan::Plan;
use super::request::QueryRequest;
use super::source::{Place, Source};
use super::stage::{Ask, Scored, Stage};
use super::values::flat_values;

/// A question whose hits come in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRequest {
    /// What is asked. Its limit counts groups; its offset must be 0.
    pub request: QueryRequest,
    /// The field whose values are the groups. A point is in the group of each
    /// of its values; a point with none, or with one that is neither a string
    /// nor an integer, is in no group.
    pub group_by: Path,
    /// How many hits per group at most, 1 or more. Default 3.
    pub group_size: usize,
    /// Where points whose ids are the groups' values are read.
    pub with_lookup: Option<WithLookup>,
}

impl GroupRequest {
    /// The ten best groups, three hits each.
    pub fn new(request: QueryRequest, group_by: Path) -> Self {
        Self { request, group_by, group_size: 3, with_lookup: None }
    }
}

/// A collection that has a point for each group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithLookup {
    /// The collection.
    pub collection: String,
    /// What of the point comes back.
    pub parts: Parts,
}

impl WithLookup {
    /// The payloads of points in `collection`.
    pub fn new(collection: impl Into<String>) -> Self {
        Self { collection: collection.into(), parts: Parts::payload() }
    }
}

/// Hits that share a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The value.
    pub id: GroupId,
    /// The hits, best first.
    pub hits: Vec<QueryHit>,
    /// The point that the value is the id of, if asked for and there.
    pub lookup: Option<GroupLookup>,
}

/// A value that points can be grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupId {
    /// A string.
    Keyword(String),
    /// An integer of 0 or more.
    Unsigned(u64),
    /// An integer below 0.
    Signed(i64),
}

impl GroupId {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Keyword(text.clone())),
            Value::Number(number) => {
                number.as_u64().map(Self::Unsigned).or_else(|| number.as_i64().map(Self::Signed))
            }
            _ => None,
        }
    }

    /// The value as a condition can name it.
    fn scalar(&self) -> Option<Scalar> {
        match self {
            Self::Keyword(text) => Some(Scalar::Keyword(text.clone())),
            Self::Unsigned(number) => i64::try_from(*number).ok().map(Scalar::Integer),
            Self::Signed(number) => Some(Scalar::Integer(*number)),
        }
    }

    /// The point that the value names: a string may be a label.
    fn point_id(&self) -> Option<PointId> {
        match self {
            Self::Keyword(text) => Some(PointId::labelled(text)),
            Self::Unsigned(number) => Some(PointId::Num(*number)),
            Self::Signed(_) => None,
        }
    }
}

/// The point of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupLookup {
    /// Its id, the group's value.
    pub id: PointId,
    /// The string that the id was made of, if it was made of one.
    pub label: Option<Arc<str>>,
    /// The payload, if asked for.
    pub payload: Option<Payload>,
    /// The vectors asked for.
    pub vectors: Option<Vectors>,
}

const SEARCHES: usize = 5;

/// The best groups, each with its best hits. A group is as good as its best
/// hit.
///
/// # Errors
/// As for [`run`](super::run), and [`Error::Request`] for a group size of 0 or
/// an offset.
pub(crate) fn run_groups(
    source: &dyn Source,
    request: &GroupRequest,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Group>> {
    check_limit("group_size", request.group_size)?;
    if request.request.offset > 0 {
        return Err(Error::Request("groups cannot be passed over, leave the offset out".to_owned()));
    }
    let mut plan = Plan::new(source, &request.request)?;
    // Every level must find enough for all members of a group.
    widen(&mut plan.root, request.group_size);

    let mut gathering = Gathering::new(request, plan.root.ask.larger_is_better());
    if let Ask::Fusion(_) = plan.root.ask {
        gathering.search_ever_wider(source, &mut plan, rng)?;
    } else {
        gathering.look_beyond_full_groups(source, &plan, rng)?;
        gathering.fill_short_groups(source, &plan, rng)?;
    }
    finish(source, request, &plan, gathering)
}

/// Lets a stage and all below it find so many times as much.
fn widen(stage: &mut Stage<'_>, times: usize) {
    stage.limit = stage.limit.saturating_mul(times);
    stage.prefetch.iter_mut().for_each(|below| widen(below, times));
}

fn finish(
    source: &dyn Source,
    request: &GroupRequest,
    plan: &Plan<'_>,
    gathering: Gathering<'_>,
) -> Result<Vec<Group>> {
    let lookup = request.with_lookup.as_ref();
    let elsewhere = lookup.map(|with| Ok((source.lookup(&with.collection)?, &with.parts))).transpose()?;
    let mut groups = Vec::new();
    for gathered in gathering.into_best() {
        let hits = dress(source, plan, &gathered.scored, &request.request.parts)?;
        let lookup = match &elsewhere {
            Some((from, parts)) => look_up(from.as_ref(), &gathered.id, parts)?,
            None => None,
        };
        groups.push(Group { id: gathered.id, hits, lookup });
    }
    Ok(groups)
}

fn look_up(from: &dyn Source, id: &GroupId, parts: &Parts) -> Result<Option<GroupLookup>> {
    let wanted = wanted_vectors(from, &parts.vectors)?;
    let Some((id, place)) = id.point_id().and_then(|id| Some((id, from.resolve(id)?))) else {
        return Ok(None);
    };
    let (payload, vectors) = read(from, place, &parts.payload, wanted.as_deref())?;
    Ok(Some(GroupLookup { id, label: from.label(place), payload, vectors }))
}

/// Groups as far as they were found.
struct Gathering<'q> {
    request: &'q GroupRequest,
    larger_is_better: bool,
    /// In the order they were met.
    groups: Vec<Gathered>,
    at: HashMap<GroupId, usize>,
    /// Places that are in some group.
    members: HashSet<Place>,
}

struct Gathered {
    id: GroupId,
    scored: Vec<Scored>,
}

impl<'q> Gathering<'q> {
    fn new(request: &'q GroupRequest, larger_is_better: bool) -> Self {
        Self { request, larger_is_better, groups: Vec::new(), at: HashMap::new(), members: HashSet::new() }
    }

    fn search_ever_wider(
        &mut self,
        source: &dyn Source,
        plan: &mut Plan<'_>,
        rng: &mut fastrand::Rng,
    ) -> Result<()> {
        let mut before = 0;
        for _ in 0..SEARCHES {
            *self = Self::new(self.request, self.larger_is_better);
            let found = self.search(source, plan, None, rng)?;
            if found <= before || self.best_are_full() {
                break;
            }
            before = found;
            widen(&mut plan.root, 2);
        }
        Ok(())
    }

    fn look_beyond_full_groups(
        &mut self,
        source: &dyn Source,
        plan: &Plan<'_>,
        rng: &mut fastrand::Rng,
    ) -> Result<()> {
        for _ in 0..SEARCHES {
            let beyond = self.beyond_full_groups();
            if self.search(source, plan, beyond, rng)? == 0 || self.best_are_full() {
                break;
            }
        }
        Ok(())
    }

    fn fill_short_groups(
        &mut self,
        source: &dyn Source,
        plan: &Plan<'_>,
        rng: &mut fastrand::Rng,
    ) -> Result<()> {
        for _ in 0..SEARCHES {
            if self.best_are_full() {
                break;
            }
            let best = self.best().into_iter().map(|at| &self.groups[at]);
            let short = best.filter(|group| !self.is_full(group)).map(|group| &group.id);
            let within = self.condition(short, Test::Any).or_else(|| self.beyond_full_groups());
            if self.search(source, plan, within, rng)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn beyond_full_groups(&self) -> Option<Condition> {
        let full = self.groups.iter().filter(|group| self.is_full(group)).map(|group| &group.id);
        self.condition(full, Test::Except)
    }

    /// A condition on the field the groups are made by.
    fn condition<'g>(
        &self,
        ids: impl Iterator<Item = &'g GroupId>,
        test: fn(Vec<Scalar>) -> Test,
    ) -> Option<Condition> {
        let scalars: Vec<Scalar> = ids.filter_map(GroupId::scalar).collect();
        let key = self.request.group_by.clone();
        (!scalars.is_empty()).then(|| Condition::Field { key, tests: vec![test(scalars)] })
    }

    /// Finds points that are in no group yet, and says how many.
    fn search(
        &mut self,
        source: &dyn Source,
        plan: &Plan<'_>,
        condition: Option<Condition>,
        rng: &mut fastrand::Rng,
    ) -> Result<usize> {
        let known = self.members.iter().map(|place| source.id(*place)).collect();
        let new = Filter {
            must: condition.into_iter().collect(),
            must_not: vec![Condition::IsEmpty(self.request.group_by.clone()), Condition::HasId(known)],
            ..Filter::default()
        };
        let found = plan.run(source, Some(&new), rng)?;
        for scored in &found {
            self.add(source, *scored)?;
        }
        Ok(found.len())
    }

    fn add(&mut self, source: &dyn Source, scored: Scored) -> Result<()> {
        let payload = source.payload(scored.place)?;
        let values = flat_values(&self.request.group_by, &payload);
        let Some(ids) = values.into_iter().map(GroupId::read).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        for id in ids {
            self.members.insert(scored.place);
            let at = *self.at.entry(id.clone()).or_insert_with(|| {
                self.groups.push(Gathered { id, scored: Vec::new() });
                self.groups.len() - 1
            });
            // An array may have a value twice.
            let group = &mut self.groups[at].scored;
            if group.last().is_none_or(|last| last.place != scored.place) {
                group.push(scored);
            }
        }
        Ok(())
    }

    fn is_full(&self, group: &Gathered) -> bool {
        group.scored.len() >= self.request.group_size
    }

    fn best_are_full(&self) -> bool {
        let best = self.best();
        best.len() >= self.request.request.limit && best.iter().all(|at| self.is_full(&self.groups[*at]))
    }

    /// The positions of the best groups, best first.
    fn best(&self) -> Vec<usize> {
        let best_score = |group: &Gathered| {
            let scores = group.scored.iter().map(|scored| self.rank(scored));
            scores.fold(f32::NEG_INFINITY, f32::max)
        };
        let mut best: Vec<(f32, usize)> =
            self.groups.iter().enumerate().map(|(at, group)| (best_score(group), at)).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        best.truncate(self.request.request.limit);
        best.into_iter().map(|(_, at)| at).collect()
    }

    /// The score, larger for better.
    fn rank(&self, scored: &Scored) -> f32 {
        if self.larger_is_better { scored.score } else { -scored.score }
    }

    fn into_best(mut self) -> Vec<Gathered> {
        for at in 0..self.groups.len() {
            let mut scored = std::mem::take(&mut self.groups[at].scored);
            scored.sort_by(|a, b| self.rank(b).total_cmp(&self.rank(a)));
            scored.truncate(self.request.group_size);
            self.groups[at].scored = scored;
        }
        let best = self.best();
        let mut groups: Vec<Option<Gathered>> = self.groups.into_iter().map(Some).collect();
        best.into_iter().filter_map(|at| groups[at].take()).collect()
    }
}
