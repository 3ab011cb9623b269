//! Instances over time, as an SVG.

use std::fmt::Write as _;

use crate::arrivals::{Micros, SECOND};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 3] = ["#0b6e99", "#d9730d", "#8a8a8a"];

/// One line of the plot: its name, and from when there were how many.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: &'a [(Micros, u32)],
}

/// Draws lines that have steps. `title` and names are written as they are.
pub(crate) fn draw(title: &str, end: Micros, lines: &[Line<'_>]) -> String {
    let values = lines.iter().flat_map(|line| line.points);
    let top = values.map(|(_, value)| *value).max().unwrap_or(0);
    let top = top.div_ceil(5).max(1) * 5;
    let x = |at: Micros| MARGIN + (WIDTH - 2.0 * MARGIN) * at as f64 / end as f64;
    let y =
        |value: u32| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * f64::from(value) / f64::from(top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"14\">{title}</text>\n"
    );
    for value in (0..=top).step_by((top / 5) as usize) {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            at + 4.0
        );
    }
    for minute in 0..=end / (60 * SECOND) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minute} min</text>",
            x(minute * 60 * SECOND),
            HEIGHT - MARGIN + 18.0
        );
    }
    for (index, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let mut path = String::new();
        for (at, value) in line.points {
            let _ = match path.is_empty() {
                true => write!(path, "M{:.1} {:.1}", x(*at), y(*value)),
                false => write!(path, "H{:.1}V{:.1}", x(*at), y(*value)),
            };
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}H{:.1}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
            x(end),
            WIDTH - MARGIN,
            24.0 + 15.0 * index as f64,
            line.name
        );
    }
    svg + "</svg>\n"
}
