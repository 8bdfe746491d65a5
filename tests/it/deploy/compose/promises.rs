//! What the compose file, the image and the dashboards promise, read from the files.

use std::collections::BTreeSet;

use natter::{
    config::{Config, Sources, StoreKind},
    metrics::Metrics,
};
use serde_json::Value as Json;

use super::files::{
    each_text, environment, example, expressions, files_below, filled, raw, read, root, services, texts,
};

#[test]
fn nothing_but_the_proxy_listens_on_the_outside() {
    let file = filled();
    for (name, service) in services(&file) {
        let ports = texts(&service["ports"]);
        assert_eq!(ports, if name == "proxy" { vec!["8080:8080".to_owned()] } else { Vec::new() }, "{name}");
        assert!(service["network_mode"].is_null() && service["privileged"].is_null(), "{name}");
        let networks = texts(&service["networks"]);
        assert!(!networks.is_empty(), "{name} would join the default network");
        // The bus and the store have no way out; only nodes are on both of them and the front.
        let inside = networks.iter().any(|network| file["networks"][network.as_str()]["internal"] == true);
        let node = name.starts_with("natter-");
        assert!(node || !(inside && networks.iter().any(|network| network == "front")), "{name}: {networks:?}");
    }
}

#[test]
fn every_secret_comes_from_the_environment_and_is_asked_for() {
    let known = example();
    let mut used = BTreeSet::new();
    let mut file = raw();
    each_text(&mut file, &mut |text| {
        for (name, rest) in expressions(text) {
            let value = known.get(&name).unwrap_or_else(|| panic!("{name} is not in .env.example"));
            // A secret has no default there and none here: without it nothing starts.
            assert_eq!(value.is_empty(), rest.starts_with(":?"), "{name}{rest}");
            used.insert(name);
        }
    });
    assert_eq!(used, known.keys().cloned().collect(), "what .env.example lists is used");
    for (name, service) in services(&file) {
        for (key, value) in environment(service) {
            let secret = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| key.ends_with(word));
            assert!(!secret || value.trim_start_matches('\'').starts_with("${"), "{name} has {key} in clear text");
        }
    }
    assert!(read(".gitignore").lines().any(|line| line.trim_start_matches('/') == ".env"), ".env could be committed");
}

#[test]
fn each_service_says_how_it_is_and_waits_for_what_it_needs() {
    let file = filled();
    let all = services(&file);
    for (name, service) in &all {
        let check = &service["healthcheck"];
        let healthy = texts(&check["test"]).len() >= 2;
        assert!(healthy || (name == "migrate" && check["disable"] == true), "{name} has no health check");
        let needs = service["depends_on"].as_mapping().into_iter().flatten();
        for (needed, how) in needs {
            let needed = needed.as_str().unwrap();
            assert!(all.contains_key(needed), "{name} needs {needed}, which is not there");
            let condition = how["condition"].as_str().unwrap_or_else(|| panic!("{name} waits for {needed} how?"));
            let once = condition == "service_completed_successfully";
            assert_eq!(once, needed == "migrate", "{name} waits for {needed} until {condition}");
            let optional = !all[needed]["profiles"].is_null() && service["profiles"].is_null();
            assert!(!optional || how["required"] == false, "{name} cannot start without the profile of {needed}");
        }
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        assert_ne!(tag, "latest", "{name}");
    }
    for node in ["natter-1", "natter-2"] {
        assert_eq!(all[node]["depends_on"]["migrate"]["condition"], "service_completed_successfully");
        assert_eq!(texts(&all[node]["healthcheck"]["test"]), ["CMD", "natter", "health"]);
        let grace: u64 = all[node]["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
        assert!(grace > Config::default().timing.drain_secs + 5, "{node} would be killed while it drains");
        let files = all[node]["ulimits"]["nofile"].as_u64().unwrap();
        assert!(files > u64::from(Config::default().limits.sessions_per_node), "{node} has too few descriptors");
    }
    assert_eq!(all["migrate"]["depends_on"]["scylla-1"]["condition"], "service_healthy");
}

#[test]
fn the_configuration_takes_every_variable_of_every_node() {
    let file = filled();
    let mut names = BTreeSet::new();
    for (name, service) in services(&file).into_iter().filter(|(_, service)| service["image"] == "natter:local") {
        let variables = environment(service);
        let sources = Sources { variables: variables.clone(), ..Sources::default() };
        let loaded = Config::load_with_origins(&sources).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(loaded.origins.len(), variables.len(), "{name}: a variable sets nothing");
        assert_eq!(loaded.config.store.kind, StoreKind::Scylla, "{name}");
        if name != "migrate" {
            assert_eq!(loaded.config.nats.urls.len(), 3, "{name}");
            assert!(names.insert(loaded.config.node.name.to_string()), "two nodes of one name");
        }
    }
    assert_eq!(names.len(), 2);
}

#[test]
fn every_mounted_file_is_there() {
    for (name, service) in services(&filled()) {
        for volume in texts(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            if let Some(path) = from.strip_prefix("./") {
                assert!(root().join(path).exists(), "{name} mounts {path}");
                assert!(volume.ends_with(":ro"), "{name} may write to {path}");
            }
        }
    }
}

#[test]
fn the_image_has_what_the_build_reads_and_no_rights() {
    let dockerfile = read("Dockerfile");
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .collect();
    let ignore = read(".dockerignore");
    for path in &copied {
        assert!(root().join(path).exists(), "{path}");
        assert!(ignore.lines().any(|line| line == format!("!{path}")), "{path} is not sent to the build");
    }
    // What the sources include must be copied too.
    for source in files_below("src").iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")) {
        let text = std::fs::read_to_string(source).unwrap();
        let tests_only = text.find("#[cfg(test)]").unwrap_or(text.len());
        for included in text[..tests_only].split("include_str!(\"").skip(1).map(|part| part.split('"').next().unwrap())
        {
            let path = source.parent().unwrap().join(included).canonicalize().unwrap();
            let inside = path.strip_prefix(root()).unwrap();
            assert!(copied.iter().any(|copied| inside.starts_with(copied)), "{} is not in the image", inside.display());
        }
    }
    let last = &dockerfile[dockerfile.rfind("\nFROM ").unwrap()..];
    assert!(last.contains("\nUSER nonroot") && last.contains("\nHEALTHCHECK "), "{last}");
    for base in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        assert!(base.split_whitespace().next().unwrap().contains(':'), "{base} is not pinned");
    }
}

/// Every metric name in the text of a query.
fn metric_names(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("natter_"))
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let metrics = Metrics::new("n1");
    metrics.closed("drain");
    metrics.error("bad_frame");
    let shown = metrics.encode();
    let there: BTreeSet<&str> =
        shown.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split(['{', ' ']).next()).collect();
    let dashboard: Json = serde_json::from_str(&read("deploy/grafana/dashboards/natter.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut texts: Vec<String> = queries.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let rules: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read("deploy/alerts.yml")).unwrap();
    let alerts = rules["groups"][0]["rules"].as_sequence().unwrap();
    texts.extend(alerts.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    for query in &texts {
        for name in metric_names(query) {
            assert!(there.contains(name), "{name} in {query} is no metric");
        }
    }
    // The minimum that an operator must see.
    let asked: BTreeSet<&str> = texts.iter().flat_map(|query| metric_names(query)).collect();
    for wanted in [
        "natter_sessions",
        "natter_delivered_total",
        "natter_append_seconds_bucket",
        "natter_fills_total",
        "natter_nats_reconnects_total",
        "natter_behind_conversations",
        "natter_errors_total",
        "natter_store_latency_ms",
    ] {
        assert!(asked.contains(wanted), "no panel shows {wanted}");
    }
    let source: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&read("deploy/grafana/provisioning/datasources/prometheus.yml")).unwrap();
    let uid = source["datasources"][0]["uid"].as_str().unwrap();
    assert!(panels.iter().all(|panel| panel["datasource"]["uid"] == uid), "a panel asks another source");
}
