//! Several queries at once find what each finds alone.

mod common;

use cairn_ann::{Codes, Compression, FlatRows, GraphBuilder, NativeBuilder, Neighbor, Scratch};
use common::{ALL, clustered};

const DIM: usize = 192;

#[test]
fn a_batch_finds_what_its_queries_find_alone() {
    for metric in ALL {
        let values = clustered(metric, DIM, 2000, 6);
        let asked = clustered(metric, DIM, 7, 7);
        let rows = FlatRows::new(DIM, &values).expect("whole rows");
        let queries: Vec<&[f32]> = asked.chunks(DIM).collect();
        let plain = NativeBuilder::default().build(metric, &rows, &|| false).expect("builds");
        let coded = [Codes::Int8, Codes::Compact, Codes::Fast, Codes::Product(Compression::X8)]
            .map(|codes| (format!("{codes:?}"), plain.clone().quantized_as(metric, &rows, codes)));
        for (name, graph) in coded.into_iter().chain([("rows".to_owned(), plain)]) {
            // Filters that reject nothing, some, and so many that a walk is not enough.
            for (step, ef) in [(1, 20), (5, 40), (97, 30)] {
                let accept = |slot: u32| slot.is_multiple_of(step);
                let mut scratch = Scratch::new();
                let mut alone =
                    |query: &[f32]| bits(&graph.search(metric, &rows, query, 5, ef, accept, &mut scratch));
                let want: Vec<_> = queries.iter().map(|query| alone(query)).collect();
                let mut scratches = Vec::new();
                for many in [0, 1, 2, 3, 7] {
                    let found =
                        graph.search_batch(metric, &rows, &queries[..many], 5, ef, accept, &mut scratches);
                    let found: Vec<_> = found.iter().map(|near| bits(near)).collect();
                    assert_eq!(found, want[..many], "{metric:?} {name} of {many}, one in {step} accepted");
                    assert!(found.iter().all(|near| near.len() == 5));
                }
            }
        }
    }
}

fn bits(near: &[Neighbor]) -> Vec<(u32, u32)> {
    near.iter().map(|near| (near.slot, near.distance.to_bits())).collect()
}
