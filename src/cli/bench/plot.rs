//! What a report shows at a glance: figures, and plots of lines. Part of the JSON of a run, so that a later one can be put beside
//! it. Made by the reports; drawn by `html`.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Points per power of ten in the distribution of a latency.
const BINS: f64 = 10.0;

/// What every report has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outline {
    pub(super) scenario: String,
    /// The version that measured.
    pub(super) natter: String,
    /// When it began, in milliseconds since 1970.
    pub(super) began: u64,
    /// What was done, in one line.
    pub(super) headline: String,
    /// Whether every promise was kept.
    pub(super) good: bool,
    /// Whether, and what was not kept, in one line.
    pub(super) verdict: String,
    pub(super) figures: Vec<Figure>,
    pub(super) plots: Vec<Plot>,
}

/// What a report keeps for its outline and says nothing of in its own fields.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// As of [`Outline::began`].
    pub(super) began: u64,
    pub(super) headline: String,
    pub(super) plots: Vec<Plot>,
}

impl Shown {
    /// The outline of a run of this version.
    pub(super) fn outline(&self, scenario: &str, (good, verdict): (bool, String), figures: Vec<Figure>) -> Outline {
        Outline {
            scenario: scenario.to_owned(),
            natter: env!("CARGO_PKG_VERSION").to_owned(),
            began: self.began,
            headline: self.headline.clone(),
            good,
            verdict,
            figures,
            plots: self.plots.clone(),
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: String,
    pub(super) better: Better,
    /// Stands at the top.
    pub(super) main: bool,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    More,
    Less,
    Neither,
}

impl Figure {
    pub(super) fn more(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.into(), better: Better::More, main: false }
    }

    pub(super) fn less(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { better: Better::Less, ..Self::more(name, value, unit) }
    }

    pub(super) fn plain(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { better: Better::Neither, ..Self::more(name, value, unit) }
    }

    /// To the top with it.
    pub(super) fn main(self) -> Self {
        Self { main: true, ..self }
    }
}

/// Lines over two axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Axis {
    pub(super) unit: String,
    pub(super) log: bool,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Axis {
    pub(super) fn linear(unit: &str) -> Self {
        Self { unit: unit.into(), log: false }
    }

    pub(super) fn log(unit: &str) -> Self {
        Self { unit: unit.into(), log: true }
    }
}

impl Plot {
    /// Something over the seconds of a run.
    pub(super) fn over_time(title: &str, y: Axis, lines: Vec<Line>) -> Self {
        Self { title: title.into(), x: Axis::linear("s"), y, lines }
    }

    /// Which share of what was recorded, in microseconds, took how long.
    pub(super) fn distribution(title: &str, of: &[(&str, &Histogram<u64>)]) -> Self {
        let lines = of.iter().filter(|(_, histogram)| !histogram.is_empty());
        let lines = lines.map(|(name, histogram)| Line { name: (*name).into(), points: shares(histogram) }).collect();
        Self { title: title.into(), x: Axis::log("ms"), y: Axis::linear("% of all"), lines }
    }
}

/// The share in each bin, in percent, at the middle of the bin; one empty bin on either side.
fn shares(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let bin = |micros: u64| ((micros.max(1) as f64).log10() * BINS).floor() as usize;
    let (first, last) = (bin(histogram.min()), bin(histogram.max()));
    let mut counts = vec![0u64; last + 1 - first];
    for step in histogram.iter_recorded() {
        // The value stands for a range whose end may lie in the next bin.
        if let Some(count) = counts.get_mut(bin(step.value_iterated_to()).clamp(first, last) - first) {
            *count += step.count_at_value();
        }
    }
    let middle = |bin: f64| 10f64.powf((bin + 0.5) / BINS) / 1000.0;
    let share = |count: u64| count as f64 * 100.0 / histogram.len() as f64;
    let inner = counts.iter().enumerate().map(|(at, count)| (middle((first + at) as f64), share(*count)));
    let edge = |bin: f64| std::iter::once((middle(bin), 0.0));
    edge(first as f64 - 1.0).chain(inner).chain(edge(last as f64 + 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::stats::histogram;

    #[test]
    fn a_distribution_is_whole_and_in_order() {
        let mut took = histogram().unwrap();
        for micros in [1, 90, 100, 110, 5_000, 600_000_000] {
            took.record_n(micros, 10).unwrap();
        }
        let empty = histogram().unwrap();
        let plot = Plot::distribution("took", &[("it", &took), ("nothing", &empty)]);
        let [line] = &plot.lines[..] else { panic!("{plot:?}") };
        assert!((line.points.iter().map(|(_, share)| share).sum::<f64>() - 100.0).abs() < 1e-6);
        assert!(line.points.is_sorted_by(|one, other| one.0 < other.0));
        assert!(line.points.iter().all(|(x, y)| x.is_finite() && y.is_finite() && *x > 0.0));
    }
}
