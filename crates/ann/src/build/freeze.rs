//! Reads the graph out of hnsw_rs into flat arrays.
//!
//! hnsw_rs keeps lists on layers above a point's own, remains of its descent,
//! and links to points that do not reach up to the layer of the list. Neither
//! belongs to the graph. What it lost stays lost here: see `graph::audit`.

use ::hnsw_rs::hnsw::{Hnsw, Point};
use ::hnsw_rs::prelude::Distance;

use crate::Graph;
use crate::graph::{Layer, NONE};

/// Freezes an index whose origin ids are slots below `len`; a slot that was
/// not inserted has no links.
pub(super) fn freeze<T, D>(index: &Hnsw<'_, T, D>, len: usize) -> Graph
where
    T: Clone + Send + Sync,
    D: Distance<T> + Send + Sync,
{
    let stride = 2 * usize::from(index.get_max_nb_connection());
    let points = index.get_point_indexation();
    let top = usize::from(points.get_max_level_observed());
    // hnsw_rs does not say where it enters; one of its highest points it is.
    let entry = points.get_layer_iterator(top).next();
    let entry = entry.map_or(NONE, |point| point.get_origin_id() as u32);

    let mut graph = Graph::unlinked(len, stride, entry);
    let mut upper = vec![Vec::new(); top];
    for level in 0..=top {
        for point in points.get_layer_iterator(level) {
            let slot = point.get_origin_id() as u32;
            let mut layers = links(&point, level).into_iter();
            graph.set_links(slot, layers.next().into_iter().flatten());
            for (lists, links) in upper.iter_mut().zip(layers) {
                lists.push((slot, links));
            }
        }
    }
    for lists in upper {
        graph.push_layer(Layer::new(lists));
    }
    graph
}

/// A point's links on the layers up to its level, nearest first.
fn links<T: Clone + Send + Sync>(point: &Point<'_, T>, level: usize) -> Vec<Vec<u32>> {
    let own = point.get_origin_id();
    let lists = point.get_neighborhood_id();
    let layers = lists.iter().take(level + 1).enumerate();
    layers
        .map(|(layer, list)| {
            list.iter()
                .filter(|link| usize::from(link.p_id.0) >= layer && link.d_id != own)
                .map(|link| link.d_id as u32)
                .collect()
        })
        .collect()
}
