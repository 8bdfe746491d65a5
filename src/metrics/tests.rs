//! The names and the output, checked as a scraper reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

type Labels = Vec<(String, String)>;

/// A sample line: `name{key="value",…} number`.
fn parse_sample(line: &str) -> Option<(String, Labels, f64)> {
    let (series, number) = line.rsplit_once(' ')?;
    let number = number.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else { return Some((series.to_owned(), Vec::new(), number)) };
    let mut pairs = Vec::new();
    for pair in labels.strip_suffix('}')?.split("\",") {
        let (key, value) = pair.split_once("=\"")?;
        pairs.push((key.to_owned(), value.trim_end_matches('"').to_owned()));
    }
    Some((name.to_owned(), pairs, number))
}

fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, number) = parse_sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let series = format!("{name}{{{}}}", labels.join(","));
        assert!(found.insert(series.clone(), number).is_none(), "twice: {series}");
    }
    found
}

#[test]
fn every_metric_is_named_by_the_rules_and_has_help() {
    let metrics = Metrics::new("n1");
    metrics.closed("drain");
    metrics.error("bad_frame");
    let text = metrics.encode();
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 8, "{name} needs help");
            helped.insert(name.to_owned());
        }
    }
    assert!(kinds.len() > 25, "only {} metrics", kinds.len());
    for (name, kind) in &kinds {
        if kind == "info" {
            assert_eq!(name, "natter");
            continue;
        }
        // Those are named by what all Prometheus clients do.
        if name.starts_with("process_") {
            assert!(helped.contains(name), "{name} has no help");
            continue;
        }
        let tail = name.strip_prefix("natter_").unwrap_or_else(|| panic!("{name} has no prefix"));
        assert!(tail.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(!tail.ends_with("_total"), "{name}: the library adds _total");
        assert_eq!(kind == "histogram", tail.ends_with("_seconds"), "{name} is a {kind}");
        assert!(helped.contains(name), "{name} has no help");
    }
    for series in samples(&text).keys() {
        let name = series.split('{').next().unwrap();
        let known = kinds.iter().any(|(family, kind)| {
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            suffixes.iter().any(|suffix| name == format!("{family}{suffix}"))
        });
        assert!(known, "{series} belongs to no family or has the wrong suffix");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_counted_is_what_is_shown() {
    let metrics = Metrics::new("n1");
    metrics.sessions.inc();
    metrics.delivered.of(DeliveryPath::Fill).inc_by(3);
    metrics.frames_in.of(Op::Send).inc();
    metrics.bad_frames.inc();
    metrics.refused(Op::Send, ErrorCode::TooLarge);
    metrics.closed("drain");
    metrics.closed("drain");
    metrics.error("bad_frame");
    metrics.observe_append(Duration::from_millis(3));
    let shown = samples(&metrics.encode());
    for (series, expected) in [
        ("natter_sessions{}", 1.0),
        ("natter_delivered_total{path=fill}", 3.0),
        ("natter_delivered_total{path=bus}", 0.0),
        ("natter_frames_in_total{op=send}", 1.0),
        ("natter_bad_frames_total{}", 1.0),
        ("natter_refusals_total{op=send,code=too_large}", 1.0),
        ("natter_sessions_closed_total{reason=drain}", 2.0),
        ("natter_errors_total{code=bad_frame}", 1.0),
        ("natter_append_seconds_count{}", 1.0),
        ("natter_append_seconds_bucket{le=0.002}", 0.0),
        ("natter_append_seconds_bucket{le=0.004}", 1.0),
    ] {
        assert_eq!(shown.get(series), Some(&expected), "{series}");
    }
    assert_eq!(metrics.frames_in.total(), 1);
    let info = shown.keys().find(|series| series.starts_with("natter_info")).unwrap();
    assert!(info.contains("node=n1") && info.contains(env!("CARGO_PKG_VERSION")), "{info}");
}

#[test]
fn two_nodes_in_one_process_count_apart() {
    let (one, other) = (Metrics::new("n1"), Metrics::new("n2"));
    one.acks.inc();
    assert_eq!((one.acks.get(), other.acks.get()), (1, 0));
}

#[derive(Debug)]
struct Driver;

impl StoreDriver for Driver {
    fn counts(&self) -> DriverCounts {
        DriverCounts { requests: 7, errors: 6, retries: 5, timeouts: 4, connections: 3, latency_p99_ms: 12 }
    }
}

#[test]
fn what_the_driver_counts_is_read_at_the_scrape_and_is_0_without_one() {
    let metrics = Metrics::new("n1");
    let names = [
        ("natter_store_requests_total{}", 7.0),
        ("natter_store_request_errors_total{}", 6.0),
        ("natter_store_retries_total{}", 5.0),
        ("natter_store_timeouts_total{}", 4.0),
        ("natter_store_connections{}", 3.0),
        ("natter_store_latency_ms{}", 12.0),
    ];
    let without = samples(&metrics.encode());
    metrics.show_driver(Arc::new(Driver));
    let with = samples(&metrics.encode());
    for (series, expected) in names {
        assert_eq!((without.get(series), with.get(series)), (Some(&0.0), Some(&expected)), "{series}");
    }
    assert_eq!(with.len(), without.len(), "a driver adds no series: dashboards find the same on every node");
}

/// The words of a file under the repository that look like metrics of a node: networks and containers, and what other
/// exporters count about themselves, have such names as well.
fn metrics_named_in(path: &str) -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("natter_") || word.starts_with("process_");
    let found: BTreeSet<_> = words.filter(ours).filter(|word| *word != "natter_bus").map(str::to_owned).collect();
    assert!(!found.is_empty(), "{} names no metric: is this test still right?", path.display());
    found
}

#[test]
fn every_metric_that_operators_are_told_of_exists() {
    let metrics = Metrics::new("n1");
    metrics.closed("drain");
    metrics.error("bad_frame");
    metrics.refused(Op::Send, ErrorCode::TooLarge);
    let text = metrics.encode();
    let mut there: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    there.extend(text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()));
    let paths = [
        "deploy/alerts.yml",
        "deploy/grafana/dashboards/natter.json",
        "deploy/README.md",
        "docs/operations.md",
        "README.md",
    ];
    for path in paths {
        for name in metrics_named_in(path) {
            assert!(there.contains(name.as_str()), "{path} names {name}, which is no metric");
        }
    }
}
