//! A file of vectors that grows: what is whole of it is noted beside it, so that
//! a run that was cut can go on.
//!
//! `NAME.partial` becomes `NAME` at the end. `NAME.partial.json` says how many
//! texts are in it, how long it was then, what made it, and the SHA-256 of those
//! texts: who goes on reads them again and goes on only if they are the same. What
//! was written behind the note is written again.
//!
//! A Parquet file cannot grow, so for one the vectors alone are kept there; at the
//! end the source is read again, and both become `NAME`.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Error, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_embed::Cancel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::columns::Columns;
use super::npy;
use super::parquet::joined::{self, Vectors};
use super::rows::{Rows, Shape};
use super::source::{Part, Record, Source, Texts};
use crate::args::LinesArg;
use crate::failure::{Failure, Outcome};
use crate::whole;

/// How often a note is written.
const EVERY: Duration = Duration::from_secs(1);

/// What vectors depend on besides the texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) model: String,
    /// SHA-256 of the model's weights, where they are here.
    pub(super) weights: Option<String>,
    pub(super) dim: usize,
    pub(super) kind: String,
    pub(super) format: String,
    pub(super) field: String,
}

/// How far a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) made: Made,
    pub(super) texts: usize,
    pub(super) tokens: usize,
    /// The length of the file.
    bytes: u64,
    /// SHA-256 of the texts.
    sha256: String,
}

pub(super) struct Partial {
    file: PathBuf,
    shape: Shape,
    rows: Rows<BufWriter<File>>,
    note: Note,
    hash: Sha256,
    /// What the texts came with, for a table.
    columns: Columns,
    noted: Instant,
}

impl Partial {
    /// Begins a file, or goes on with it.
    ///
    /// # Errors
    /// [`Failure::Partial`] where there is one and `resume` is not asked for, or
    /// where it was made in another way.
    pub(super) fn open(file: &Path, shape: Shape, made: Made, resume: bool) -> Outcome<Partial> {
        let failed = |error| whole::failed(file, error);
        let path = whole::partial_of(file);
        let refuse = |reason: String| Failure::Partial { path: path.clone(), reason };
        let before = read_note(&note_of(file)).filter(|_| path.is_file());
        if before.is_some() && !resume {
            return Err(
                refuse("a run that was cut left it: go on with --resume, or delete it".to_owned()).into()
            );
        }
        let out = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if out.try_lock().is_err() {
            return Err(refuse("another run is writing it".to_owned()).into());
        }
        let note = match before {
            Some(note) if note.made != made => {
                let was = &note.made;
                return Err(refuse(format!(
                    "it was made of the field {} of {} by {} as {}, {} dimensions, and is to be of {} of {} by {} \
                     as {}, {}: delete it, or go on as before",
                    was.field, was.format, was.model, was.kind, was.dim, made.field, made.format, made.model,
                    made.kind, made.dim
                ))
                .into());
            }
            Some(note) if out.metadata().map_err(failed)?.len() < note.bytes => {
                return Err(refuse("it is shorter than it was: delete it".to_owned()).into());
            }
            Some(note) => note,
            None => {
                let bytes = if shape == Shape::Npy { npy::HEAD as u64 } else { 0 };
                Note { made, texts: 0, tokens: 0, bytes, sha256: hex(&Sha256::new()) }
            }
        };
        let mut out = BufWriter::with_capacity(1 << 20, out);
        if shape == Shape::Npy && note.texts == 0 {
            out.write_all(&npy::head(0, note.made.dim)).and_then(|()| out.flush()).map_err(failed)?;
        }
        out.get_ref().set_len(note.bytes).map_err(failed)?;
        out.seek(SeekFrom::Start(note.bytes)).map_err(failed)?;
        let rows = Rows::new(out, shape, note.texts);
        let (file, hash, noted) = (file.to_owned(), Sha256::new(), Instant::now());
        Ok(Partial { file, shape, rows, note, hash, columns: Columns::default(), noted })
    }

    /// Reads what is embedded already, and how many texts that are.
    ///
    /// # Errors
    /// [`Failure::Partial`] if these are other texts by now.
    pub(super) fn skip(&mut self, texts: &mut dyn Texts) -> Outcome<usize> {
        let mut read = 0;
        while read < self.note.texts
            && let Some(record) = texts.next()?
        {
            self.see(&record, read);
            read += 1;
        }
        if read < self.note.texts || hex(&self.hash) != self.note.sha256 {
            return Err(self.changed().into());
        }
        Ok(read)
    }

    /// Takes a text up, before its vector is there.
    fn see(&mut self, record: &Record, number: usize) {
        feed(&mut self.hash, record);
        if self.shape == Shape::Parquet {
            self.columns.see(record, number);
        }
    }

    pub(super) fn write(&mut self, records: Vec<Record>, vectors: &[Vec<f32>], tokens: usize) -> Outcome {
        for (number, record) in (self.note.texts..).zip(&records) {
            self.see(record, number);
        }
        self.note.texts += records.len();
        self.note.tokens += tokens;
        if let Some(other) = vectors.iter().find(|vector| vector.len() != self.note.made.dim) {
            let (got, want) = (other.len(), self.note.made.dim);
            let reason = format!("the model gave a vector of {got} dimensions after others of {want}");
            return Err(Failure::Partial { path: self.file.clone(), reason }.into());
        }
        self.rows.write(records, vectors).map_err(|error| whole::failed(&self.file, error))?;
        if self.noted.elapsed() >= EVERY { self.take_note() } else { Ok(()) }
    }

    /// Notes how far the file is, once that is on the disk.
    fn take_note(&mut self) -> Outcome {
        let failed = |error| whole::failed(&self.file, error);
        let out = &mut self.rows.out;
        out.flush().and_then(|()| out.get_ref().sync_data()).map_err(failed)?;
        self.note.bytes = out.stream_position().map_err(failed)?;
        self.note.sha256 = hex(&self.hash);
        let note = serde_json::to_vec(&self.note).expect("a note has string keys");
        whole::write(&note_of(&self.file), |mut out| Ok(out.write_all(&note)?))?;
        self.noted = Instant::now();
        Ok(())
    }

    /// Leaves the file for a later run to go on with, and tells why this one
    /// ends. A file with nothing in it is removed.
    pub(super) fn leave(mut self, why: Box<dyn std::error::Error>) -> Box<dyn std::error::Error> {
        if self.note.texts == 0 {
            let _ = fs::remove_file(whole::partial_of(&self.file));
            let _ = fs::remove_file(note_of(&self.file));
            return why;
        }
        // Where this fails too, the note before holds.
        let _ = self.take_note();
        why
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self, source: &Source, cancel: &Cancel) -> Outcome<Note> {
        if self.shape == Shape::Parquet {
            self.take_note()?;
            self.join(source, cancel)?;
        } else {
            self.close()?;
        }
        let _ = fs::remove_file(note_of(&self.file));
        Ok(self.note)
    }

    fn close(&mut self) -> Outcome {
        let failed = |error| whole::failed(&self.file, error);
        let out = &mut self.rows.out;
        out.flush().map_err(failed)?;
        if self.shape == Shape::Npy {
            let head = npy::head(self.note.texts, self.note.made.dim);
            out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&head)).map_err(failed)?;
            out.flush().map_err(failed)?;
        }
        out.get_ref().sync_all().map_err(failed)?;
        Ok(fs::rename(whole::partial_of(&self.file), &self.file).map_err(failed)?)
    }

    /// Writes a table of what the texts came with and their vectors.
    fn join(&self, source: &Source, cancel: &Cancel) -> Outcome {
        let failed = |error| whole::failed(&self.file, error);
        let spool = whole::partial_of(&self.file);
        let vectors = BufReader::with_capacity(1 << 20, File::open(&spool).map_err(failed)?);
        let mut vectors = Vectors { from: vectors, dim: self.note.made.dim };
        let mut new = self.file.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let out = File::create(&new).map_err(failed)?;
        let written = self.write_table(source, &mut vectors, &out, cancel).and_then(|()| {
            out.sync_all().map_err(failed)?;
            fs::rename(&new, &self.file).map_err(failed)?;
            Ok(())
        });
        let _ = fs::remove_file(if written.is_ok() { spool } else { new });
        written
    }

    fn write_table(
        &self,
        source: &Source,
        vectors: &mut Vectors<BufReader<File>>,
        out: &File,
        cancel: &Cancel,
    ) -> Outcome {
        let (mut hash, mut read, mut bad) = (Sha256::new(), 0, None);
        let written = if source.format == LinesArg::Parquet {
            read = joined::rows_of(&source.path)?;
            hash = self.hash.clone();
            if read == self.note.texts {
                joined::with_columns_of(&source.path, vectors, out, cancel)
            } else {
                Ok(())
            }
        } else {
            let columns = self.columns.all();
            let columns = columns.map_err(|reason| Failure::Partial { path: self.file.clone(), reason })?;
            let (mut texts, bar) = source.open(Part::Whole, "writing")?;
            let next = || match texts.next() {
                Ok(Some(record)) if read < self.note.texts => {
                    feed(&mut hash, &record);
                    read += 1;
                    let bytes = record.text().len();
                    Ok(Some((record.into_object(read - 1), bytes)))
                }
                Ok(more) => {
                    read += usize::from(more.is_some());
                    Ok(None)
                }
                Err(error) => {
                    let told = error.to_string();
                    bad = Some(error);
                    Err(told)
                }
            };
            let written = joined::with_columns(&columns, next, vectors, out, cancel);
            bar.finish_and_clear();
            written
        };
        if let Some(bad) = bad {
            return Err(bad.into());
        }
        if cancel.is_cancelled() {
            return Err(Failure::EmbedStopped.into());
        }
        written.map_err(|reason| whole::failed(&self.file, Error::other(reason)))?;
        if read != self.note.texts || hex(&hash) != self.note.sha256 {
            return Err(self.changed().into());
        }
        Ok(())
    }

    fn changed(&self) -> Failure {
        let reason = "the texts that it was made of have changed: delete it".to_owned();
        Failure::Partial { path: whole::partial_of(&self.file), reason }
    }
}

fn feed(hash: &mut Sha256, record: &Record) {
    let text = record.text();
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn hex(hash: &Sha256) -> String {
    hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn note_of(file: &Path) -> PathBuf {
    let mut name = whole::partial_of(file).into_os_string();
    name.push(".json");
    name.into()
}

fn read_note(path: &Path) -> Option<Note> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
