//! Draws a plot as SVG: axes with round numbers, lines, and the value of each point under the pointer. Called by `html`.

use std::fmt::Write as _;

use super::words::{escaped, short};
use crate::cli::bench::plot::{Axis, Plot};

/// Colours there are in the style: `c0` and so on.
pub(super) const COLOURS: usize = 6;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 26.0;
/// Lines of the grid, about.
const TICKS: f64 = 5.0;
/// A line of more points than that gets no words under the pointer.
const POINTED_AT: usize = 300;

/// How far both axes go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    x: (f64, f64),
    y: (f64, f64),
}

impl Range {
    /// So that all of these plots fit.
    pub(super) fn of(plots: &[&Plot]) -> Self {
        let points = || plots.iter().flat_map(|plot| &plot.lines).flat_map(|line| line.points.iter().copied());
        let first = plots.first();
        let log = |axis: fn(&Plot) -> &Axis| first.is_some_and(|plot| axis(plot).log);
        Self {
            x: if log(|plot| &plot.x) { decades(points().map(|(x, _)| x)) } else { spread(points().map(|(x, _)| x)) },
            y: if log(|plot| &plot.y) {
                decades(points().map(|(_, y)| y))
            } else {
                from_zero(points().map(|(_, y)| y))
            },
        }
    }
}

fn most(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, f64::max)
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let least = values.clone().fold(f64::INFINITY, f64::min).min(0.0);
    (least, most(values).max(least + 1.0))
}

/// From 0 to a round number.
fn from_zero(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let most = most(values).max(1e-3);
    let step = step(most);
    (0.0, (most / step * 1.02).ceil() * step)
}

/// From one of 1, 2, 5, 10 … to another.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    if !least.is_finite() {
        return (1.0, 10.0);
    }
    let (low, high) =
        (log_ticks(least / 10.0, least * 1.001), log_ticks(most(values.clone()) * 0.999, most(values) * 10.0));
    let low = low.last().copied().unwrap_or(least);
    (low, high.first().copied().unwrap_or(low * 10.0).max(low * 10.0))
}

/// The distance of ticks up to `most`: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let rough = most / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= rough).unwrap_or(10.0);
    times * power
}

fn log_ticks(from: f64, to: f64) -> Vec<f64> {
    let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let all = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(power)));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

fn ticks((from, to): (f64, f64), log: bool) -> Vec<f64> {
    if log {
        let all = log_ticks(from * 0.999, to * 1.001);
        // Over many decades only their beginnings.
        let whole = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        return if all.len() > 10 { all.into_iter().filter(whole).collect() } else { all };
    }
    // A fifth more than the axis was made for: it was made longer to end at a round number.
    let step = step((to - from) / 1.25);
    let first = (from / step).ceil() as i64;
    (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= to * 1.000_001).collect()
}

/// Where a value lies between the ends, from 0 to 1.
fn place(value: f64, (from, to): (f64, f64), log: bool) -> f64 {
    let place = if log { (value.max(from) / from).ln() / (to / from).ln() } else { (value - from) / (to - from) };
    place.clamp(0.0, 1.0)
}

/// The plot over these ranges.
pub(super) fn draw(plot: &Plot, range: &Range) -> String {
    let x = |value: f64| LEFT + place(value, range.x, plot.x.log) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - place(value, range.y, plot.y.log) * (HEIGHT - TOP - BOTTOM);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escaped(&plot.title));
    // Writing to a String cannot fail.
    for tick in ticks(range.y, plot.y.log) {
        let (at, end) = (y(tick), WIDTH - RIGHT);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{end}\"/>");
        let _ = writeln!(svg, "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, at + 4.0, short(tick));
    }
    let across = ticks(range.x, plot.x.log);
    for (n, tick) in across.iter().enumerate() {
        let (at, foot) = (x(*tick), HEIGHT - BOTTOM);
        let unit = if n + 1 == across.len() { format!(" {}", escaped(&plot.x.unit)) } else { String::new() };
        let _ = write!(svg, "<path class=\"grid\" d=\"M{at:.1} {foot}v4\"/>");
        let _ = writeln!(svg, "<text class=\"x\" x=\"{at:.1}\" y=\"{}\">{}{unit}</text>", HEIGHT - 8.0, short(*tick));
    }
    let _ = writeln!(svg, "<text x=\"4\" y=\"13\">{}</text>", escaped(&plot.y.unit));
    for (at, line) in plot.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
        let mut path = String::new();
        for (n, (px, py)) in line.points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if n == 0 { 'M' } else { 'L' }, x(*px), y(*py));
        }
        let (first, last) = (line.points[0].0, line.points[line.points.len() - 1].0);
        let foot = HEIGHT - BOTTOM;
        let class = at % COLOURS;
        if at == 0 {
            let _ = writeln!(
                svg,
                "<path class=\"area c{class}\" d=\"{path}L{:.1} {foot}L{:.1} {foot}Z\"/>",
                x(last),
                x(first)
            );
        }
        let _ = writeln!(svg, "<path class=\"line c{class}\" d=\"{path}\"/>");
        if line.points.len() <= POINTED_AT {
            for (px, py) in &line.points {
                let words = format!("{} {}: {} {}", short(*px), plot.x.unit, short(*py), plot.y.unit);
                let _ = writeln!(
                    svg,
                    "<circle class=\"c{class} dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>{} · {}</title></circle>",
                    x(*px),
                    y(*py),
                    escaped(&line.name),
                    escaped(&words)
                );
            }
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::plot::Line;

    fn plot(y: Axis, points: Vec<(f64, f64)>) -> Plot {
        Plot::over_time("p", y, vec![Line { name: "l".into(), points }])
    }

    #[test]
    fn axes_end_at_round_numbers_and_hold_all_points() {
        let range = Range::of(&[&plot(Axis::linear("a"), vec![(0.5, 3.0), (9.5, 47_300.0)])]);
        assert_eq!((range.x, range.y), ((0.0, 9.5), (0.0, 50_000.0)));
        assert_eq!(ticks(range.y, false), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        let range = Range::of(&[&plot(Axis::log("ms"), vec![(1.0, 0.3), (2.0, 17.0), (3.0, 0.0)])]);
        assert!((range.y.0 - 0.2).abs() < 1e-9 && (range.y.1 - 20.0).abs() < 1e-9, "{range:?}");
        assert_eq!(ticks(range.y, true).len(), 7);
        assert_eq!(ticks((0.001, 100.0), true).len(), 6, "of many decades only the beginnings");
    }

    /// Whatever was measured, what is drawn has coordinates.
    #[test]
    fn odd_points_are_drawn_within_the_plot() {
        for y in [Axis::linear("a"), Axis::log("a")] {
            for points in [vec![(0.0, 0.0)], vec![(1.0, 5.0), (1.0, 5.0)], vec![(0.0, 1e-9), (1e9, 1e12)]] {
                let plot = plot(y.clone(), points);
                let svg = draw(&plot, &Range::of(&[&plot]));
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
