//! The figures of the simulated fleets, and of the ways between containers, as a picture: one panel per figure, one bar per
//! fleet or way.

use std::path::Path;

use anyhow::anyhow;
use plotters::{coord::Shift, prelude::*};

use crate::measure::Row;

/// What is shown, and the goal for a fleet of 1000 engines with 50 containers each.
const PANELS: [(&str, Option<f64>); 16] = [
    ("all healthy after", Some(1.5)),
    ("memory at rest", Some(150.0)),
    ("CPU at rest, of one core", Some(3.0)),
    ("info, p50", Some(2.0)),
    ("ps, p50", Some(40.0)),
    ("ps, 8 clients, p50", Some(150.0)),
    ("ps limit=10, p50", Some(1.0)),
    ("inspect by name, p99", Some(5.0)),
    ("creates per second, 1 clients", Some(500.0)),
    ("creates per second, 32 clients", Some(2000.0)),
    ("creates per second, 100 clients", None),
    ("event to a subscriber while 32 clients create, p99", Some(20.0)),
    ("throughput, 1 stream", None),
    ("throughput, 4 streams", None),
    ("round trips", None),
    ("per processor, 1 stream", None),
];

/// Panels in a row.
const ACROSS: usize = 3;

/// A panel's width and height.
const PANEL: (u32, u32) = (400, 220);

const BAR: RGBColor = RGBColor(0x2f, 0x6f, 0xb5);
const GOAL: RGBColor = RGBColor(0xc0, 0x50, 0x2f);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

/// Draws it as SVG.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn draw(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    let of = |what| rows.iter().filter_map(|row| row.of_fleet(what)).collect::<Vec<_>>();
    let panels: Vec<_> = PANELS.iter().map(|(what, goal)| (*what, *goal, of(*what))).collect();
    let panels: Vec<_> = panels.into_iter().filter(|(_, _, bars)| !bars.is_empty()).collect();
    let down = panels.len().div_ceil(ACROSS);
    let size = (PANEL.0 * ACROSS as u32, PANEL.1 * down as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    let failed = |error| anyhow!("{}: {error}", path.display());
    root.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
    for (area, (what, goal, bars)) in root.split_evenly((down, ACROSS)).iter().zip(&panels) {
        panel(area, what, *goal, bars).map_err(|error| failed(error.to_string()))?;
    }
    root.present().map_err(|error| failed(error.to_string()))
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    what: &str,
    goal: Option<f64>,
    bars: &[(&str, f64, &str)],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let unit = bars.first().map_or("", |(_, _, unit)| unit);
    let text = |size: i32, color: RGBColor| ("sans-serif", size).into_font().color(&color);
    area.draw(&Text::new(format!("{what} ({unit})"), (14, 14), text(15, INK)))?;
    // A goal far off would press the bars flat: it is drawn where it fits.
    let largest = bars.iter().map(|(_, figure, _)| *figure).fold(f64::MIN_POSITIVE, f64::max);
    let goal = goal.filter(|goal| *goal < largest * 4.0);
    let top = largest.max(goal.unwrap_or(0.0));
    let (left, wide) = (110, 210.0);
    for (at, (fleet, figure, _)) in (0..).zip(bars) {
        let y = 46 + at * 36;
        let length = ((figure / top) * wide).max(1.0) as i32;
        area.draw(&Text::new((*fleet).to_owned(), (14, y + 6), text(13, INK)))?;
        area.draw(&Rectangle::new([(left, y), (left + length, y + 22)], BAR.filled()))?;
        let digits = if *figure < 10.0 { 2 } else { 0 };
        area.draw(&Text::new(format!("{figure:.digits$}"), (left + length + 6, y + 6), text(13, INK)))?;
    }
    if let Some(goal) = goal {
        let x = left + ((goal / top) * wide) as i32;
        area.draw(&PathElement::new([(x, 40), (x, 188)], GOAL.stroke_width(2)))?;
        area.draw(&Text::new(format!("goal for 1000×50: {goal}"), (left, 194), text(12, GOAL)))?;
    }
    Ok(())
}
