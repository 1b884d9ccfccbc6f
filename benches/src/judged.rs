//! Judged retrieval sets whose documents and queries go by their place in the
//! files, and the measures taken on them. Reading and measuring are those of
//! `cairn_rag::eval`.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use cairn_rag::eval::{JudgedSet as Judged, Measures, Text, read_lines};

/// A judged set.
#[derive(Debug)]
pub struct JudgedSet {
    /// Title, space, text of each document.
    pub documents: Vec<String>,
    /// The queries that have a judgement.
    pub queries: Vec<String>,
    /// The relevant documents of each query.
    pub relevant: Vec<HashMap<usize, u32>>,
}

impl JudgedSet {
    /// Reads a set.
    ///
    /// # Errors
    /// If a file cannot be read or holds something else.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let corpus: Vec<Text> = read_lines(&folder.join("corpus.jsonl")).map_err(io::Error::other)?;
        let judged = Judged::read(&folder.join("queries.jsonl"), &folder.join("qrels.tsv"));
        let judged = judged.map_err(io::Error::other)?;
        let place: HashMap<&str, usize> =
            corpus.iter().zip(0..).map(|(one, at)| (one.id.as_str(), at)).collect();
        let of = |id: &String| {
            let grades = judged.relevant[id].iter();
            grades.filter_map(|(document, grade)| Some((*place.get(document.as_str())?, *grade))).collect()
        };
        Ok(Self {
            documents: corpus.iter().map(|one| format!("{} {}", one.title, one.text)).collect(),
            relevant: judged.queries.iter().map(|query| of(&query.id)).collect(),
            queries: judged.queries.into_iter().map(|query| query.text).collect(),
        })
    }

    /// Measures the ranked documents found for each query. Only documents that
    /// `counts` accepts can be relevant; queries without any are left out.
    pub fn measure(&self, found: &[Vec<usize>], counts: impl Fn(usize) -> bool) -> Measures {
        let measured = self.relevant.iter().zip(found).filter_map(|(relevant, ranked)| {
            let relevant: HashMap<usize, u32> =
                relevant.iter().filter(|(at, _)| counts(**at)).map(|(at, grade)| (*at, *grade)).collect();
            (!relevant.is_empty()).then(|| Measures::of(ranked, &relevant))
        });
        Measures::mean(&measured.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_ranking_measures_one_and_an_empty_one_nothing() {
        let relevant = vec![HashMap::from([(3, 1), (5, 1)]), HashMap::from([(1, 1)])];
        let set = JudgedSet { documents: Vec::new(), queries: Vec::new(), relevant };
        let all = set.measure(&[vec![5, 3, 0], vec![1]], |_| true);
        assert!((all.ndcg_10 - 1.0).abs() < 1e-9 && (all.recall_100 - 1.0).abs() < 1e-9);
        let half = set.measure(&[vec![], vec![0, 1]], |_| true);
        assert!((half.ndcg_10 - 0.5 / 3f64.log2()).abs() < 1e-9 && (half.recall_100 - 0.5).abs() < 1e-9);
        // Of the first query only document 3 counts, of the second none does.
        let filtered = set.measure(&[vec![3], vec![]], |document| document == 3);
        assert!((filtered.ndcg_10 - 1.0).abs() < 1e-9);
    }
}
