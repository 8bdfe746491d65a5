//! What operators see and are told: scraped jobs, alerts with their lines in the runbook, and the dashboard.

use std::collections::{BTreeMap, BTreeSet};

use natter::{
    metrics::Metrics,
    model::now_millis,
    protocol::{ErrorCode, Op},
};
use serde_json::Value as Json;
use serde_yaml_ng::Value;

use super::files::{filled, read, services, texts};

/// Metrics of others that the alerts ask for. Those of HAProxy are asked of a real one (`stack_on_scylla`); that of the
/// NATS exporter is written down from its documentation.
const OF_OTHERS: [&str; 4] =
    ["up", "gnatsd_varz_slow_consumers", "haproxy_backend_active_servers", "haproxy_server_status"];

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn alerts() -> Vec<Value> {
    let rules = yaml("deploy/alerts.yml");
    let groups = rules["groups"].as_sequence().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_sequence().unwrap().clone()).collect()
}

fn panels() -> Vec<Json> {
    let dashboard: Json = serde_json::from_str(&read("deploy/grafana/dashboards/natter.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// The queries of the dashboard.
fn shown() -> Vec<String> {
    let queries = |panel: &Json| panel["targets"].as_array().unwrap().clone();
    panels().iter().flat_map(queries).map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Every metric of a node by the name that a query has for it.
fn of_a_node() -> BTreeSet<String> {
    let metrics = Metrics::new("n1");
    metrics.closed("drain");
    metrics.error("bad_frame");
    metrics.refused(Op::Send, ErrorCode::TooLarge);
    let text = metrics.encode();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// Every metric name in a query. Functions are followed by a parenthesis, labels stand in braces, groupings in
/// parentheses after `by`, and neither has a name of these beginnings.
fn metric_names(query: &str) -> impl Iterator<Item = &str> {
    let known = ["natter_", "process_", "gnatsd_", "nats_", "haproxy_", "scylla_", "node_"];
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| *word == "up" || known.iter().any(|start| word.starts_with(start)))
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let there = of_a_node();
    let alerts: Vec<String> = alerts().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    for query in shown().iter().chain(&alerts) {
        let mut names = metric_names(query).peekable();
        assert!(names.peek().is_some(), "{query} asks for nothing that this test knows");
        for name in names {
            assert!(there.contains(name) || OF_OTHERS.contains(&name), "{name} in {query} is no metric");
        }
    }
    let all = shown();
    let asked: BTreeSet<&str> = all.iter().chain(&alerts).flat_map(|query| metric_names(query)).collect();
    // The minimum that an operator must see.
    for wanted in [
        "natter_sessions",
        "natter_delivered_total",
        "natter_append_seconds_bucket",
        "natter_fills_total",
        "natter_nats_reconnects_total",
        "natter_behind_conversations",
        "natter_errors_total",
        "natter_store_latency_ms",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(asked.contains(wanted), "no panel shows {wanted}");
    }
}

#[test]
fn every_alert_says_how_urgent_it_is_and_has_its_line_in_the_runbook() {
    let runbook = read("docs/operations.md");
    let section =
        runbook.split("\n## ").find(|part| part.starts_with("Alerts\n")).expect("the runbook has its section");
    let lines: BTreeMap<&str, &str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.trim_end_matches(" |")))
        .collect();
    let mut names = BTreeSet::new();
    for rule in alerts() {
        let name = rule["alert"].as_str().unwrap().to_owned();
        let severity = rule["labels"]["severity"].as_str().unwrap_or_else(|| panic!("{name} has no severity"));
        assert!(["page", "ticket"].contains(&severity), "{name} is {severity}");
        assert!(rule["annotations"]["summary"].is_string(), "{name} says nothing");
        let line = lines.get(name.as_str()).unwrap_or_else(|| panic!("docs/operations.md has no line for {name}"));
        assert!(line.starts_with(severity), "{name} is {severity}, the runbook says {line}");
        names.insert(name);
    }
    let told: BTreeSet<String> = lines.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(told, names, "the runbook has exactly the alerts");
    // Each severity reaches a receiver.
    let routes = yaml("deploy/alertmanager.yml");
    let receivers: Vec<&str> =
        routes["receivers"].as_sequence().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(receivers, ["page", "ticket"]);
}

#[test]
fn everything_is_scraped_where_prometheus_can_reach_it() {
    let (config, file) = (yaml("deploy/prometheus.yml"), filled());
    let all = services(&file);
    let reached: BTreeSet<String> = texts(&all["prometheus"]["networks"]).into_iter().collect();
    let mut jobs = BTreeMap::new();
    for job in config["scrape_configs"].as_sequence().unwrap() {
        let targets = texts(&job["static_configs"][0]["targets"]);
        for target in &targets {
            reaches(&all, &reached, target);
        }
        jobs.insert(job["job_name"].as_str().unwrap().to_owned(), targets);
    }
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["nats", "natter", "proxy", "scylla"]);
    assert_eq!((jobs["natter"].len(), jobs["nats"].len()), (2, 3), "every node, every NATS server");
    // An alert about a job that is not scraped would never fire.
    for rule in alerts() {
        let query = rule["expr"].as_str().unwrap();
        for job in query.split("job=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(jobs.contains_key(job), "{query}");
        }
    }
    let managers = texts(&config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]);
    assert_eq!(managers, ["alertmanager:9093"]);
    reaches(&all, &reached, &managers[0]);
    for exporter in all.values().filter(|service| !service["network_mode"].is_null()) {
        let port = texts(&exporter["command"]).windows(2).find(|pair| pair[0] == "-port").map(|pair| pair[1].clone());
        assert_eq!(port.as_deref(), Some("7777"));
    }
}

fn reaches(all: &BTreeMap<String, &Value>, networks: &BTreeSet<String>, target: &str) {
    let host = target.split(':').next().unwrap();
    let service = all.get(host).unwrap_or_else(|| panic!("{target} is no service"));
    assert!(texts(&service["networks"]).iter().any(|network| networks.contains(network)), "{target} is out of reach");
}

#[test]
fn the_dashboard_shows_the_nodes_that_are_chosen() {
    let dashboard: Json = serde_json::from_str(&read("deploy/grafana/dashboards/natter.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|one| one["name"] == "instance" && one["multi"] == true && one["includeAll"] == true));
    for query in shown() {
        let (asked, chosen) = (metric_names(&query).count(), query.matches(r#"{instance=~"$instance"}"#).count());
        assert_eq!(asked, chosen, "{query} shows other nodes as well");
    }
    let source: Value = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    let uid = source["datasources"][0]["uid"].as_str().unwrap();
    assert!(panels().iter().all(|panel| panel["datasource"]["uid"] == uid), "a panel asks another source");
    let ids: BTreeSet<u64> = panels().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels().len(), "two panels of one id");
}

#[test]
fn the_process_is_among_the_metrics_of_a_node() {
    let text = Metrics::new("n1").encode();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    };
    assert!(value("process_open_fds") > 0.0 && value("process_open_fds") < value("process_max_fds"));
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_cpu_seconds_total") >= 0.0);
    let started = now_millis() as f64 / 1000.0 - value("process_start_time_seconds");
    assert!((-2.0..86_400.0).contains(&started), "started {started} s ago");
}
