//! Bodies: what the quick reader takes it reads as `serde_json` does, whole or in
//! pieces; what it does not take is left to that.

use cairn_server::fuzzing::{Reads, Shape};

pub(crate) fn check(input: &[u8]) {
    let cuts = cuts(input);
    let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
    for shape in Shape::ALL {
        let Reads { whole, pieced, known } = shape.read(&pieces);
        let (whole, pieced, known) = (whole.map(in_order), pieced.map(in_order), known.map(in_order));
        assert_eq!(whole, pieced, "{shape:?} in pieces {cuts:?}");
        if let Some(whole) = whole {
            assert_eq!(Ok(whole), known, "{shape:?}");
        }
    }
}

/// Where a body is cut: one place for each of a few of its bytes.
fn cuts(input: &[u8]) -> Vec<usize> {
    let mut state =
        input.iter().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut cuts = vec![0, input.len()];
    for _ in 0..state % 5 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        cuts.push((state >> 33) as usize % (input.len() + 1));
    }
    cuts.sort_unstable();
    cuts
}

/// The same text with the ids of each set in order: a set shows them in any.
fn in_order(text: String) -> String {
    const SET: &str = "HasId({";
    let Some((before, rest)) = text.split_once(SET) else { return text };
    let (ids, after) = rest.split_once("})").unwrap_or((rest, ""));
    let mut ids: Vec<&str> = ids.split(", ").collect();
    ids.sort_unstable();
    format!("{before}{SET}{}}}){}", ids.join(", "), in_order(after.to_owned()))
}
