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

/// How some tests ended.
struct Report {
    ended_well: bool,
    counts: Counts,
    /// What each failed test said, to be read without looking through the whole output.
    failures: Vec<String>,
}

/// Runs some tests.
type Suite = fn(bool) -> Outcome<Report>;

/// So many lines of what a failed test said are shown again at the end.
const LINES_OF_A_FAILURE: usize = 16;

/// Runs every suite, whatever the one before said, and prints the counts.
pub(crate) fn all(long: bool) -> Outcome {
    crate::tidy::run()?;
    // One selection of packages for both, so that nothing is built twice.
    run(cargo().args(["build", "--release", "--workspace", "--all-targets", "--locked"]))?;
    let mut total = Counts::default();
    let mut broken = Vec::new();
    let mut failures = Vec::new();
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
        let Report { ended_well, counts, failures: of_suite } = suite(long)?;
        println!("== {name} took {} s", started.elapsed().as_secs());
        failures.extend(of_suite.into_iter().map(|failure| format!("{name}: {failure}")));
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        if !ended_well || counts.failed > 0 || counts.passed == 0 {
            broken.push(name);
        }
    }
    for failure in failures {
        println!("\n== failed in {failure}");
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if broken.is_empty() { Ok(()) } else { Err(format!("failed: {}", broken.join(", "))) }
}

fn rust(long: bool) -> Outcome<Report> {
    let mut command = cargo();
    command.args(["test", "--release", "--workspace", "--locked", "--no-fail-fast"]);
    // What was measured is part of the result, also of tests that pass.
    command.args(["--", "--show-output"]);
    if long {
        command.arg("--include-ignored");
    }
    let (ended_well, text) = run_and_read(&mut command)?;
    Ok(Report { ended_well, counts: rust_counts(&text), failures: rust_failures(&text) })
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

/// The failed tests with the first lines of what they said, and the programs of tests that
/// ended otherwise than by their tests (`error: test failed, to rerun pass …`, `Caused by:`).
fn rust_failures(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut failures = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let Some(name) = name else { continue };
        let heads = [format!("---- {name} stdout ----"), format!("---- {name} stderr ----")];
        let said = lines[at..].iter().skip_while(|line| !heads.iter().any(|head| head == *line)).skip(1);
        let said = said.take_while(|line| !line.starts_with("---- ") && !line.starts_with("stack backtrace"));
        let said: Vec<&str> =
            said.copied().filter(|line| !line.is_empty()).take(LINES_OF_A_FAILURE).collect();
        failures.push(format!("{name}\n{}", said.join("\n")));
    }
    let died = lines.iter().filter(|line| line.contains("process didn't exit successfully"));
    failures.extend(died.filter(|line| line.contains("signal")).map(|line| (*line).to_owned()));
    failures
}

/// The real binary, driven by the real clients.
fn python(long: bool) -> Outcome<Report> {
    pytest("venv", "requirements.txt", &["clients/python/tests", "tests/python"], minutes(long))
}

/// What is asked of the Qdrant client, by the newest one.
fn newest_client(long: bool) -> Outcome<Report> {
    let tests = ["test_qdrant_client.py", "test_qdrant_calls.py", "test_local_mode.py", "test_openapi.py"]
        .map(|file| format!("tests/python/{file}"));
    pytest("venv-newest", "newest.txt", &tests.each_ref().map(String::as_str), minutes(long))
}

/// Requests by chance against the description of the service, for so many minutes.
pub(crate) fn schemathesis(minutes: u64) -> Outcome {
    run(cargo().args(["build", "--release", "--workspace", "--bin", "cairn", "--locked"]))?;
    let minutes = minutes.to_string();
    let tests = ["tests/python/test_openapi.py"];
    let report = pytest("venv-newest", "newest.txt", &tests, Some(&minutes))?;
    if report.ended_well {
        Ok(())
    } else {
        Err("the service did not answer as /openapi.json says".to_owned())
    }
}

/// What is built on the clients.
fn frameworks(long: bool) -> Outcome<Report> {
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
fn pytest(venv: &str, requirements: &str, tests: &[&str], minutes: Option<&str>) -> Outcome<Report> {
    let venv = root().join("target").join(venv);
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(in_root(&python).args(pip).arg(format!("tests/python/{requirements}")))?;
    let mut pytest = in_root(&python);
    pytest.args(["-m", "pytest", "-q", "-rsfE"]).args(tests);
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
    let failures = text.lines().filter(|line| line.starts_with("FAILED ") || line.starts_with("ERROR "));
    Ok(Report { ended_well, counts, failures: failures.map(str::to_owned).collect() })
}

/// The JavaScript client, against the real binary.
fn javascript(_long: bool) -> Outcome<Report> {
    node(&root().join("tests/javascript"))
}

fn typescript(_long: bool) -> Outcome<Report> {
    node(&root().join("clients/typescript"))
}

/// Runs the tests of a package of Node.
fn node(folder: &Path) -> Outcome<Report> {
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
    let lines: Vec<&str> = text.lines().collect();
    let failed = lines.iter().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        line.starts_with("not ok ") || line.starts_with("✖ ")
    });
    let said = failed.map(|(at, _)| lines[at..].iter().take(LINES_OF_A_FAILURE).copied());
    let failures = said.map(|lines| lines.collect::<Vec<_>>().join("\n")).collect();
    Ok(Report { ended_well, counts, failures })
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

    #[test]
    fn failed_tests_are_told_with_their_words() {
        let text = "test a::good ... ok\ntest a::bad ... FAILED\n\nsuccesses:\n\n\
                    ---- a::good stdout ----\nall is well\n\nfailures:\n\n---- a::bad stdout ----\n\n\
                    thread 'a::bad' panicked at src/a.rs:3:5:\nleft is not right\nstack backtrace:\n 0: x\n\n\
                    failures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored";
        let told = "a::bad\nthread 'a::bad' panicked at src/a.rs:3:5:\nleft is not right";
        assert_eq!(rust_failures(text), [told]);
    }
}
