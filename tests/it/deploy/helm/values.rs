//! The chart's values: linted, held against natter's own configuration, and refused where they would do harm.

use std::collections::BTreeSet;

use natter::config::{Config, example};
use serde_json::{Value as Json, json};

use super::super::compose::files::read;
use super::rendered::{CHART, rendered};
use crate::harness::skip::skip;

fn schema() -> Json {
    serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap()
}

/// Every key of natter's configuration, from the example that it prints.
fn keys() -> BTreeSet<String> {
    let (mut keys, mut section, text) = (BTreeSet::new(), String::new(), example());
    for line in text.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(path) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = path.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

fn nested(path: &str, value: Json) -> Json {
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner }))
}

/// Values that must not be taken, and a word of the reason.
pub(super) fn refused_values() -> Vec<(Json, String)> {
    let keys = keys();
    // A secret in the values would stand in a ConfigMap for everybody to read. Those are the keys with a file beside them.
    let secrets = keys.iter().filter(|key| keys.contains(&format!("{key}_file")));
    let mut all: Vec<_> = secrets
        .map(|key| {
            (json!({"config": nested(key, json!("x"))}), format!("config.{key}: a secret would stand in a ConfigMap"))
        })
        .collect();
    assert_eq!(all.len(), 7, "{all:?}");
    let more = [
        (json!({"config": {"nats": {"urls": ["nats://node:secret@nats:4222"]}}}), "pattern"),
        (json!({"config": {"node": {"name": "n1"}}}), "node"),
        (json!({"config": {"store": {"kind": "embedded"}}}), "kind"),
        (json!({"config": {"http": {"listen": "0.0.0.0:80"}}}), "config.http.listen: the chart sets it"),
        (json!({"config": {"limit": {"window": 1}}}), "limit"),
        (json!({"secretFiles": {"auth.secret": {"secret": "a", "key": "b"}}}), "auth.secret"),
        (json!({"secretFiles": {"webhooks.a b.secret_file": {"secret": "a", "key": "b"}}}), "webhooks.a b"),
        (json!({"terminationGracePeriodSeconds": 22}), "a node may take 35 s to end"),
        (json!({"replicas": 0}), "minimum"),
        (json!({"replica": 3}), "replica"),
        (json!({"prometheusRule": {"enabled": true, "groups": ["natterr"]}}), "natterr is no group"),
    ];
    all.extend(more.map(|(values, why)| (values, why.to_owned())));
    all
}

#[tokio::test]
async fn helm_finds_nothing_wrong_with_the_chart() {
    let Some(said) = rendered() else { return };
    assert_eq!(said.lint["total_charts_linted"], 1);
    let messages = said.lint["messages"].as_array().unwrap();
    // 1 is a wish (an icon), 2 a warning, 3 a fault.
    assert!(messages.iter().all(|one| one["severity"] == 1), "{messages:?}");
    assert_eq!(said.lint["errors"], json!([]));
    let chart: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(&format!("{CHART}/Chart.yaml"))).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    for (release, first) in
        [(&said.plain, "natter-0 to natter-2"), (&said.full, "team-chat-natter-0 to team-chat-natter-4")]
    {
        assert!(release.notes.contains(first) && !release.notes.contains("WARNING"), "{}", release.notes);
    }
}

#[tokio::test]
async fn values_that_do_harm_are_refused_with_the_reason() {
    let Some(said) = rendered() else { return };
    for ((values, why), refused) in refused_values().iter().zip(&said.refused) {
        let reason = refused.as_ref().unwrap_or_else(|| panic!("{values} were taken"));
        assert!(reason.contains(why.as_str()), "{values}: {reason}");
    }
}

#[test]
fn the_schema_knows_natters_sections_and_its_files() {
    let properties = |value: &Json| value["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let schema = schema();
    let sections = serde_json::to_value(Config::default()).unwrap();
    let mut sections: BTreeSet<String> = sections.as_object().unwrap().keys().cloned().collect();
    // The pod's name, and how long it is given to end.
    sections.remove("node");
    assert_eq!(properties(&schema["properties"]["config"]), sections);
    // The node writes that one itself.
    let is_file = |key: &String| (key.ends_with("_file") || key.ends_with("_files")) && key != "auth.jwks_copy_file";
    let (of_webhooks, files): (BTreeSet<_>, BTreeSet<_>) =
        keys().into_iter().filter(is_file).partition(|key| key.starts_with("webhooks."));
    assert_eq!(properties(&schema["properties"]["secretFiles"]), files);
    // Webhooks have names, so theirs are a pattern.
    let patterns = schema["properties"]["secretFiles"]["patternProperties"].as_object().unwrap();
    assert_eq!(patterns.keys().collect::<Vec<_>>(), ["^webhooks\\.[A-Za-z0-9_-]+\\.(secret|ca)_file$"]);
    assert_eq!(of_webhooks.iter().collect::<Vec<_>>(), ["webhooks.push.ca_file", "webhooks.push.secret_file"]);
    // And every value that there is, so that a misspelt one is refused.
    let values: Json = serde_yaml_ng::from_str(&read(&format!("{CHART}/values.yaml"))).unwrap();
    let mut known = properties(&schema);
    assert!(known.remove("global"), "of helm itself");
    assert_eq!(values.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), known);
}

#[tokio::test]
async fn the_schemas_of_kubernetes_take_every_object() {
    let Some(said) = rendered() else { return };
    let chart: Json = serde_yaml_ng::from_str(&read(&format!("{CHART}/Chart.yaml"))).unwrap();
    let oldest = chart["kubeVersion"].as_str().unwrap().trim_start_matches(">=").trim_end_matches(".0-0").to_owned();
    let objects = [&said.plain.objects[..], &said.full.objects[..]].concat();
    match super::rendered::validated(&oldest, &objects) {
        Err(reason) => skip("the chart against the Kubernetes API", &reason),
        Ok(found) => {
            assert_eq!(found["faults"], json!([]));
            // Of the Prometheus operator: looked at in `objects`.
            assert_eq!(found["unknown"], json!(["PrometheusRule", "ServiceMonitor"]));
            assert_eq!(found["checked"], 2 * (objects.len() - 2));
        }
    }
}
