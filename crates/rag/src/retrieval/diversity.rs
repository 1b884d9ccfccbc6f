//! Maximal marginal relevance: the best that is unlike what is there already.

/// Picks `count` of `scores.len()` candidates: each time the one with the
/// largest `(1 - diversity) * score - diversity * likeness`, where the likeness
/// is the largest cosine to those picked before (Carbonell and Goldstein,
/// SIGIR 1998). Scores are scaled to 0 to 1 first. Returns places, in order.
pub(crate) fn pick(scores: &[f32], vectors: &[&[f32]], diversity: f32, count: usize) -> Vec<usize> {
    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let range = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
    let relevance = |at: usize| if range > 0.0 { (scores[at] - least) / range } else { 1.0 };
    let mut left: Vec<usize> = (0..scores.len()).collect();
    let mut likeness = vec![0.0f32; scores.len()];
    let mut picked = Vec::new();
    while picked.len() < count && !left.is_empty() {
        let marginal = |at: usize| (1.0 - diversity) * relevance(at) - diversity * likeness[at];
        let mut best = 0;
        for place in 1..left.len() {
            if marginal(left[place]) > marginal(left[best]) {
                best = place;
            }
        }
        let next = left.remove(best);
        for at in &left {
            likeness[*at] = likeness[*at].max(crate::similarity::cosine(vectors[*at], vectors[next]));
        }
        picked.push(next);
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn a_near_copy_of_the_first_gives_way_to_something_else() {
        let vectors: [&[f32]; 3] = [&[1.0, 0.0], &[0.999, 0.01], &[0.0, 1.0]];
        let scores = [0.9, 0.89, 0.5];
        assert_eq!(pick(&scores, &vectors, 0.0, 3), [0, 1, 2]);
        assert_eq!(pick(&scores, &vectors, 0.7, 2), [0, 2]);
        assert_eq!(pick(&[], &[], 0.7, 2), Vec::<usize>::new());
    }
}
