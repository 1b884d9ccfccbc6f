//! A graph's bytes: whole and unchanged, or refused.

mod common;

use cairn_ann::{Error, FlatRows, Graph, GraphBuilder, HnswRsBuilder, Metric, Rows};
use common::{clustered, search};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Where the header's numbers are.
const VERSION: usize = 8;
const STRIDE: usize = 12;
const LEN: usize = 16;
const ENTRY: usize = 20;
const UPPER: usize = 24;
const LINKS: usize = 28;

fn graph(len: usize) -> (Vec<f32>, Graph) {
    let values = clustered(Metric::Cosine, 8, len, 1);
    let rows = FlatRows::new(8, &values).expect("whole rows");
    let builder = HnswRsBuilder { m: 4, ef_construction: 40 };
    let graph = builder.build(Metric::Cosine, &rows, &|| false);
    (values, graph.expect("builds"))
}

fn bytes(graph: &Graph) -> Vec<u8> {
    let mut file = Vec::new();
    graph.write_to(&mut file).expect("memory takes it");
    file
}

fn read(mut file: &[u8]) -> Result<Graph, Error> {
    Graph::read_from(&mut file)
}

/// Sets a number and makes the checksum right again.
fn forge(file: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut file = file.to_vec();
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let end = file.len() - 4;
    let sum = crc32fast::hash(&file[..end]);
    file[end..].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn a_graph_comes_back_as_it_was_written() {
    for len in [0, 1, 2, 700, 5000] {
        let (values, graph) = graph(len);
        let back = read(&bytes(&graph)).expect("it is whole");
        assert!(back == graph, "{len} rows");
        assert_eq!(back.memory_bytes(), graph.memory_bytes());
        let rows = FlatRows::new(8, &values).expect("whole rows");
        for slot in 0..len.min(50) as u32 {
            let query = rows.row(slot);
            assert_eq!(
                search(&back, Metric::Cosine, &rows, query, 10, 30),
                search(&graph, Metric::Cosine, &rows, query, 10, 30)
            );
        }
    }
}

#[test]
fn reading_stops_where_the_graph_ends() {
    let (_, graph) = graph(100);
    let mut file = bytes(&graph);
    file.extend(b"what follows");
    let mut input = file.as_slice();
    Graph::read_from(&mut input).expect("it is whole");
    assert_eq!(input, b"what follows");
}

#[test]
fn every_prefix_is_refused_as_cut_short() {
    let (_, graph) = graph(200);
    let file = bytes(&graph);
    for len in 0..file.len() {
        let refused = read(&file[..len]);
        assert!(matches!(refused, Err(Error::Truncated)), "{len} bytes");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let (_, graph) = graph(60);
    let mut file = bytes(&graph);
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&file).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn random_damage_is_refused() {
    let (_, graph) = graph(3000);
    let whole = bytes(&graph);
    let mut random = StdRng::seed_from_u64(3);
    for round in 0..2000 {
        let mut file = whole.clone();
        for _ in 0..random.random_range(1..20) {
            let at = random.random_range(0..file.len());
            file[at] = random.random();
        }
        assert!(file == whole || read(&file).is_err(), "round {round}");
    }
}

#[test]
fn random_bytes_behind_a_true_header_are_refused() {
    let (_, graph) = graph(50);
    let whole = bytes(&graph);
    let mut random = StdRng::seed_from_u64(4);
    for round in 0..2000 {
        let start = random.random_range(0..LINKS);
        let mut file = whole[..start].to_vec();
        file.extend((0..random.random_range(0..2000)).map(|_| random.random::<u8>()));
        assert!(read(&file).is_err(), "round {round}");
    }
}

#[test]
fn a_newer_version_is_named() {
    let (_, graph) = graph(10);
    let refused = read(&forge(&bytes(&graph), VERSION, 9)).expect_err("it is newer");
    assert_eq!(refused.to_string(), "the graph has format version 9, this program reads up to 1");
}

#[test]
fn something_else_is_not_a_graph() {
    assert!(matches!(read(b"PK\x03\x04 and more"), Err(Error::NotAGraph)));
}

#[test]
fn numbers_that_a_search_would_follow_are_checked_behind_a_right_checksum() {
    let (_, graph) = graph(400);
    let file = bytes(&graph);
    let first_layer = LINKS + 400 * 8 * 4;
    let forged = [
        (VERSION, 0),
        (STRIDE, 0),
        (STRIDE, 257),
        (LEN, u32::MAX),
        (ENTRY, 400),
        (ENTRY, u32::MAX),
        (UPPER, 17),
        (LINKS, 400),
        (LINKS, u32::MAX - 1),
        (first_layer, 401),
        (first_layer + 4, u32::MAX),
        (first_layer + 8, u32::MAX),
        (first_layer + 8, 399),
        (file.len() - 8, 400),
    ];
    for (at, value) in forged {
        let refused = read(&forge(&file, at, value));
        assert!(matches!(refused, Err(Error::Malformed(_))), "{value} at {at}: {refused:?}");
    }
}

#[test]
fn a_header_that_promises_too_much_costs_no_memory() {
    let (_, graph) = graph(10);
    let mut file = bytes(&graph);
    file[LEN..LEN + 4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    // Half a terabyte, if the length were believed.
    assert!(matches!(read(&file), Err(Error::Truncated)));
}

#[test]
fn a_failing_disk_is_reported_as_its_own_error() {
    struct Failing;
    impl std::io::Write for Failing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_, graph) = graph(10);
    let failed = graph.write_to(&mut Failing).expect_err("it fails");
    let cause = std::error::Error::source(&failed).expect("there is a cause");
    assert_eq!(cause.to_string(), "the disk is on fire");
}
