//! Recall against speed on one thread, drawn.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::full_palette::{
    AMBER_700, BLUE, BLUEGREY, BROWN, CYAN_700, DEEPORANGE, GREEN, INDIGO, LIME_800, PINK, PURPLE, TEAL,
};

use crate::Outcome;
use crate::measure::{Measured, Point};
use crate::sets::Set;

const LOWEST: f64 = 0.85;

const COLOURS: [RGBColor; 12] =
    [BLUE, GREEN, PURPLE, DEEPORANGE, TEAL, BROWN, PINK, INDIGO, AMBER_700, CYAN_700, LIME_800, BLUEGREY];

/// Of this project's own, drawn thicker.
const OURS: [RGBColor; 3] = [RED, RGBColor(120, 0, 0), RGBColor(255, 0, 200)];

pub(crate) fn draw(path: &Path, set: &Set, systems: &[Measured]) -> Outcome {
    let curve = |system: &Measured| {
        let points = system.curve(|way| way.threads == 1, Point::best).points;
        points.into_iter().filter(|point| point.0 >= LOWEST).collect::<Vec<_>>()
    };
    let curves: Vec<_> = systems.iter().map(|system| (system, curve(system))).collect();
    let speeds = || curves.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let (slowest, fastest) = (speeds().fold(f64::MAX, f64::min), speeds().fold(0.0, f64::max));
    if fastest == 0.0 {
        return Ok(());
    }
    let area = SVGBackend::new(path, (1000, 640)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{}, {} rows of {}, recall@{}", set.name, set.len, set.base.columns, crate::K);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(LOWEST..1.0, (slowest * 0.9..fastest * 1.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("recall")
        .y_desc("queries per second, 1 thread")
        .y_labels(20)
        .y_label_formatter(&|speed| format!("{speed:.0}"))
        .draw()?;
    for (at, (system, points)) in curves.iter().enumerate() {
        let colours: &[RGBColor] = if system.system.ours { &OURS } else { &COLOURS };
        let colour = colours[at % colours.len()];
        let style = colour.stroke_width(if system.system.ours { 3 } else { 1 });
        let mark = move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 16, y)], style);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(2))?
            .label(system.system.name)
            .legend(mark);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(area.present()?)
}
