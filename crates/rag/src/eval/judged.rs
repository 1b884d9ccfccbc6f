//! Judged sets, in the BEIR layout.
//!
//! `queries.jsonl` has {_id, text} a line and, for answers, a list `answers`;
//! the qrels are tab-separated with a header: query-id, corpus-id, score. The
//! TREC form with four columns is read as well. `corpus.jsonl` has {_id, title,
//! text} a line.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A document of a corpus.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Text {
    /// Its id.
    #[serde(rename = "_id", alias = "id")]
    pub id: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Its text.
    pub text: String,
}

/// A question that is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedQuery {
    /// Its id.
    #[serde(rename = "_id", alias = "id")]
    pub id: String,
    /// The question.
    pub text: String,
    /// Strings that answer it, if they are known.
    #[serde(default)]
    pub answers: Vec<String>,
}

/// Questions and which documents are relevant to each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JudgedSet {
    /// The questions that have a relevant document.
    pub queries: Vec<JudgedQuery>,
    /// Grades above zero by question, then by document.
    pub relevant: HashMap<String, HashMap<String, u32>>,
}

impl JudgedSet {
    /// Reads questions and judgements.
    ///
    /// # Errors
    /// [`Error::Judged`] for a file that cannot be read or is something else,
    /// with its line, and when no question has a judgement.
    pub fn read(queries: &Path, qrels: &Path) -> Result<Self> {
        let judged = Self::new(read_lines(queries)?, read_qrels(qrels)?);
        if judged.queries.is_empty() {
            let what = format!(
                "no query of {} has a relevant document in {}, are their query ids the same?",
                queries.display(),
                qrels.display()
            );
            return Err(Error::Judged { what });
        }
        Ok(judged)
    }

    /// Those of the questions that have a relevant document.
    pub fn new(mut queries: Vec<JudgedQuery>, mut relevant: HashMap<String, HashMap<String, u32>>) -> Self {
        for grades in relevant.values_mut() {
            grades.retain(|_, grade| *grade > 0);
        }
        queries.retain(|query| relevant.get(&query.id).is_some_and(|grades| !grades.is_empty()));
        Self { queries, relevant }
    }
}

/// The lines of a JSONL file.
///
/// # Errors
/// [`Error::Judged`] when it cannot be read, naming the line.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| Error::Judged {
                what: format!("{}, line {number}: {error}", path.display()),
            })
        })
        .collect()
}

fn read_qrels(path: &Path) -> Result<HashMap<String, HashMap<String, u32>>> {
    let mut relevant: HashMap<String, HashMap<String, u32>> = HashMap::new();
    for (number, line) in (1..).zip(read(path)?.lines()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (query, document, grade) = match fields[..] {
            [] => continue,
            [query, document, grade] => (query, document, grade),
            [query, _, document, grade] => (query, document, grade),
            _ => {
                let what = format!("{}, line {number}: has not three or four fields", path.display());
                return Err(Error::Judged { what });
            }
        };
        let Ok(grade) = grade.parse::<i64>() else {
            // The header.
            if number == 1 {
                continue;
            }
            let what = format!("{}, line {number}: the grade `{grade}` is no whole number", path.display());
            return Err(Error::Judged { what });
        };
        let grade = u32::try_from(grade.max(0)).unwrap_or(u32::MAX);
        relevant.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
    }
    Ok(relevant)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|error| Error::Judged { what: format!("{} cannot be read: {error}", path.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(queries: &str, qrels: &str) -> Result<JudgedSet> {
        let dir = tempfile::tempdir().unwrap();
        let [q, r] = ["queries.jsonl", "qrels.tsv"].map(|name| dir.path().join(name));
        fs::write(&q, queries).unwrap();
        fs::write(&r, qrels).unwrap();
        JudgedSet::read(&q, &r)
    }

    const QUERIES: &str = "{\"_id\": \"a\", \"text\": \"what?\"}\n\n{\"_id\": \"b\", \"text\": \"who?\"}\n";

    #[test]
    fn both_forms_of_judgements_are_read_and_grade_zero_is_not_relevant() {
        for qrels in ["query-id\tcorpus-id\tscore\na\td1\t2\na\td2\t0\nb\td1\t0\n", "a 0 d1 2\na 0 d2 0\n"] {
            let set = files(QUERIES, qrels).unwrap();
            assert_eq!(set.queries.len(), 1);
            assert_eq!(set.relevant["a"], HashMap::from([("d1".to_owned(), 2)]));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (queries, qrels, want) in [
            ("{\"_id\": 1}", "a d 1", "line 1"),
            (QUERIES, "a d 1\na d x", "line 2"),
            (QUERIES, "a d", "line 1"),
            (QUERIES, "z d 1", "query ids"),
        ] {
            let error = files(queries, qrels).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let nowhere = Path::new("/nowhere/queries.jsonl");
        assert!(JudgedSet::read(nowhere, nowhere).unwrap_err().to_string().contains("/nowhere"));
    }
}
