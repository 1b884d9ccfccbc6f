//! Writes to the log that a power cut tears: every image of the folder between
//! two acknowledgements opens, with all that was acknowledged before.

mod faults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_index::{Database, Error, Options, StoreKind};
use faults::{Points, STORES, Writer, config, everything, options, rng};
use rand::Rng;
use rand::rngs::StdRng;

#[test]
fn a_torn_write_takes_nothing_acknowledged_with_it() {
    for (store, seed) in STORES.into_iter().zip(700..) {
        tear(store, seed, 30);
    }
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn many_torn_writes_take_nothing_acknowledged_with_them() {
    for (store, seed) in STORES.into_iter().zip(710..) {
        tear(store, seed, 200);
    }
}

#[test]
fn a_log_cut_short_is_refused_or_a_prefix_and_never_silently_empty() {
    for (store, seed) in STORES.into_iter().zip(720..) {
        truncate(store, seed, 12);
    }
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn many_logs_cut_short_are_refused_or_a_prefix() {
    for (store, seed) in STORES.into_iter().zip(730..) {
        truncate(store, seed, 150);
    }
}

/// All files of a folder, by their paths in it.
type Image = BTreeMap<PathBuf, Vec<u8>>;

fn image(folder: &Path) -> Image {
    let mut files = Image::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn write(image: &Image, folder: &Path) {
    for (name, bytes) in image {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Holds still between two writes.
fn still(store: StoreKind) -> Options {
    Options { seal_points: usize::MAX, ..options(store) }
}

struct Run {
    home: tempfile::TempDir,
    db: Database,
    writer: Writer,
}

impl Run {
    fn new(store: StoreKind, seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let db = Database::open_with(home.path().join("data"), still(store)).unwrap();
        let collection = db.create_collection("c", config()).unwrap();
        let writer = Writer::new(collection, &home.path().join("ledger"), 0, seed);
        Self { home, db, writer }
    }

    fn image(&self) -> Image {
        image(&self.home.path().join("data"))
    }
}

#[allow(clippy::print_stdout)] // the count that the suite is about
fn tear(store: StoreKind, seed: u64, cuts: usize) {
    let mut rng = rng(seed);
    let mut run = Run::new(store, seed);
    let (mut made, mut held) = (0, 0);
    while made < cuts {
        for _ in 0..rng.random_range(0..4) {
            run.writer.act().unwrap();
        }
        if rng.random_bool(0.2) {
            run.writer.collection.index_now().unwrap();
        }
        let (before, points) = (run.image(), run.writer.points.clone());
        // One trip to the disk: of several, an earlier one cannot be torn.
        if rng.random_bool(0.15) {
            let to = rng.random_bool(0.5).then_some("c");
            run.db.set_aliases(&[("alias", to)]).unwrap();
        } else {
            run.writer.act().unwrap();
        }
        let (after, later) = (run.image(), run.writer.points.clone());
        for _ in 0..3 {
            let (torn, how) = torn(&mut rng, &before, &after);
            let opened = check(store, &torn, &[&points, &later]);
            let opened = opened.unwrap_or_else(|reason| {
                let kept = tempfile::tempdir().unwrap().keep();
                write(&torn, &kept);
                panic!("{store:?} seed {seed} cut {made} {how}, see {}: {reason}", kept.display())
            });
            held += usize::from(opened == later && later != points);
            made += 1;
        }
    }
    assert!(run.db.health().write_failure.is_none());
    println!("{store:?} seed {seed}: {made} torn writes, {held} of them whole enough, 0 lost");
}

/// The files as before, but for some bytes of the log that are as after.
fn torn(rng: &mut StdRng, before: &Image, after: &Image) -> (Image, String) {
    let mut how = String::new();
    // Other files are on the disk before the log names them, and are removed
    // after it does not name them any more.
    let mut torn = after.clone();
    torn.extend(before.clone());
    for (name, new) in after.iter().filter(|(name, _)| name.starts_with("log")) {
        match before.get(name) {
            Some(old) if old != new => drop(torn.insert(name.clone(), mixed(rng, old, new, &mut how))),
            Some(_) => {}
            // A new file: not there, cut, or whole.
            None if rng.random_bool(0.3) => drop(torn.remove(name)),
            None => {
                let end = rng.random_range(0..=new.len());
                torn.insert(name.clone(), new[..end].to_vec());
            }
        }
    }
    (torn, how)
}

fn mixed(rng: &mut StdRng, old: &[u8], new: &[u8], how: &mut String) -> Vec<u8> {
    let mut old = old.to_vec();
    // redb needs the new length on the disk before its new header; nothing makes
    // it wait for that, so a file system that orders them otherwise is not covered.
    let is_redb = new.starts_with(b"redb");
    let (length, grown) = (old.len(), old.len() < new.len() && !is_redb);
    // A file is made longer before it is written to, and shorter after that.
    old.resize(old.len().max(new.len()), 0);
    let differs = |at: &usize| old[*at] != new[*at];
    let first = (0..new.len()).find(differs).unwrap_or(0);
    let last = (0..new.len()).rev().find(differs).unwrap_or(0);
    let sector = [512, 4096][rng.random_range(0..2)];
    let mut mixed = old.clone();
    if rng.random_bool(0.5) {
        let end = rng.random_range(first..=last);
        *how += &format!("at {end} of {first}..={last}, {} to {} bytes", old.len(), new.len());
        mixed[first..end].copy_from_slice(&new[first..end]);
        if grown && rng.random_bool(0.5) {
            mixed.truncate(end.max(length));
            how.push_str(", cut short");
        }
    } else {
        *how += &format!("sectors of {sector} in {first}..={last}");
        for start in (first / sector * sector..=last).step_by(sector) {
            let end = (start + sector).min(new.len());
            if rng.random_bool(0.5) {
                mixed[start..end].copy_from_slice(&new[start..end]);
            }
        }
    }
    mixed
}

/// Opens an image; it must hold one of these.
fn check(store: StoreKind, image: &Image, expected: &[&Points]) -> Result<Points, String> {
    let dir = tempfile::tempdir().unwrap();
    write(image, dir.path());
    let db = Database::open_with(dir.path(), still(store)).map_err(|error| error.to_string())?;
    if !db.health().damaged.is_empty() {
        return Err(format!("{:?}", db.health()));
    }
    let collection = db.collection("c").map_err(|error| error.to_string())?;
    let found = everything(&collection)?;
    if !expected.contains(&&found) {
        return Err(format!("{} points are there, not {}", found.len(), expected[0].len()));
    }
    // It goes on from there.
    collection
        .upsert(vec![faults::point(0, faults::State { vector: 1, value: 1 })])
        .map_err(|e| e.to_string())?;
    collection.compact().map_err(|error| error.to_string())?;
    Ok(found)
}

#[allow(clippy::print_stdout)] // the count that the suite is about
fn truncate(store: StoreKind, seed: u64, cuts: usize) {
    let mut rng = rng(seed);
    let mut run = Run::new(store, seed);
    let mut states = vec![Points::new()];
    for _ in 0..60 {
        run.writer.act().unwrap();
        states.push(run.writer.points.clone());
    }
    let whole = run.image();
    let name = PathBuf::from(if store == StoreKind::Redb { "log/log.redb" } else { "log/db" });
    let used = whole[&name].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (mut refused, mut lost, mut opened) = (0, 0, 0);
    for cut in 0..cuts {
        let len = whole[&name].len();
        let end = match cut {
            0 => 0,
            1 => 1,
            _ if rng.random_bool(0.7) => rng.random_range(0..used),
            _ => rng.random_range(0..len),
        };
        let mut image = whole.clone();
        image.get_mut(&name).unwrap().truncate(end);
        let dir = tempfile::tempdir().unwrap();
        write(&image, dir.path());
        match Database::open_with(dir.path(), still(store)) {
            Err(Error::LostStore { .. }) => lost += 1,
            Err(_) => refused += 1,
            Ok(db) => {
                let collection = db.collection("c").unwrap_or_else(|_| {
                    panic!("{store:?} seed {seed} cut at {end} of {used}: silently empty")
                });
                let found = everything(&collection).unwrap();
                assert!(states.contains(&found), "{store:?} seed {seed} cut at {end} of {used}");
                opened += 1;
            }
        }
    }
    println!("{store:?} seed {seed}: {refused} refused, {lost} told as lost, {opened} opened with a prefix");
}
