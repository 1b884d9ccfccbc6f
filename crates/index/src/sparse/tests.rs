use std::collections::BTreeSet;
use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::scan::{Weights, dot};
use super::search::Scratch;
use super::*;

type Row = Vec<(u32, f32)>;

fn encoded(rows: &[(u32, Row)]) -> Vec<u8> {
    Inverted::encode(rows.iter().map(|(slot, row)| (*slot, row.iter().copied())))
}

fn opened(rows: &[(u32, Row)]) -> Inverted {
    Inverted::open(&Bytes::copy_of(&encoded(rows))).unwrap()
}

/// A position, small ones much more often: about Zipf's law.
fn position(random: &mut StdRng, vocabulary: u32) -> u32 {
    (f64::from(vocabulary).powf(random.random::<f64>()) - 1.0) as u32
}

fn row(random: &mut StdRng, vocabulary: u32, len: usize, mut value: impl FnMut(&mut StdRng) -> f32) -> Row {
    let positions: BTreeSet<u32> = (0..len).map(|_| position(random, vocabulary)).collect();
    positions.into_iter().map(|index| (index, value(random))).collect()
}

fn rows(random: &mut StdRng, count: usize, vocabulary: u32, len: usize, negative: bool) -> Vec<(u32, Row)> {
    let mut slot = 0;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let gap = if random.random_bool(0.01) { 5_000 } else { 2 };
        slot += random.random_range(1..=gap);
        let len = random.random_range(0..=len);
        // Few different values, so that scores tie.
        let value = |random: &mut StdRng| {
            let value = random.random_range(1..=8) as f32 / 4.0;
            if negative && random.random_bool(0.4) { 0.5 - value } else { value }
        };
        all.push((slot, row(random, vocabulary, len, value)));
    }
    all
}

fn naive(rows: &[(u32, Row)], query: &[(u32, f32)], accept: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
    let mut found = Vec::new();
    for (slot, row) in rows.iter().filter(|(slot, _)| accept(*slot)) {
        let parts = query.iter().filter_map(|&(index, weight)| {
            let at = row.binary_search_by_key(&index, |entry| entry.0).ok()?;
            Some(f64::from(weight) * f64::from(row[at].1))
        });
        let parts: Vec<f64> = parts.collect();
        if !parts.is_empty() {
            found.push((*slot, parts.iter().fold(0.0, |sum, part| sum + part) as f32));
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found
}

#[test]
fn the_best_rows_are_those_of_the_naive_product() {
    let mut scratch = Scratch::default();
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let negative = seed % 2 == 1;
        let (count, len) = ([0, 1, 300, 8_000][seed as usize / 2 % 4], random.random_range(1..40));
        let vocabulary = random.random_range(2..3_000);
        let rows = rows(&mut random, count, vocabulary, len, negative);
        let index = opened(&rows);
        assert_eq!(index.rows() as usize, rows.len());
        for _ in 0..12 {
            let len = [1, 3, 12, 80][random.random_range(0..4)];
            let query = row(&mut random, vocabulary + 2, len, |random| {
                let weight = random.random_range(0..=6) as f32 / 2.0;
                if negative { weight - 1.0 } else { weight }
            });
            let share = [1.0, 0.5, 0.05, 0.001][random.random_range(0..4)];
            let chosen: BTreeSet<u32> =
                rows.iter().map(|row| row.0).filter(|_| random.random_bool(share)).collect();
            let want = naive(&rows, &query, |slot| chosen.contains(&slot));
            let k = [1, 3, 10, 100, 20_000][random.random_range(0..5)];
            let floor = match random.random_range(0..3) {
                0 => None,
                1 => Some(random.random_range(-3.0..20.0)),
                _ => want.get(random.random_range(0..20)).map(|hit| hit.1),
            };
            let want: Vec<_> =
                want.into_iter().filter(|hit| floor.is_none_or(|floor| hit.1 > floor)).take(k).collect();
            let got = index.search(&query, k, floor, |slot| chosen.contains(&slot), &mut scratch);
            assert_eq!(got, want, "seed {seed}, k {k}, floor {floor:?}, query {query:?}");
        }
    }
}

#[test]
fn scores_of_any_values_are_those_of_a_scan() {
    let seed = 5;
    let mut random = StdRng::seed_from_u64(seed);
    let any =
        |random: &mut StdRng| random.random_range(-1.0f32..1.0) * 10f32.powi(random.random_range(-6..6));
    let rows: Vec<(u32, Row)> = (0..3_000).map(|slot| (slot, row(&mut random, 500, 30, any))).collect();
    let index = opened(&rows);
    for len in [1, 4, 60] {
        let query = row(&mut random, 500, len, any);
        let weights = Weights::new(query.iter().copied());
        for k in [10, 3_000] {
            for (slot, score) in index.search(&query, k, None, |_| true, &mut Scratch::default()) {
                let row = &rows[slot as usize].1;
                let scanned = weights.score(row.iter().copied()).unwrap();
                // Optional lists come last in the index, so the order of a sum may differ.
                let tolerance = 1e-6 * scanned.abs() + 1e-3;
                assert!((score - scanned).abs() <= tolerance, "{score}, scanned {scanned}, seed {seed}");
                let sparse = |row: &Row| crate::SparseVector::new(row.iter().copied()).unwrap();
                assert_eq!(dot(&sparse(&query), &sparse(row)), Some(scanned));
            }
        }
    }
}

#[test]
fn a_row_without_a_shared_position_is_not_found_and_one_that_scores_zero_is() {
    let rows = [(3, vec![(1, 1.0), (2, 1.0)]), (4, vec![(9, 5.0)]), (7, vec![(2, -0.0)]), (8, vec![])];
    let index = opened(&rows);
    let found = |query: &[(u32, f32)]| index.search(query, 10, None, |_| true, &mut Scratch::default());
    assert_eq!(found(&[(1, 1.0), (2, -1.0)]), [(3, 0.0), (7, 0.0)]);
    assert_eq!(found(&[(2, 0.0)]), [(3, 0.0), (7, 0.0)]);
    assert_eq!(found(&[(1, -2.0)]), [(3, -2.0)]);
    assert_eq!(found(&[(5, 1.0)]), []);
    assert_eq!(found(&[]), []);
    assert_eq!(index.search(&[(1, 1.0)], 0, None, |_| true, &mut Scratch::default()), []);
    assert_eq!([index.df(1), index.df(2), index.df(5), index.rows()], [1, 2, 0, 4]);
}

#[test]
fn slots_up_to_the_last_are_found() {
    let rows = [(0, vec![(7, 1.0)]), (u32::MAX - 1, vec![(7, 2.0), (u32::MAX, 1.0)])];
    let index = opened(&rows);
    let query = [(7, 1.0), (u32::MAX, 1.0)];
    let found = index.search(&query, 10, None, |_| true, &mut Scratch::default());
    assert_eq!(found, [(u32::MAX - 1, 3.0), (0, 1.0)]);
}

#[test]
fn damaged_bytes_are_refused_or_searched_without_a_panic() {
    let seed = 3;
    let mut random = StdRng::seed_from_u64(seed);
    let rows = rows(&mut random, 600, 50, 20, true);
    let whole = encoded(&rows);
    let query: Row = (0..50).map(|index| (index, 1.0 - (index % 3) as f32)).collect();
    for cut in 0..whole.len().min(600) {
        assert!(Inverted::open(&Bytes::copy_of(&whole[..cut])).is_err());
    }
    let mut opened = 0;
    for round in 0..4_000 {
        let mut bytes = whole.clone();
        let end = if round % 2 == 0 { 1_500 } else { bytes.len() };
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..end);
            bytes[at] = random.random();
        }
        let Ok(index) = Inverted::open(&Bytes::copy_of(&bytes)) else { continue };
        opened += 1;
        let mut scratch = Scratch::default();
        for (k, floor) in [(5, None), (1_000, None), (5, Some(1.0))] {
            let found = index.search(&query, k, floor, |_| true, &mut scratch);
            assert!(found.len() <= k, "seed {seed}, round {round}");
        }
    }
    assert!(opened > 1_000, "seed {seed}: only {opened} were opened");
}

/// Queries a second in one thread, for the record; rows like BM25's and like
/// those of learned sparse encoders.
#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout)]
fn speed() {
    let count = 300_000;
    for (name, len, vocabulary, terms) in [
        ("bm25", 60, 200_000, 5),
        ("bm25", 60, 200_000, 12),
        ("learned", 120, 30_000, 30),
        ("learned", 120, 30_000, 70),
    ] {
        let mut random = StdRng::seed_from_u64(1);
        // Rare words weigh more and long tails are light, as in either kind.
        let value = |random: &mut StdRng| -random.random::<f32>().ln().max(-4.0);
        let rows: Vec<(u32, Row)> =
            (0..count).map(|slot| (slot, row(&mut random, vocabulary, len, value))).collect();
        let started = Instant::now();
        let bytes = encoded(&rows);
        let seconds = started.elapsed().as_secs_f64();
        let inverted = Inverted::open(&Bytes::copy_of(&bytes)).unwrap();
        let queries: Vec<Row> = (0..200)
            .map(|_| {
                let mut query = row(&mut random, vocabulary, terms, value);
                for (index, weight) in &mut query {
                    let (n, df) = (f64::from(count), f64::from(inverted.df(*index)));
                    if name == "bm25" {
                        *weight = ((n - df + 0.5) / (df + 0.5) + 1.0).ln() as f32;
                    }
                }
                query
            })
            .collect();
        let mut scratch = Scratch::default();
        println!(
            "{name}, {count} rows, {terms} terms: {:.1} MB, encoded in {seconds:.2} s",
            bytes.len() as f64 / 1e6
        );
        for (k, share) in [(10, 1), (100, 1), (1_000, 1), (10, 100)] {
            let started = Instant::now();
            for query in &queries {
                let found = inverted.search(query, k, None, |slot| slot % share == 0, &mut scratch);
                std::hint::black_box(found);
            }
            let each = started.elapsed().as_secs_f64() / queries.len() as f64;
            println!("  k {k}, one in {share}: {:.3} ms", each * 1e3);
        }
        let started = Instant::now();
        for query in &queries {
            let weights = Weights::new(query.iter().copied());
            let scores = rows.iter().take(20_000).filter_map(|(_, row)| weights.score(row.iter().copied()));
            std::hint::black_box(scores.fold(0.0, f32::max));
        }
        let each = started.elapsed().as_secs_f64() / queries.len() as f64;
        println!("  20000 rows scanned: {:.3} ms", each * 1e3);
    }
}
