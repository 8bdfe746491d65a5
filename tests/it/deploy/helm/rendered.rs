//! The chart, linted and rendered in one run of helm's own code for all tests of this folder: helm-python-sdk from PyPI has it
//! compiled, in a virtual environment that is kept between runs.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde::Deserialize as _;
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use super::super::compose::files::{read, root};
use super::values::refused_values;
use crate::harness::{python::python_with, skip::skip};

pub const CHART: &str = "deploy/helm/natter";
const HELM: &str = "helm-python-sdk>=0.2.2,<0.3";
const SCHEMAS: &str = "kubernetes-validate>=1.37";

/// What helm made of the chart with some values.
#[derive(Debug)]
pub struct Release {
    pub name: &'static str,
    pub objects: Vec<Value>,
    pub notes: String,
}

/// Everything that one run of helm said.
#[derive(Debug)]
pub struct Rendered {
    pub lint: Json,
    /// With the values that a first install must give: none.
    pub plain: Release,
    /// With everything that can be turned on, under a name with dots.
    pub full: Release,
    /// As `plain`, but with other values for what SIGHUP takes.
    pub live: Release,
    /// As `plain`, with another value that only a restart takes.
    pub restarted: Release,
    /// With the values that docs/operations.md begins with.
    pub documented: Release,
    /// What it said to each of `refused_values`; `None` if it took them.
    pub refused: Vec<Option<String>>,
}

/// Values with everything in them; also numbers and names that are easily written wrong.
fn full_values() -> Json {
    let peer = json!([{"podSelector": {"matchLabels": {"app": "x"}}}]);
    json!({
        "image": {"repository": "registry.example.org/natter", "tag": "9.9.9"},
        "imagePullSecrets": ["registry"],
        "replicas": 5,
        "config": {
            "auth": {"jwks_url": "https://id.example.org:8443/keys", "issuer": ["https://id.example.org/a\"<b>\\"]},
            "events": {"kinds": ["offline"]},
            "hook": {"service": "my-shop_2"},
            "webhooks": {"push": {"url": "https://push.example.org:9443/n", "kinds": ["offline"]}},
            "limits": {"sessions_per_node": 5_000_000},
            "nats": {"urls": ["tls://nats.example.org:5222", "tls://nats.example.org"], "user": "node"},
            "store": {"scylla": {"contact_points": ["db-1:9142"], "user": "natter"}},
            "services": {"billing": {}, "my-shop_2": {"http": true, "may_send_as": "*"}},
            "timing": {"drain_min_secs": 30, "drain_secs": 60},
            "http": {"allowed_origins": ["https://chat.example.org"]},
            "log": {"filter": "info,natter::session=debug"},
        },
        "secretFiles": {
            "auth.hs256_secret_file": null,
            "auth.public_key_files": [{"secret": "login", "key": "a.pem"}, {"secret": "login", "key": "b.pem"}],
            "webhooks.push.secret_file": {"secret": "push", "key": "secret"},
            "nats.tls_ca_file": {"secret": "nats-tls", "key": "ca.crt"},
            "store.scylla.password_file": {"secret": "scylla", "key": "password"},
        },
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "chat", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpread": {"kubernetes.io/hostname": "DoNotSchedule", "topology.kubernetes.io/zone": null},
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"e": "f"}},
        "networkPolicy": {
            "clients": peer, "nats": peer, "store": peer, "egress": [{"ports": [{"protocol": "TCP", "port": 4318}]}],
        },
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": true, "groups": ["natter", "around"]},
    })
}

fn live_values() -> Json {
    json!({"config": {
        "auth": {"issuer": ["login"]}, "services": {"billing": {"http": true}}, "log": {"filter": "info,natter=debug"},
    }})
}

fn documented_values() -> Json {
    let guide = read("docs/operations.md");
    let (_, rest) = guide.split_once("```yaml\n# mine.yaml\n").unwrap();
    serde_yaml_ng::from_str(rest.split_once("```").unwrap().0).unwrap()
}

/// A script of this folder, answered.
fn run(script: &str, module: &str, package: &str, asked: &Json) -> Result<Json, String> {
    let python = python_with(module, package)?;
    let path = root().join("tests/it/deploy/helm").join(script);
    let mut command = Command::new(python);
    command.arg(Path::new(&path)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

fn release(name: &'static str, said: &Json) -> Release {
    let files = said["files"].as_object().unwrap_or_else(|| panic!("{name}: {said}"));
    let (notes, texts): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.ends_with("NOTES.txt"));
    let documents = texts.iter().flat_map(|(path, text)| {
        let read = serde_yaml_ng::Deserializer::from_str(text.as_str().unwrap()).map(Value::deserialize);
        read.map(move |one| one.unwrap_or_else(|e| panic!("{path}: {e}")))
    });
    let objects = documents.filter(|one| !one.is_null()).collect();
    Release { name, objects, notes: notes[0].1.as_str().unwrap().to_owned() }
}

/// What helm made of everything; `None` where it cannot be had, which is said.
pub fn rendered() -> Option<&'static Rendered> {
    static ONCE: LazyLock<Result<Rendered, String>> = LazyLock::new(|| {
        let mut cases = vec![json!({"release": "natter", "values": {}})];
        cases.push(json!({"release": "team.chat", "values": full_values()}));
        cases.push(json!({"release": "natter", "values": live_values()}));
        cases.push(json!({"release": "natter", "values": {"config": {"limits": {"window": 7}}}}));
        cases.push(json!({"release": "natter", "values": documented_values()}));
        cases.extend(refused_values().iter().map(|(values, _)| json!({"release": "natter", "values": values})));
        let said = run("helm.py", "helm_python", HELM, &json!({"chart": root().join(CHART), "cases": cases}))?;
        let refused = said["cases"].as_array().unwrap()[5..].iter();
        Ok(Rendered {
            lint: said["lint"].clone(),
            plain: release("natter", &said["cases"][0]),
            full: release("team-chat-natter", &said["cases"][1]),
            live: release("natter", &said["cases"][2]),
            restarted: release("natter", &said["cases"][3]),
            documented: release("natter", &said["cases"][4]),
            refused: refused.map(|one| one["refused"].as_str().map(str::to_owned)).collect(),
        })
    });
    ONCE.as_ref().map_err(|reason| skip("the chart of deploy/helm", reason)).ok()
}

/// What the schemas of the Kubernetes API say to objects; `Err` says why they cannot be had.
pub fn validated(oldest: &str, objects: &[Value]) -> Result<Json, String> {
    run("validate.py", "kubernetes_validate", SCHEMAS, &json!({"oldest": oldest, "objects": objects}))
}

impl Release {
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |one| one["kind"] == kind)
    }

    /// The object of this kind; with several, the one whose name is the release's.
    pub fn object(&self, kind: &str) -> &Value {
        self.named(kind, self.name)
    }

    pub fn named(&self, kind: &str, name: &str) -> &Value {
        let found = self.all(kind).find(|one| one["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The node's pod.
    pub fn pod(&self) -> &Value {
        &self.object("StatefulSet")["spec"]["template"]
    }

    /// The pod of the job that migrates.
    pub fn migrate(&self) -> &Value {
        &self.named("Job", &format!("{}-migrate", self.name))["spec"]["template"]
    }
}
