//! How texts are put together into batches.
//!
//! Tokens are packed without padding, so a batch costs what its tokens cost
//! and a text's vector does not depend on its neighbours. Texts go longest
//! first: the long ones do not end up alone at the end while other threads
//! have nothing to do.

/// Batches of text positions; each position appears once.
///
/// A batch is closed before it would exceed `budget` tokens, so only a single
/// text longer than `budget` makes a larger one. With several `workers` the
/// budget shrinks until each has a share.
pub(super) fn plan(lengths: &[usize], budget: usize, workers: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&text| (std::cmp::Reverse(lengths[text]), text));

    let total: usize = lengths.iter().sum();
    let budget = budget.min(total.div_ceil(workers)).max(1);

    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for text in order {
        match batches.last_mut() {
            Some(batch) if tokens + lengths[text] <= budget => {
                batch.push(text);
                tokens += lengths[text];
            }
            _ => {
                batches.push(vec![text]);
                tokens = lengths[text];
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::plan;

    #[test]
    fn each_text_is_in_one_batch_and_no_batch_exceeds_the_budget() {
        let lengths: Vec<usize> = (0..1000).map(|i| 2 + (i * 7919) % 250).collect();
        for (budget, workers) in [(512, 1), (512, 4), (16_384, 2), (1, 1)] {
            let batches = plan(&lengths, budget, workers);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..1000).collect::<Vec<_>>());
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&text| lengths[text]).sum();
                assert!(tokens <= budget || batch.len() == 1);
            }
        }
    }

    #[test]
    fn every_worker_gets_a_share() {
        assert!(plan(&[10; 8], 16_384, 2).len() >= 2);
        assert_eq!(plan(&[10], 16_384, 2).len(), 1);
        assert!(plan(&[], 16_384, 2).is_empty());
    }
}
