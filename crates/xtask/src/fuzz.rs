//! Long runs of the fuzz targets of `tests/fuzz`, under libFuzzer.
//!
//! What it finds on its way is kept in `target/fuzz/corpus` and built on by the
//! next run; an input that broke something is left in `target/fuzz/artifacts`.

use std::path::Path;
use std::process::Command;

use crate::shell::{Outcome, cargo, root, run};

/// The version of cargo-fuzz that is installed, into `target/tools`.
const CARGO_FUZZ: &str = "0.13.2";

/// As in `tests/fuzz/src/lib.rs`, with the dictionary of each.
const TARGETS: [(&str, &str); 6] = [
    ("path", "path"),
    ("filter", "json"),
    ("query", "json"),
    ("number", "number"),
    ("body", "json"),
    ("points", "json"),
];

/// Longer inputs find little and take long.
const MAX_BYTES: usize = 8192;

/// Runs one target or all, each for so many seconds.
pub(crate) fn run_targets(target: Option<&str>, seconds: u64) -> Outcome {
    let known = || TARGETS.map(|(name, _)| name).join(", ");
    let wanted: Vec<_> =
        TARGETS.into_iter().filter(|(name, _)| target.is_none_or(|target| target == *name)).collect();
    if wanted.is_empty() {
        return Err(format!("there is no target {}, there are {}", target.unwrap_or_default(), known()));
    }
    let triple = host()?;
    let folder = root().join("target/fuzz");
    // Without a sanitizer it needs no nightly toolchain: memory is safe here, what is
    // looked for are panics and wrong answers.
    let mut build = Command::new(installed()?);
    build.current_dir(root()).args(["fuzz", "build", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none"]);
    build.args(["--features", "libfuzzer", "--target", &triple, "--target-dir"]).arg(&folder);
    if let [(name, _)] = wanted[..] {
        build.arg(name);
    }
    run(&mut build)?;
    let mut broken = Vec::new();
    for (name, dictionary) in wanted {
        println!("\n== {name}, {seconds} s");
        let program = folder.join(&triple).join("release").join(name);
        if let Err(reason) = run_one(&program, &folder, (name, dictionary), seconds) {
            broken.push(format!("{name}: {reason}"));
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nthe inputs are in {}", broken.join("\n"), folder.join("artifacts").display()))
}

fn run_one(program: &Path, folder: &Path, (name, dictionary): (&str, &str), seconds: u64) -> Outcome {
    let (found, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let tests = root().join("tests/fuzz");
    let mut fuzz = Command::new(program);
    fuzz.current_dir(root()).arg(found).arg(tests.join("corpus").join(name));
    fuzz.arg(format!("-dict={}", tests.join(format!("dictionaries/{dictionary}.dict")).display()));
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={MAX_BYTES}"));
    // An input that takes this long, or this much memory, is as wrong as a panic.
    fuzz.args(["-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]);
    run(&mut fuzz)
}

/// The triple of this machine.
fn host() -> Outcome<String> {
    let output =
        Command::new("rustc").arg("-vV").output().map_err(|error| format!("cannot start rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| format!("rustc does not tell its host: {text}"))
}

/// cargo-fuzz, installed when it is not there.
fn installed() -> Outcome<std::path::PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    let version = Command::new(&program).arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(CARGO_FUZZ)) {
        let version = format!("={CARGO_FUZZ}");
        run(cargo()
            .args(["install", "cargo-fuzz", "--locked", "--force", "--version", &version, "--root"])
            .arg(tools))?;
    }
    Ok(program)
}
