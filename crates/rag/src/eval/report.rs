//! An evaluation as a page to read.

use plotters::prelude::*;

use super::bootstrap::Interval;
use super::run::{AnswersReport, Report, SystemReport};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;border-bottom:1px solid #ccc;\
text-align:right}th:first-child,td:first-child{text-align:left}small{color:#666}\
tr.in-force{font-weight:600}svg{max-width:100%;height:auto}";

/// A page in one file: tables, and plots as SVG.
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Evaluation of {name}</title>\
         <style>{STYLE}</style>\n<h1>Evaluation of {name}</h1>\n<p>{queries} queries over {passages} passages \
         at seq {seq}, embedded by {model}. The collection searches as <b>{configured}</b>. Intervals hold the \
         mean for 95 of 100 draws of as many queries.</p>\n",
        name = escaped(&report.collection),
        queries = report.queries,
        passages = report.passages,
        seq = report.seq,
        model = escaped(&report.model),
        configured = report.configured,
    );
    for warning in &report.warnings {
        page += &format!("<p>Note: {}</p>\n", escaped(warning));
    }
    page += &systems(report);
    for (title, of) in PLOTS {
        let bars: Vec<(&str, Interval)> =
            report.systems.iter().map(|system| (system.system.as_str(), of(system))).collect();
        page += &format!("<h2>{title}</h2>\n{}\n", plot(&bars).unwrap_or_default());
    }
    if let Some(found) = &report.answers {
        page += &answers(found);
    }
    page + "</html>\n"
}

type Of = fn(&SystemReport) -> Interval;

const PLOTS: [(&str, Of); 3] = [
    ("nDCG@10", |system| system.ndcg_10),
    ("Recall@100", |system| system.recall_100),
    ("MRR@10", |system| system.mrr_10),
];

fn systems(report: &Report) -> String {
    let mut table =
        "<table><tr><th>system<th>nDCG@10<th>recall@100<th>MRR@10<th>MAP<th>p50 ms<th>p95 ms\n".to_owned();
    for system in &report.systems {
        let class = if system.system == report.configured { " class=\"in-force\"" } else { "" };
        table += &format!("<tr{class}><td>{}", system.system);
        for interval in [system.ndcg_10, system.recall_100, system.mrr_10, system.map] {
            table += &format!("<td>{}", shown(interval));
        }
        table += &format!("<td>{:.1}<td>{:.1}\n", system.p50_ms, system.p95_ms);
    }
    table + "</table>\n"
}

fn answers(answers: &AnswersReport) -> String {
    let mut page = format!("<h2>Answers</h2>\n<p>{} questions with known answers", answers.questions);
    if answers.unanswerable > 0 {
        page += &format!(", {} without one here", answers.unanswerable);
    }
    page += ".</p>\n<table><tr><th>measure<th>value\n";
    let mut row = |name: &str, value: String| page += &format!("<tr><td>{name}<td>{value}\n");
    row("answers that hold a known one", shown(answers.contains));
    row("token F1", shown(answers.f1));
    row("answers that cite a relevant document", shown(answers.cites_relevant));
    row("quotes that stand verbatim", format!("{:.4} of {}", answers.verbatim, answers.citations));
    row("refused although there is an answer", shown(answers.refused));
    if answers.unanswerable > 0 {
        row("refused where there is none", shown(answers.unanswerable_refused));
    }
    row("p50 ms", format!("{:.1}", answers.p50_ms));
    row("p95 ms", format!("{:.1}", answers.p95_ms));
    page + "</table>\n"
}

fn shown(interval: Interval) -> String {
    format!("{:.4} <small>{:.3} to {:.3}</small>", interval.mean, interval.low, interval.high)
}

const WIDTH: u32 = 720;
const BAR: u32 = 44;

/// Horizontal bars from 0 to 1, each with its interval.
fn plot(bars: &[(&str, Interval)]) -> Option<String> {
    let mut svg = String::new();
    {
        let height = BAR * bars.len() as u32 + 50;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).ok()?;
        let last = bars.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..1.0, 0.0..last)
            .ok()?;
        let name = |at: &f64| {
            let place = last - at;
            let is_middle = (place.fract() - 0.5).abs() < 1e-6;
            bars.get(place as usize)
                .filter(|_| is_middle)
                .map_or(String::new(), |(name, _)| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(2 * bars.len() + 1)
            .y_label_formatter(&name)
            .draw()
            .ok()?;
        for (place, (_, interval)) in bars.iter().enumerate() {
            let middle = last - place as f64 - 0.5;
            let bar =
                Rectangle::new([(0.0, middle - 0.3), (interval.mean, middle + 0.3)], BLUE.mix(0.5).filled());
            let line =
                PathElement::new([(interval.low, middle), (interval.high, middle)], BLACK.stroke_width(2));
            chart.draw_series([bar]).ok()?;
            chart.draw_series([line]).ok()?;
        }
        area.present().ok()?;
    }
    Some(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RetrievalOptions;

    #[test]
    fn the_page_has_every_system_its_numbers_and_a_plot_of_each_measure() {
        let half = Interval { mean: 0.51234, low: 0.4, high: 0.6 };
        let system = |name: &str| SystemReport {
            system: name.to_owned(),
            ndcg_10: half,
            recall_100: half,
            mrr_10: half,
            map: half,
            p50_ms: 1.0,
            p95_ms: 2.0,
        };
        let report = Report {
            collection: "<docs>".to_owned(),
            seq: 7,
            passages: 10,
            queries: 3,
            model: "m".to_owned(),
            configured: "fused".to_owned(),
            retrieval: RetrievalOptions::default(),
            systems: vec![system("dense"), system("fused")],
            answers: None,
            warnings: vec!["a note".to_owned()],
        };
        let page = html(&report);
        for part in ["&lt;docs&gt;", "dense", "fused", "0.5123", "a note"] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 3);
    }
}
