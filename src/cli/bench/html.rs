//! The report as one page that loads nothing from elsewhere: figures, plots and, with an earlier run, both side by side on the same
//! axes. Called by the command.

mod draw;
mod words;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use self::{
    draw::{Range, draw},
    words::{escaped, short, when},
};
use super::{
    options::Common,
    plot::{Better, Figure, Outline, Plot},
};

const STYLE: &str = include_str!("html/style.css");
/// A ratio closer to 1 than this is no difference.
const SAME: f64 = 0.03;

/// A page that is to be written.
#[derive(Debug)]
pub(super) struct Page {
    file: PathBuf,
    beside: Option<(String, Outline)>,
}

impl Page {
    /// What the options ask for.
    ///
    /// # Errors
    /// When the page cannot be written, or the earlier run cannot be read.
    pub(super) fn new(common: &Common) -> anyhow::Result<Option<Self>> {
        let Some(file) = &common.html else {
            if common.beside.is_some() {
                bail!("--beside shows an earlier run on a page: give --html FILE as well");
            }
            return Ok(None);
        };
        let beside = common.beside.as_deref().map(earlier).transpose()?;
        // Without taking away what is there, should the run fail.
        let opened = fs::OpenOptions::new().create(true).append(true).open(file);
        opened.with_context(|| format!("--html: cannot write {}", file.display()))?;
        Ok(Some(Self { file: file.clone(), beside }))
    }

    pub(super) fn write(&self, run: &Outline) -> anyhow::Result<()> {
        let page = render(run, self.beside.as_ref().map(|(name, run)| (name.as_str(), run)));
        fs::write(&self.file, page).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn earlier(file: &Path) -> anyhow::Result<(String, Outline)> {
    let text = fs::read_to_string(file).with_context(|| format!("--beside: cannot read {}", file.display()))?;
    let run = serde_json::from_str(&text)
        .with_context(|| format!("--beside: {} is not what natter bench --json prints", file.display()))?;
    let name = file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into());
    Ok((name, run))
}

/// The whole page.
fn render(run: &Outline, beside: Option<(&str, &Outline)>) -> String {
    let other = beside.map(|(_, run)| run);
    let title = format!("natter bench {}", run.scenario);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title)
    );
    // Writing to a String cannot fail.
    let _ = write!(page, "<header>\n<h1>{}</h1>\n<div class=\"runs\">\n", escaped(&title));
    page += &about("This run", run, beside.is_some());
    if let Some((name, other)) = beside {
        page += &about(&format!("Beside: {name}"), other, true);
    }
    page += "</div>\n</header>\n";
    page += &tiles(run, other);
    page += &plots(run, beside);
    page += &all_figures(run, beside);
    page += "</main>\n</body>\n</html>\n";
    page
}

/// What was run, when, and whether it was good.
fn about(name: &str, run: &Outline, named: bool) -> String {
    let (class, words) = if run.good { ("good", "✓ promises kept") } else { ("bad", "✗ a promise was broken") };
    let name = if named { format!("<b>{}</b> ", escaped(name)) } else { String::new() };
    format!(
        "<section class=\"about\"><p>{name}{}</p>\n<p><span class=\"badge {class}\">{words}</span> \
         <span class=\"soft\">{}</span></p>\n<p class=\"soft\">{}, natter {}</p></section>\n",
        escaped(&run.headline),
        escaped(&run.verdict),
        when(run.began),
        escaped(&run.natter),
    )
}

/// The main figures, large.
fn tiles(run: &Outline, other: Option<&Outline>) -> String {
    let mut tiles = String::from("<section class=\"tiles\">\n");
    for figure in run.figures.iter().filter(|figure| figure.main) {
        let compared = match same(figure, other) {
            Some(before) => {
                format!("<p class=\"soft\">before {} {}</p>", value(before), ratio(figure, before))
            }
            None => String::new(),
        };
        let _ = writeln!(
            tiles,
            "<div class=\"tile\"><p class=\"soft\">{}</p><p class=\"large\">{}<small> {}</small></p>{compared}</div>",
            escaped(&figure.name),
            short(figure.value),
            escaped(&figure.unit)
        );
    }
    tiles + "</section>\n"
}

/// The figure of the same name in the other run.
fn same<'a>(figure: &Figure, other: Option<&'a Outline>) -> Option<&'a Figure> {
    other?.figures.iter().find(|before| before.name == figure.name && before.unit == figure.unit)
}

fn value(figure: &Figure) -> String {
    format!("{} {}", short(figure.value), escaped(&figure.unit)).trim_end().to_owned()
}

/// How many times the figure before, and whether that is better.
fn ratio(figure: &Figure, before: &Figure) -> String {
    if before.value == 0.0 {
        return String::new();
    }
    let ratio = figure.value / before.value;
    let grown = ratio > 1.0;
    let (class, mark) = match figure.better {
        _ if (ratio - 1.0).abs() < SAME => ("soft", "="),
        Better::Neither => ("soft", if grown { "↑" } else { "↓" }),
        Better::More if grown => ("better", "↑"),
        Better::Less if !grown => ("better", "↓"),
        Better::More => ("worse", "↓"),
        Better::Less => ("worse", "↑"),
    };
    format!("<span class=\"{class}\">{mark} {} ×</span>", short(ratio))
}

/// All plots; with another run, two of each, on the same axes.
fn plots(run: &Outline, beside: Option<(&str, &Outline)>) -> String {
    let mut all = String::from("<section class=\"plots\">\n");
    for plot in run.plots.iter().filter(|plot| has_points(plot)) {
        let Some((name, other)) = beside else {
            all += &card(&plot.title, Some((plot, &Range::of(&[plot]))));
            continue;
        };
        let before = other.plots.iter().find(|before| before.title == plot.title && has_points(before));
        let range = Range::of(&[Some(plot), before].into_iter().flatten().collect::<Vec<_>>());
        all += &card(&format!("{} · this run", plot.title), Some((plot, &range)));
        all += &card(&format!("{} · {name}", plot.title), before.map(|before| (before, &range)));
    }
    all + "</section>\n"
}

fn has_points(plot: &Plot) -> bool {
    plot.lines.iter().any(|line| !line.points.is_empty())
}

fn card(title: &str, plot: Option<(&Plot, &Range)>) -> String {
    let Some((plot, range)) = plot else {
        return format!(
            "<figure><figcaption>{}</figcaption><p class=\"soft\">not measured</p></figure>\n",
            escaped(title)
        );
    };
    let legend = plot.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty());
    let legend: String = legend
        .map(|(at, line)| format!("<span><i class=\"c{}\"></i>{}</span>", at % draw::COLOURS, escaped(&line.name)))
        .collect();
    format!(
        "<figure><figcaption>{}</figcaption>\n<p class=\"legend\">{legend}</p>\n{}</figure>\n",
        escaped(title),
        draw(plot, range)
    )
}

/// Every figure, and its ratio to the earlier one.
fn all_figures(run: &Outline, beside: Option<(&str, &Outline)>) -> String {
    let heads = beside.map_or(String::new(), |(name, _)| format!("<th>{}</th><th>ratio</th>", escaped(name)));
    let mut table = format!("<section><h2>All figures</h2>\n<table>\n<tr><th></th><th>this run</th>{heads}</tr>\n");
    for figure in &run.figures {
        let before = beside.map_or(String::new(), |(_, other)| match same(figure, Some(other)) {
            Some(before) => format!("<td>{}</td><td>{}</td>", value(before), ratio(figure, before)),
            None => "<td>–</td><td></td>".to_owned(),
        });
        let _ = writeln!(table, "<tr><td>{}</td><td>{}</td>{before}</tr>", escaped(&figure.name), value(figure));
    }
    table + "</table></section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::plot::{Axis, Line};

    fn run(rate: f64, name: &str) -> Outline {
        let line = Line { name: name.into(), points: vec![(0.5, rate), (1.0, rate * 1.1)] };
        Outline {
            scenario: "dm".into(),
            natter: "0.1.0".into(),
            began: 1_790_000_000_000,
            headline: format!("50 pairs of {name}"),
            good: true,
            verdict: "lost 0".into(),
            figures: vec![Figure::more("delivered", rate, "/s").main(), Figure::less("p99", 2.0, "ms")],
            plots: vec![Plot::over_time("Rate", Axis::linear("messages/s"), vec![line])],
        }
    }

    #[test]
    fn the_page_holds_the_figures_and_loads_nothing() {
        let page = render(&run(12_345.0, "natter"), None);
        for part in ["12.3k", "50 pairs of natter", "promises kept", "2026-09-21", "<svg", "p99", "</html>"] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        for load in ["http:", "https:", "src=", "href=", "@import", "url(", "<script", "<link"] {
            assert!(!page.contains(load), "the page loads something: {load}");
        }
    }

    #[test]
    fn names_are_escaped() {
        let name = "<script>alert(\"1\")</script>&'";
        let page = render(&run(10.0, name), Some((name, &run(10.0, name))));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"), "{page}");
    }

    #[test]
    fn an_earlier_run_stands_beside_with_its_ratios() {
        let page = render(&run(3_000.0, "after"), Some(("before.json", &run(2_000.0, "before"))));
        assert!(page.contains("↑ 1.5 ×") && page.contains("class=\"better\""), "{page}");
        assert!(page.contains("= 1 ×"), "the same is no difference: {page}");
        assert_eq!(page.matches("<svg").count(), 2);
        let broken = Outline { good: false, ..run(1.0, "x") };
        assert!(render(&broken, None).contains("a promise was broken"));
    }
}
