//! deploy/kubernetes: what it promises, read from the files.

use std::collections::BTreeMap;

use natter::config::{Config, Sources};
use serde_yaml_ng::Value;

use super::compose::files::{SECRET, files_below, read, texts};

const FOLDER: &str = "deploy/kubernetes";

fn documents(file: &str) -> Vec<Value> {
    let text = read(&format!("{FOLDER}/{file}"));
    text.split("\n---\n").map(|one| serde_yaml_ng::from_str(one).unwrap_or_else(|e| panic!("{file}: {e}"))).collect()
}

/// Everything by kind and name.
fn objects() -> BTreeMap<(String, String), Value> {
    let list = documents("kustomization.yaml").remove(0);
    let mut named = texts(&list["resources"]);
    let all = named.iter().flat_map(|file| documents(file));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let objects = all.map(|one| ((text(&one["kind"]), text(&one["metadata"]["name"])), one)).collect();
    named.push("kustomization.yaml".to_owned());
    named.sort();
    let there = files_below(FOLDER).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mut there: Vec<String> = there;
    there.sort();
    assert_eq!(there, named, "kustomization.yaml names every file");
    objects
}

fn object(kind: &str, name: &str) -> Value {
    objects().remove(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The configuration that a node gets: from the config map, its own name, and the secret.
fn configuration(container: &Value) -> Config {
    let map = object("ConfigMap", container["envFrom"][0]["configMapRef"]["name"].as_str().unwrap());
    let given = map["data"].as_mapping().unwrap().iter();
    let mut variables: Vec<(String, String)> =
        given.map(|(key, value)| (key.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned())).collect();
    for variable in container["env"].as_sequence().into_iter().flatten() {
        let from = &variable["valueFrom"];
        let set_elsewhere = if from["fieldRef"].is_null() { SECRET } else { "natter-0" };
        let value = variable["value"].as_str().unwrap_or(set_elsewhere);
        variables.push((variable["name"].as_str().unwrap().to_owned(), value.to_owned()));
    }
    let sources = Sources { variables: variables.clone(), ..Sources::default() };
    let loaded = Config::load_with_origins(&sources).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.origins.len(), variables.len(), "a variable sets nothing");
    loaded.config
}

#[test]
fn the_nodes_of_kubernetes_are_configured_probed_and_stopped_as_they_need() {
    let set = object("StatefulSet", "natter");
    let pod = &set["spec"]["template"]["spec"];
    let node = &pod["containers"][0];
    let config = configuration(node);
    assert_eq!(config.node.name.as_str(), "natter-0", "each node has the name of its pod");
    assert_eq!(config.http.listen.port(), u16::try_from(node["ports"][0]["containerPort"].as_u64().unwrap()).unwrap());
    let probe = |name: &str| node[name]["httpGet"]["path"].as_str().unwrap();
    assert_eq!(
        [probe("startupProbe"), probe("livenessProbe"), probe("readinessProbe")],
        ["/healthz", "/healthz", "/readyz"]
    );
    let pause = texts(&node["lifecycle"]["preStop"]["exec"]["command"]);
    let [sleep, seconds] = &pause[..] else { panic!("{pause:?}") };
    assert_eq!(sleep, "sleep");
    let needs = seconds.parse::<u64>().unwrap() + config.timing.drain_min_secs + config.timing.drain_secs + 5;
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= needs, "killed while it drains");
    let period = node["readinessProbe"]["periodSeconds"].as_u64().unwrap();
    assert!(seconds.parse::<u64>().unwrap() > period, "the balancers learn of it first");
    // The job before them runs on the same configuration.
    let migrate = object("Job", "natter-migrate");
    let container = &migrate["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(configuration(container).store.scylla, config.store.scylla);
    for (spec, container) in [(pod, node), (&migrate["spec"]["template"]["spec"], container)] {
        assert_eq!(container["image"], "natter");
        let rights = &container["securityContext"];
        assert!(rights["readOnlyRootFilesystem"] == true && rights["allowPrivilegeEscalation"] == false);
        assert_eq!(texts(&rights["capabilities"]["drop"]), ["ALL"]);
        assert!(spec["securityContext"]["runAsNonRoot"] == true && spec["automountServiceAccountToken"] == false);
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    let list = documents("kustomization.yaml").remove(0);
    assert_eq!(list["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn everything_in_kubernetes_selects_the_nodes() {
    let labels = object("StatefulSet", "natter")["spec"]["template"]["metadata"]["labels"].clone();
    let picks = |selector: &Value, what: &str| {
        let wanted = selector.as_mapping().unwrap_or_else(|| panic!("{what} selects nothing"));
        assert!(!wanted.is_empty() && wanted.iter().all(|(key, value)| &labels[key] == value), "{what}: {selector:?}");
    };
    let all = objects();
    for ((kind, name), one) in &all {
        match kind.as_str() {
            "Service" => {
                picks(&one["spec"]["selector"], name);
                assert_eq!(one["spec"]["ports"][0]["targetPort"], "http", "{name}");
            }
            "StatefulSet" | "PodDisruptionBudget" => picks(&one["spec"]["selector"]["matchLabels"], name),
            "NetworkPolicy" => picks(&one["spec"]["podSelector"]["matchLabels"], name),
            _ => {}
        }
    }
    let kinds: std::collections::BTreeSet<&str> = all.keys().map(|(kind, _)| kind.as_str()).collect();
    let wanted = ["ConfigMap", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), wanted);
    // The set's own service gives the pods their names, and there is one.
    let service = object("StatefulSet", "natter")["spec"]["serviceName"].as_str().unwrap().to_owned();
    assert_eq!(all[&("Service".to_owned(), service)]["spec"]["clusterIP"], "None");
    // What nodes connect to, they may.
    let config = configuration(&object("StatefulSet", "natter")["spec"]["template"]["spec"]["containers"][0]);
    let policy = object("NetworkPolicy", "natter");
    let rules = policy["spec"]["egress"].as_sequence().unwrap().iter();
    let open: Vec<u64> =
        rules.flat_map(|rule| rule["ports"].as_sequence().unwrap()).map(|p| p["port"].as_u64().unwrap()).collect();
    let urls = config.nats.urls.iter().map(|url| url.expose().to_owned());
    for address in urls.chain(config.store.scylla.contact_points.clone()) {
        let port: u64 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        assert!(open.contains(&port), "{address} is out of reach");
    }
    // The secret is not among the files; what it must hold is said.
    let node = &object("StatefulSet", "natter")["spec"]["template"]["spec"]["containers"][0];
    let guide = read("deploy/README.md");
    for variable in node["env"].as_sequence().unwrap() {
        if let Some(key) = variable["valueFrom"]["secretKeyRef"]["key"].as_str() {
            assert!(guide.contains(&format!("--from-literal={key}=")), "deploy/README.md does not say {key}");
        }
    }
}
