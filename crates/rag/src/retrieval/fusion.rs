//! Ranked lists become one.

use std::collections::HashMap;

use cairn_index::PointId;

use super::options::{Fusion, FusionMethod};

/// What a list was ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Meaning,
    Words,
}

/// Points with scores, best first.
pub(crate) struct Ranked {
    pub(crate) by: By,
    pub(crate) hits: Vec<(PointId, f32)>,
}

/// Fuses lists; best first, equal ones as the first list that has them does.
pub(crate) fn fuse(lists: &[Ranked], fusion: Fusion) -> Vec<(PointId, f32)> {
    let mut places: HashMap<PointId, usize> = HashMap::new();
    let mut fused: Vec<(PointId, f32)> = Vec::new();
    for list in lists {
        let scale = Scale::of(list);
        for (rank, (id, score)) in list.hits.iter().enumerate() {
            let at = *places.entry(*id).or_insert_with(|| {
                fused.push((*id, 0.0));
                fused.len() - 1
            });
            fused[at].1 += match fusion.method {
                FusionMethod::Rrf => (fusion.k + 1.0) / (fusion.k + rank as f32 + 1.0) / lists.len() as f32,
                FusionMethod::Weighted => weight(list.by, fusion.dense, lists) * scale.of_score(*score),
            };
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

/// The share of one list, so that those of all sum to 1.
fn weight(by: By, dense: f32, lists: &[Ranked]) -> f32 {
    let count = |by: By| lists.iter().filter(|list| list.by == by).count() as f32;
    let share = |by: By| if by == By::Meaning { dense } else { 1.0 - dense };
    let both = count(By::Meaning) > 0.0 && count(By::Words) > 0.0;
    if both { share(by) / count(by) } else { 1.0 / count(by) }
}

/// Maps the scores of a list to 0 to 1.
struct Scale {
    least: f32,
    range: f32,
}

impl Scale {
    fn of(list: &Ranked) -> Self {
        let least = list.hits.last().map_or(0.0, |hit| hit.1);
        let range = list.hits.first().map_or(0.0, |hit| hit.1) - least;
        Self { least, range }
    }

    fn of_score(&self, score: f32) -> f32 {
        if self.range > 0.0 { (score - self.least) / self.range } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(by: By, ids: &[u64], scores: &[f32]) -> Ranked {
        Ranked { by, hits: ids.iter().map(|id| PointId::from(*id)).zip(scores.iter().copied()).collect() }
    }

    #[test]
    fn first_everywhere_is_one_and_rrf_is_the_formula() {
        let lists = [list(By::Meaning, &[1, 2, 3], &[0.9, 0.5, 0.1]), list(By::Words, &[1, 3], &[12.0, 3.0])];
        let fused = fuse(&lists, Fusion { method: FusionMethod::Rrf, ..Fusion::default() });
        let naive = |ranks: &[f32]| ranks.iter().map(|rank| 1.0 / (60.0 + rank)).sum::<f32>() / (2.0 / 61.0);
        let want = [(1, naive(&[1.0, 1.0])), (3, naive(&[3.0, 2.0])), (2, naive(&[2.0]))];
        for ((id, score), (want_id, want)) in fused.iter().zip(want) {
            assert_eq!(*id, PointId::from(want_id as u64));
            assert!((score - want).abs() < 1e-6);
        }
        assert!((fused[0].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn weighted_scores_share_as_told_and_a_lone_list_counts_whole() {
        let lists = [list(By::Meaning, &[1, 2], &[0.8, 0.2]), list(By::Words, &[2, 1], &[9.0, 1.0])];
        let fused = fuse(&lists, Fusion { dense: 0.75, ..Fusion::default() });
        assert_eq!(fused[0], (PointId::from(1), 0.75));
        assert_eq!(fused[1], (PointId::from(2), 0.25));
        let alone = fuse(&lists[..1], Fusion { dense: 0.25, ..Fusion::default() });
        assert_eq!(alone[0], (PointId::from(1), 1.0));
    }
}
