//! All tests, and their count at the end.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::shell::{Outcome, cargo, root, run, run_and_read};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs some tests; whether they ended well, and their counts.
type Suite = fn(bool) -> Outcome<(bool, Counts)>;

/// Runs every suite, whatever the one before said, and prints the counts.
pub(crate) fn all(long: bool) -> Outcome {
    crate::tidy::run()?;
    // One selection of packages for both, so that nothing is built twice.
    run(cargo().args(["build", "--release", "--workspace", "--all-targets", "--locked"]))?;
    let mut total = Counts::default();
    let mut broken = Vec::new();
    let suites: [(&str, Suite); 6] = [
        ("rust", rust),
        ("end to end", python),
        ("end to end, the newest client", newest_client),
        ("frameworks", frameworks),
        ("javascript", javascript),
        ("typescript", typescript),
    ];
    for (name, suite) in suites {
        println!("\n== {name}");
        let started = Instant::now();
        let (ended_well, counts) = suite(long)?;
        println!("== {name} took {} s", started.elapsed().as_secs());
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        if !ended_well || counts.failed > 0 || counts.passed == 0 {
            broken.push(name);
        }
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if broken.is_empty() { Ok(()) } else { Err(format!("failed: {}", broken.join(", "))) }
}

fn rust(long: bool) -> Outcome<(bool, Counts)> {
    let mut command = cargo();
    command.args(["test", "--release", "--workspace", "--locked", "--no-fail-fast"]);
    // What was measured is part of the result, also of tests that pass.
    command.args(["--", "--show-output"]);
    if long {
        command.arg("--include-ignored");
    }
    let (ended_well, text) = run_and_read(&mut command)?;
    Ok((ended_well, rust_counts(&text)))
}

/// Adds up lines like `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn rust_counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        counts.passed += number_before(line, " passed");
        counts.failed += number_before(line, " failed");
        counts.skipped += number_before(line, " ignored");
    }
    counts
}

/// The real binary, driven by the real clients.
fn python(long: bool) -> Outcome<(bool, Counts)> {
    pytest("venv", "requirements.txt", &["clients/python/tests", "tests/python"], minutes(long))
}

/// What is asked of the Qdrant client, by the newest one.
fn newest_client(long: bool) -> Outcome<(bool, Counts)> {
    let tests = ["test_qdrant_client.py", "test_qdrant_calls.py", "test_local_mode.py", "test_openapi.py"]
        .map(|file| format!("tests/python/{file}"));
    pytest("venv-newest", "newest.txt", &tests.each_ref().map(String::as_str), minutes(long))
}

/// Requests by chance against the description of the service, for so many minutes.
pub(crate) fn schemathesis(minutes: u64) -> Outcome {
    run(cargo().args(["build", "--release", "--workspace", "--bin", "cairn", "--locked"]))?;
    let minutes = minutes.to_string();
    let tests = ["tests/python/test_openapi.py"];
    let (ended_well, _) = pytest("venv-newest", "newest.txt", &tests, Some(&minutes))?;
    if ended_well { Ok(()) } else { Err("the service did not answer as /openapi.json says".to_owned()) }
}

/// What is built on the clients.
fn frameworks(long: bool) -> Outcome<(bool, Counts)> {
    let tests = ["test_frameworks.py", "test_framework_models.py", "test_framework_chats.py"]
        .map(|file| format!("tests/python/{file}"));
    pytest("venv-frameworks", "frameworks.txt", &tests.each_ref().map(String::as_str), minutes(long))
}

/// How long requests by chance go on where the long suites run.
fn minutes(long: bool) -> Option<&'static str> {
    long.then_some("20")
}

/// Runs tests in a virtual environment of their own, made when it is not there; with
/// minutes the long ones as well.
fn pytest(venv: &str, requirements: &str, tests: &[&str], minutes: Option<&str>) -> Outcome<(bool, Counts)> {
    let venv = root().join("target").join(venv);
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(in_root(&python).args(pip).arg(format!("tests/python/{requirements}")))?;
    let mut pytest = in_root(&python);
    pytest.args(["-m", "pytest", "-q", "-rs"]).args(tests);
    pytest.env("CAIRN_BIN", root().join("target/release/cairn"));
    if let Some(minutes) = minutes {
        pytest.env("CAIRN_LONG", "1").env("CAIRN_FUZZ_MINUTES", minutes);
    }
    let (ended_well, text) = run_and_read(&mut pytest)?;
    let last = text.lines().rev().find(|line| line.contains(" passed") || line.contains(" failed"));
    let last = last.unwrap_or_default();
    let errors = number_before(last, " error");
    let counts = Counts {
        passed: number_before(last, " passed"),
        failed: number_before(last, " failed") + errors,
        skipped: number_before(last, " skipped"),
    };
    Ok((ended_well, counts))
}

/// The JavaScript client, against the real binary.
fn javascript(_long: bool) -> Outcome<(bool, Counts)> {
    node(&root().join("tests/javascript"))
}

fn typescript(_long: bool) -> Outcome<(bool, Counts)> {
    node(&root().join("clients/typescript"))
}

/// Runs the tests of a package of Node.
fn node(folder: &Path) -> Outcome<(bool, Counts)> {
    run(Command::new("npm").current_dir(folder).args(["ci", "--no-audit", "--no-fund"]))?;
    let mut tests = Command::new("npm");
    tests.current_dir(folder).arg("test").env("CAIRN_BIN", root().join("target/release/cairn"));
    let (ended_well, text) = run_and_read(&mut tests)?;
    let after = |word: &str| {
        let lines =
            text.lines().filter_map(|line| line.trim_start_matches(['#', 'ℹ', ' ']).strip_prefix(word));
        lines.filter_map(|rest| rest.trim().parse::<usize>().ok()).sum::<usize>()
    };
    let counts = Counts { passed: after("pass "), failed: after("fail "), skipped: after("skipped ") };
    Ok((ended_well, counts))
}

fn in_root(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The number in front of a word: `number_before("3 passed", " passed")` is 3.
fn number_before(line: &str, word: &str) -> usize {
    let Some((before, _)) = line.split_once(word) else { return 0 };
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_closing_lines() {
        let text = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured\n\
                    other 9 passed\ntest result: FAILED. 12 passed; 2 failed; 0 ignored";
        assert_eq!(rust_counts(text), Counts { passed: 17, failed: 2, skipped: 1 });
        assert_eq!(number_before("== 1 failed, 116 passed, 2 skipped in 3.1s ==", " passed"), 116);
        assert_eq!(number_before("nothing", " passed"), 0);
    }
}
