//! Every target on its corpus and on a fixed number of inputs made from it.
//!
//! The inputs follow from a seed that is printed. `CAIRN_FUZZ_SEED` gives another
//! one, `CAIRN_FUZZ_TIMES` as many times the inputs; `cargo xtask fuzz` goes on for
//! as long as one likes.

use cairn_fuzz::{Material, Target, mutated};

/// Shows the input that a check ended on.
struct Shown<'i> {
    target: &'static str,
    from: &'i str,
    input: &'i [u8],
}

impl Drop for Shown<'_> {
    #[allow(clippy::print_stderr)] // what whoever mends it needs
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { target, from, input } = self;
            eprintln!("{target}, {from}: {:?}", String::from_utf8_lossy(input));
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[allow(clippy::print_stdout)] // the seed of a failure
fn holds(name: &str) {
    let target = Target::named(name);
    for (file, input) in target.seeds() {
        let _shown = Shown { target: target.name, from: &file, input: &input };
        (target.check)(&input);
    }
    let seed = setting("CAIRN_FUZZ_SEED", 5);
    let inputs = target.short_inputs * setting("CAIRN_FUZZ_TIMES", 1) as usize;
    println!("seed {seed}, {inputs} inputs");
    let material = Material::of(&target);
    let mut rng = fastrand::Rng::with_seed(seed);
    for number in 0..inputs {
        let mut input = material.seeds[rng.usize(..material.seeds.len())].clone();
        for _ in 0..rng.usize(1..4) {
            input = mutated(&input, &material, rng.u64(..));
        }
        let _shown =
            Shown { target: target.name, from: &format!("seed {seed}, input {number}"), input: &input };
        (target.check)(&input);
    }
}

#[test]
fn a_path_reaches_what_a_naive_walk_reaches() {
    holds("path");
}

#[test]
fn a_filter_means_the_same_written_anew_and_by_indexes() {
    holds("filter");
}

#[test]
fn a_query_is_answered_with_what_it_asked_for_or_an_error() {
    holds("query");
}

#[test]
fn a_number_is_that_of_the_standard_library() {
    holds("number");
}

#[test]
fn a_body_is_read_as_serde_json_reads_it() {
    holds("body");
}

#[test]
fn a_write_is_there_or_was_refused() {
    holds("points");
}
