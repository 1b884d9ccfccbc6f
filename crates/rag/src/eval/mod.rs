//! How good retrieval and answers are, measured on judged questions.
//!
//! [`JudgedSet`] reads the usual layout, [`Measures`] are those of `trec_eval`,
//! [`Engine::evaluate`](crate::Engine::evaluate) runs a collection's questions
//! through each way of searching and [`html`] shows what came of it.

mod bootstrap;
mod judged;
mod measures;
mod report;
mod run;

pub use bootstrap::Interval;
pub use judged::{JudgedQuery, JudgedSet, Text, read_lines};
pub use measures::{Measures, contains, token_f1};
pub use report::html;
/// The sentences of a plain text, as answers are made of.
pub fn split_sentences(text: &str) -> Vec<String> {
    let ranges = crate::sentences::sentences(text, crate::Format::Text);
    ranges.into_iter().map(|range| text[range].to_owned()).collect()
}

pub use run::{AnswersReport, EvalOptions, Report, SystemReport};
