//! `cairn eval`: how good a collection is, on judged questions.

use std::path::{Path, PathBuf};

use cairn_rag::eval::{EvalOptions, Interval, JudgedQuery, JudgedSet, Report, html, read_lines};
use clap::Args as ClapArgs;

use crate::args::RetrievalArgs;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::counting;
use crate::settings::Settings;
use crate::verbs::{load_model_of, open};

#[derive(Debug, ClapArgs)]
pub(crate) struct Eval {
    /// The collection
    pub(crate) collection: String,
    /// Questions: JSONL with {"_id", "text"} a line, and "answers" if they are known
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
    /// Judgements: query-id, corpus-id and grade, tab-separated, or the TREC form
    #[arg(long, value_name = "FILE")]
    pub(crate) qrels: PathBuf,
    /// Also ask the questions that have known answers
    #[arg(long)]
    pub(crate) answers: bool,
    /// Questions without an answer in the collection, as --queries; implies --answers
    #[arg(long, value_name = "FILE")]
    pub(crate) unanswerable: Option<PathBuf>,
    /// Only the collection's way of searching, not each way beside it
    #[arg(long)]
    pub(crate) only_configured: bool,
    /// Write a page with tables and plots
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Fail below a value: ndcg=0.4, sparse.recall=0.9, contains=0.7; can be repeated
    #[arg(long, value_name = "MEASURE=VALUE", value_parser = threshold)]
    pub(crate) min: Vec<(String, f64)>,
    #[command(flatten)]
    pub(crate) retrieval: RetrievalArgs,
}

fn threshold(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("write it as ndcg=0.4")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
    Ok((name.trim().to_owned(), value))
}

pub(crate) fn run(settings: &Settings, wanted: &Eval, as_json: bool) -> Outcome {
    let set = JudgedSet::read(&wanted.queries, &wanted.qrels)?;
    let unanswerable = match &wanted.unanswerable {
        Some(file) => read_lines::<JudgedQuery>(file)?.into_iter().map(|query| query.text).collect(),
        None => Vec::new(),
    };
    let options = EvalOptions {
        retrieval: wanted.retrieval.change()?,
        only_configured: wanted.only_configured,
        answers: wanted.answers || wanted.unanswerable.is_some(),
        unanswerable,
    };
    let engine = open(settings)?;
    load_model_of(&engine, &wanted.collection)?;
    let bar = counting("running queries", set.queries.len());
    let report = engine.evaluate(&wanted.collection, &set, &options, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(file) = &wanted.report {
        write(file, &html(&report))?;
    }
    if as_json {
        out::json(&report);
    } else {
        print(&report);
    }
    check(&report, &wanted.min)
}

fn write(file: &Path, page: &str) -> Outcome {
    std::fs::write(file, page).map_err(|source| Failure::Write { path: file.to_owned(), source })?;
    Ok(())
}

/// Fails when a measure is below what was asked for.
fn check(report: &Report, wanted: &[(String, f64)]) -> Outcome {
    let mut below = Vec::new();
    for (name, min) in wanted {
        let value = report.value(name).ok_or_else(|| Failure::Measure(name.clone()))?;
        if value < *min {
            below.push(format!("{name} is {value:.4}, wanted {min}"));
        }
    }
    if below.is_empty() { Ok(()) } else { Err(Failure::Below(below.join("; ")).into()) }
}

fn print(report: &Report) {
    out::line(format!(
        "{}: {} queries, {} passages, {}",
        report.collection, report.queries, report.passages, report.model
    ));
    out::line("");
    out::line(
        "  system       nDCG@10                 recall@100              MRR@10                  MAP       p50 ms  p95 ms",
    );
    for system in &report.systems {
        let mark = if system.system == report.configured { '*' } else { ' ' };
        out::line(format!(
            "{mark} {:<12} {}  {}  {}  {:.4}  {:>7.1} {:>7.1}",
            system.system,
            shown(system.ndcg_10),
            shown(system.recall_100),
            shown(system.mrr_10),
            system.map.mean,
            system.p50_ms,
            system.p95_ms
        ));
    }
    out::line("* is how the collection searches; intervals hold the mean for 95 of 100 draws of the queries");
    if let Some(answers) = &report.answers {
        out::line("");
        out::line(format!("  {} questions with known answers", answers.questions));
        out::line(format!("  answer holds a known one      {}", shown(answers.contains)));
        out::line(format!("  token F1                      {}", shown(answers.f1)));
        out::line(format!("  cites a relevant document     {}", shown(answers.cites_relevant)));
        out::line(format!(
            "  quotes that stand verbatim    {:.4} of {}",
            answers.verbatim, answers.citations
        ));
        out::line(format!("  refused, with an answer       {}", shown(answers.refused)));
        if answers.unanswerable > 0 {
            out::line(format!(
                "  refused, without one          {} of {}",
                shown(answers.unanswerable_refused),
                answers.unanswerable
            ));
        }
        out::line(format!("  p50 {:.1} ms, p95 {:.1} ms", answers.p50_ms, answers.p95_ms));
    }
    for warning in &report.warnings {
        out::note(format!("warning: {warning}"));
    }
}

fn shown(interval: Interval) -> String {
    format!("{:.4} ({:.3} to {:.3})", interval.mean, interval.low, interval.high)
}

#[cfg(test)]
mod tests {
    use super::threshold;

    #[test]
    fn a_threshold_is_a_name_and_a_number() {
        assert_eq!(threshold("sparse.ndcg=0.4"), Ok(("sparse.ndcg".to_owned(), 0.4)));
        assert!(threshold("ndcg").is_err() && threshold("ndcg=high").is_err());
    }
}
