//! A graph's bytes: whole and unchanged, or refused.

mod common;

use cairn_ann::{
    Codes, Error, FlatRows, Graph, GraphBuilder, GraphGrower, HnswRsBuilder, Metric, NativeBuilder,
};
use common::{clustered, search};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Where the header's numbers are.
const VERSION: usize = 8;
const STRIDE: usize = 12;
const LEN: usize = 16;
const ENTRY: usize = 20;
const UPPER: usize = 24;
const LAYERS: usize = 28;
const SIGNS: usize = 184;
/// Where the header ends and the links of layer 0 begin.
const LINKS: usize = 192;

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

/// Reads a graph and opens the same bytes, which must agree.
fn read(file: &[u8]) -> Result<Graph, Error> {
    let opened = Graph::from_bytes(file.to_vec());
    let read = Graph::read_from(&mut &*file);
    match (&opened, &read) {
        (Ok(opened), Ok(read)) => assert!(opened == read),
        (Err(_), Err(_)) => {}
        (opened, read) => panic!("opened {opened:?}, read {read:?}"),
    }
    opened
}

/// Bytes that begin `shift` behind a multiple of 64.
struct Shifted {
    words: Vec<[u64; 8]>,
    shift: usize,
    len: usize,
}

impl Shifted {
    fn new(file: &[u8], shift: usize) -> Self {
        let mut words = vec![[0u64; 8]; file.len() / 64 + 3];
        let start = words.as_ptr() as usize % 64;
        let shift = (64 - start) % 64 + shift;
        bytemuck::cast_slice_mut(&mut words)[shift..shift + file.len()].copy_from_slice(file);
        Self { words, shift, len: file.len() }
    }
}

impl AsRef<[u8]> for Shifted {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[self.shift..self.shift + self.len]
    }
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

/// Bytes that the links of a slot take: as few bits as hold `len` for each, up
/// to a whole word.
fn record_bytes(stride: usize, len: usize) -> usize {
    let bits = (usize::BITS - len.leading_zeros()) as usize;
    (stride * bits).div_ceil(32) * 4
}

#[test]
fn a_graph_comes_back_as_it_was_written() {
    for len in [0, 1, 2, 700, 5000] {
        let (values, graph) = graph(len);
        let back = read(&bytes(&graph)).expect("it is whole");
        assert!(back == graph, "{len} rows");
        assert!(back.memory_bytes() <= graph.memory_bytes());
        let rows = FlatRows::new(8, &values).expect("whole rows");
        for slot in 0..len.min(50) as u32 {
            let query = rows.values(slot);
            assert_eq!(
                search(&back, Metric::Cosine, &rows, query, 10, 30),
                search(&graph, Metric::Cosine, &rows, query, 10, 30)
            );
        }
    }
}

#[test]
fn a_graph_is_opened_from_any_start_and_answers_the_same() {
    let (values, graph) = graph(2000);
    let file = bytes(&graph);
    let rows = FlatRows::new(8, &values).expect("whole rows");
    for shift in 0..9 {
        let opened = Graph::from_bytes(Shifted::new(&file, shift)).expect("it is whole");
        assert!(opened == graph, "shifted by {shift}");
        let again = opened.clone();
        drop(opened);
        for slot in 0..50 {
            let query = rows.values(slot);
            let near = search(&again, Metric::Cosine, &rows, query, 10, 30);
            assert_eq!(near, search(&graph, Metric::Cosine, &rows, query, 10, 30));
        }
        assert_eq!(bytes(&again), file, "written again");
    }
}

#[test]
fn an_opened_graph_is_shared_between_threads() {
    let (_, graph) = graph(50);
    let opened = Graph::from_bytes(bytes(&graph)).expect("it is whole");
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(opened.clone().len(), 50));
        assert!(opened == graph);
    });
}

#[test]
fn every_array_begins_at_a_multiple_of_64() {
    let (_, graph) = graph(777);
    let file = bytes(&graph);
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four")) as usize;
    let mut end = LINKS + record_bytes(number(STRIDE), number(LEN)) * number(LEN);
    for layer in 0..number(UPPER) {
        let (slots, links) = (number(LAYERS + 8 * layer), number(LAYERS + 8 * layer + 4));
        for words in [slots, slots + 1, links] {
            let start = end.next_multiple_of(64);
            assert!(file[end..start].iter().all(|&byte| byte == 0));
            end = start + 4 * words;
        }
    }
    assert_eq!(file.len(), end.next_multiple_of(64) + 4);
}

#[test]
fn a_large_graph_is_checked_to_the_last_link() {
    // Read back from its bytes alone: a ring that was never built.
    const LEN: u32 = 150_000;
    let ring = |forged: Option<(u32, u32, u32)>| {
        let mut file = b"cairnann".to_vec();
        let mut put = |word: u32| file.extend(word.to_le_bytes());
        [7, 16, LEN, 0, 0].into_iter().for_each(&mut put);
        (0..32).for_each(|_| put(0));
        (LAYERS + 128..LINKS).step_by(4).for_each(|_| put(0));
        for slot in 0..LEN {
            // 16 links of 18 bits are nine words.
            let (mut words, mut bit) = ([0u32; 10], 0);
            for step in 1..=16 {
                let link = match forged {
                    Some((at, of, link)) if (at, of) == (slot, step) => link,
                    _ => (slot + step) % LEN,
                };
                let both = u64::from(link) << (bit % 32);
                words[bit / 32] |= both as u32;
                words[bit / 32 + 1] |= (both >> 32) as u32;
                bit += 18;
            }
            words[..9].iter().copied().for_each(&mut put);
        }
        file.resize(file.len().next_multiple_of(64), 0);
        file.extend([0; 4]);
        forge(&file, VERSION, 7)
    };
    let whole = ring(None);
    assert!(read(&whole).is_ok_and(|graph| graph.len() == LEN as usize));
    for forged in [(LEN - 1, 16, LEN), (70_000, 5, LEN), (LEN - 1, 16, (1 << 18) - 2)] {
        assert!(matches!(read(&ring(Some(forged))), Err(Error::Malformed(_))));
    }
    for at in [LINKS, LINKS + 4_000_000, whole.len() - 5] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(matches!(read(&damaged), Err(Error::Checksum { .. })));
    }
}

#[test]
fn bytes_behind_the_end_are_refused_when_opening() {
    let (_, graph) = graph(100);
    let mut file = bytes(&graph);
    file.push(0);
    assert!(matches!(Graph::from_bytes(file), Err(Error::Malformed(_))));
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
        let refused = [Graph::from_bytes(file[..len].to_vec()), Graph::read_from(&mut &file[..len])];
        let cut = |refused: &Result<Graph, Error>| matches!(refused, Err(Error::Truncated));
        assert!(refused.iter().all(cut), "{len} bytes");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let (_, graph) = graph(40);
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
        let start = random.random_range(0..=LINKS);
        let mut file = whole[..start].to_vec();
        let more: usize = random.random_range(0..2000);
        // As long as the whole, now and then.
        let more = if round % 2 == 0 { whole.len() - start } else { more };
        file.extend((0..more).map(|_| random.random::<u8>()));
        assert!(read(&file).is_err(), "round {round}");
    }
}

#[test]
fn a_newer_and_an_older_version_are_named() {
    let (_, graph) = graph(10);
    let refused = read(&forge(&bytes(&graph), VERSION, 9)).expect_err("it is newer");
    assert_eq!(refused.to_string(), "the graph has format version 9, this program reads up to 7");
    let refused = read(&forge(&bytes(&graph), VERSION, 1)).expect_err("it is older");
    let told = "the graph has format version 1, this program reads version 7: build it again";
    assert_eq!(refused.to_string(), told);
}

#[test]
fn something_else_is_not_a_graph() {
    assert!(matches!(read(b"PK\x03\x04 and more"), Err(Error::NotAGraph)));
    assert!(matches!(read(&[7; 1000]), Err(Error::NotAGraph)));
}

#[test]
fn numbers_that_a_search_would_follow_are_checked_behind_a_right_checksum() {
    let (_, graph) = graph(400);
    let file = bytes(&graph);
    let first_layer = (LINKS + 400 * record_bytes(8, 400)).next_multiple_of(64);
    let slots = u32::from_le_bytes(file[LAYERS..LAYERS + 4].try_into().expect("four bytes"));
    let starts = (first_layer + 4 * slots as usize).next_multiple_of(64);
    let links = (starts + 4 * slots as usize + 4).next_multiple_of(64);
    let forged = [
        (STRIDE, 0),
        (STRIDE, 257),
        (LEN, u32::MAX),
        (ENTRY, 400),
        (ENTRY, u32::MAX),
        (UPPER, 17),
        (LINKS, 400),
        (LINKS, u32::MAX - 1),
        (LAYERS, 401),
        (LAYERS + 4, u32::MAX),
        (first_layer, 399),
        (first_layer, u32::MAX),
        (starts, 1),
        (starts + 4, u32::MAX),
        (starts + 4 * slots as usize, 0),
        (links, 400),
    ];
    for (at, value) in forged {
        let refused = read(&forge(&file, at, value));
        assert!(matches!(refused, Err(Error::Malformed(_))), "{value} at {at}: {refused:?}");
    }
}

#[test]
fn codes_of_no_known_kind_and_blocks_that_lead_outside_are_refused() {
    const CODES: usize = 156;
    const BLOCKS: usize = 168;
    const BITS: usize = 176;

    let values = clustered(Metric::Cosine, 32, 300, 1);
    let rows = FlatRows::new(32, &values).expect("whole rows");
    let graph = NativeBuilder::default().build(Metric::Cosine, &rows, &|| false).expect("builds");
    let plain = bytes(&graph);
    let compact = bytes(&graph.clone().quantized_as(Metric::Cosine, &rows, Codes::Compact));
    assert!(read(&compact).is_ok());
    let manhattan = forge(&compact, CODES, 4);
    for (file, bits) in [(&compact, 0), (&compact, 5), (&compact, 16), (&manhattan, 4)] {
        assert!(matches!(read(&forge(file, BITS, bits)), Err(Error::Malformed(_))));
    }
    assert!(matches!(read(&forge(&compact, BLOCKS, 1)), Err(Error::Malformed(_))));
    assert!(matches!(read(&forge(&compact, SIGNS, 1)), Err(Error::Malformed(_))));
    let file = bytes(&graph.quantized_as(Metric::Cosine, &rows, Codes::Fast));
    assert!(read(&file).is_ok());
    for (at, value) in [(172, 1025), (172, u32::MAX)] {
        assert!(matches!(read(&forge(&file, at, value)), Err(Error::Malformed(_))));
    }
    // A block of 32 neighbours: links, two numbers each, then 32 x 64 bits.
    let last = file.len() - 4 - (3 * 128 + 256);
    for (file, at, value) in
        [(&file, BLOCKS, 2), (&file, last, 300), (&file, last + 124, u32::MAX), (&plain, BLOCKS, 1)]
    {
        let refused = read(&forge(file, at, value));
        assert!(matches!(refused, Err(Error::Malformed(_))), "{value} at {at}: {refused:?}");
    }
    assert!(read(&forge(&file, last, 299)).is_ok());
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

#[test]
fn signs_come_back_as_they_were_and_are_refused_where_codes_have_none() {
    const DIM: usize = 200;
    let mut random = StdRng::seed_from_u64(8);
    let values: Vec<f32> = (0..DIM * 300).map(|_| random.random_range(-1.0..1.0)).collect();
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan] {
        let graph = NativeBuilder::default().build(metric, &rows, &|| false).expect("builds");
        let graph = graph.quantized(metric, &rows);
        let file = bytes(&graph);
        let opened = read(&file).expect("it is whole");
        assert!(opened == graph && opened.memory_bytes() == graph.memory_bytes());
        let signs = u32::from_le_bytes(file[SIGNS..SIGNS + 4].try_into().expect("four bytes"));
        assert_eq!(signs, u32::from(metric != Metric::Manhattan));
        for other in [1 - signs, 2] {
            assert!(matches!(read(&forge(&file, SIGNS, other)), Err(Error::Malformed(_) | Error::Truncated)));
        }
    }
}

#[test]
fn a_graph_that_grew_gets_signs_with_its_codes() {
    const DIM: usize = 200;
    let values = clustered(Metric::Cosine, DIM, 400, 9);
    let rows = FlatRows::new(DIM, &values).expect("whole rows");
    let mut grower = GraphGrower::new(NativeBuilder::default(), Metric::Cosine).expect("settings are good");
    grower.extend(&rows).expect("they fit");
    let all: Vec<Option<u32>> = (0..400).map(Some).collect();
    let kept = grower.graph().kept(Metric::Cosine, &rows, &all);
    let has_signs = |graph: &Graph| bytes(graph)[SIGNS] == 1;
    for graph in [grower.graph(), kept] {
        assert!(!has_signs(&graph));
        assert!(has_signs(&graph.clone().quantized_as(Metric::Cosine, &rows, Codes::Int8)));
        assert!(!has_signs(&graph.quantized_as(Metric::Cosine, &rows, Codes::Compact)));
    }
}
