//! Programs that are measured beside ours: Python packages in an environment of
//! their own, `target/bench-venv`.
//!
//! A script gets a folder. It reads what to do there and leaves there what it
//! found and how long each call took; how good that is, is measured here, with
//! the code that measures ours. Where a package cannot be had, its script does
//! not run, and the reason is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::timing::Times;

/// What a peer did with one case.
#[derive(Debug)]
pub struct Answered {
    /// Its name and version.
    pub system: String,
    /// Which case.
    pub case: String,
    /// For each query what was found, best first.
    pub ids: Vec<Vec<usize>>,
    /// The times of the calls.
    pub times: Times,
}

/// Runs a script of `benches/peers` with a folder.
///
/// # Errors
/// The reason why the script could not run, or what it left is not understood.
pub fn run(script: &str, packages: &[&str], work: &Path) -> Result<Vec<Answered>, String> {
    let left_out = |reason: String| format!("{script} is left out: {reason}");
    let python = python(packages).map_err(left_out)?;
    succeeds(Command::new(python).arg(self::script(script)).arg(work)).map_err(left_out)?;
    let file = fs::read(work.join("answers.json")).map_err(|error| left_out(error.to_string()))?;
    let answers: Vec<Value> = serde_json::from_slice(&file).map_err(|error| left_out(error.to_string()))?;
    Ok(answers.iter().map(answered).collect())
}

fn answered(answer: &Value) -> Answered {
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ids = |hits: &Value| list(hits).iter().filter_map(|id| Some(id.as_u64()? as usize)).collect();
    Answered {
        system: text("system"),
        case: text("case"),
        ids: list(&answer["ids"]).iter().map(ids).collect(),
        times: Times::of_micros(list(&answer["micros"]).iter().filter_map(Value::as_f64).collect()),
    }
}

/// Where a script of `benches/peers` is.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// The environment's Python, with these packages. What is compiled is compiled
/// for this processor.
///
/// # Errors
/// If there is no Python, or the packages cannot be installed.
pub fn python(packages: &[&str]) -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let mut install_all = Command::new(&python);
    install_all.args(install).args(packages).env("CFLAGS", "-O3 -march=native");
    succeeds(&mut install_all)?;
    Ok(python)
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}
