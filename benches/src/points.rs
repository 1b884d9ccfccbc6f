//! Points for benchmarks that need no data set: 384-d clustered vectors and a
//! payload of about 200 bytes, the same for the same numbers.

use cairn_index::Point;

use crate::clustered::clustered;

/// Dimensions of the vectors.
pub const DIM: usize = 384;

/// Points in a block; each block has random numbers of its own.
const BLOCK: usize = 5_000;

/// The points with these ids, in batches. Another `round` gives the same ids
/// other vectors.
///
/// # Panics
/// If `batch` is 0.
pub fn batches(ids: std::ops::Range<usize>, batch: usize, round: u64) -> impl Iterator<Item = Vec<Point>> {
    let blocks = (ids.start..ids.end).step_by(BLOCK);
    blocks.flat_map(move |start| {
        let len = BLOCK.min(ids.end - start);
        let points = points(start, len, round);
        points.chunks(batch).map(<[Point]>::to_vec).collect::<Vec<_>>()
    })
}

/// Vectors to search for: of the same kind, and none of those stored.
pub fn queries(len: usize) -> Vec<Vec<f32>> {
    clustered(DIM, len, u64::MAX).chunks(DIM).map(<[f32]>::to_vec).collect()
}

/// Bytes of one payload as JSON.
pub fn payload_bytes() -> usize {
    payload(100_000).to_string().len()
}

fn points(start: usize, len: usize, round: u64) -> Vec<Point> {
    let vectors = clustered(DIM, len, (start as u64 + 2) << 8 | round);
    let point = |(number, vector): (usize, &[f32])| {
        let point = Point::new(number as u64, vector.to_vec());
        point.with_payload(payload(number)).expect("it is an object")
    };
    (start..).zip(vectors.chunks(DIM)).map(point).collect()
}

fn payload(number: usize) -> serde_json::Value {
    let text = "A text of the length that a short passage has. ".repeat(4);
    serde_json::json!({ "number": number, "text": text.trim_end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_the_ids_once_and_come_back_the_same() {
        let made: Vec<Point> = batches(3..5_020, 500, 0).flatten().collect();
        let ids: Vec<_> = made.iter().map(|point| point.id).collect();
        assert_eq!(ids, (3..5_020).map(cairn_index::PointId::Num).collect::<Vec<_>>());
        assert!(made == batches(3..5_020, 70, 0).flatten().collect::<Vec<_>>());
        assert!(made != batches(3..5_020, 500, 1).flatten().collect::<Vec<_>>());
        assert!((180..260).contains(&payload_bytes()));
    }
}
