//! The pods of the chart: the configuration that a node gets there, read by natter itself, and how it is probed, stopped
//! and confined.

use std::{fs, path::Path};

use natter::config::{Config, Loaded, Sources, StoreKind};
use serde_yaml_ng::Value;
use tempfile::TempDir;

use super::{
    super::compose::files::{SECRET, read, texts},
    rendered::{CHART, Release, Rendered, rendered},
};
use crate::{harness::http, mesh::TestMesh};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

/// The files of a pod's volume as the kubelet makes them, in a folder of ours; secrets are all the same.
fn mount(release: &Release, pod: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let volume = items(&pod["spec"]["volumes"]).find(|one| one["name"] == "config").unwrap();
    for source in items(&volume["projected"]["sources"]) {
        let map = source["configMap"]["name"].as_str().map(|name| release.named("ConfigMap", name));
        let item = &source[if map.is_some() { "configMap" } else { "secret" }]["items"][0];
        let content = map.map_or(SECRET, |map| text(&map["data"][text(&item["key"])]));
        let path = folder.path().join(text(&item["path"]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.replace("/etc/natter", folder.path().to_str().unwrap())).unwrap();
    }
    folder
}

/// The configuration of a container, as the program in it reads it.
fn configuration(release: &Release, pod: &Value) -> Loaded {
    let container = &pod["spec"]["containers"][0];
    let folder = mount(release, pod);
    let place = items(&container["volumeMounts"]).find(|one| one["name"] == "config").unwrap();
    assert_eq!((text(&place["mountPath"]), &place["readOnly"]), ("/etc/natter", &Value::from(true)));
    let (mut file, mut variables) = (None, Vec::new());
    for variable in items(&container["env"]) {
        let name = text(&variable["name"]);
        if name == "NATTER_CONFIG" {
            file = Some(folder.path().join(text(&variable["value"]).strip_prefix("/etc/natter/").unwrap()));
        } else {
            assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name", "{name}");
            variables.push((name.to_owned(), format!("{}-0", release.name)));
        }
    }
    let set = variables.len();
    let loaded = Config::load_with_origins(&Sources { file, variables, ..Sources::default() });
    let loaded = loaded.unwrap_or_else(|e| panic!("{}: {e}", release.name));
    assert!(loaded.origins.len() > set, "nothing comes from the file");
    loaded
}

fn both(said: &Rendered) -> [&Release; 2] {
    [&said.plain, &said.full]
}

#[tokio::test]
async fn natter_reads_what_the_chart_writes() {
    let Some(said) = rendered() else { return };
    for release in both(said) {
        let (node, migrate) = (configuration(release, release.pod()), configuration(release, release.migrate()));
        let config = &node.config;
        assert_eq!(config.node.name.as_str(), format!("{}-0", release.name), "each node has the name of its pod");
        assert_eq!(config.store.kind, StoreKind::Scylla);
        let port = &release.pod()["spec"]["containers"][0]["ports"][0];
        assert_eq!((port["name"].as_str(), port["containerPort"].as_u64()), (Some("http"), Some(8080)));
        assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.nats.password.as_ref().unwrap().expose(), SECRET);
        // The job before them runs on the same, and is not given the keys of tokens.
        assert_eq!(migrate.config.store, config.store);
        assert_eq!(migrate.config.queue, config.queue);
        assert_eq!(migrate.config.nats.urls, config.nats.urls);
        let volumes = format!("{:?}", release.migrate()["spec"]["volumes"]);
        assert!(!volumes.contains("auth."), "{volumes}");
    }
    let plain = configuration(&said.plain, said.plain.pod()).config;
    assert!(plain.auth.hs256_secret_file.is_some_and(|file| fs::metadata(file).is_err()), "the folder is gone by now");
    let full = configuration(&said.full, said.full.pod()).config;
    assert_eq!(full.limits.sessions_per_node, 12_000_000);
    assert_eq!(full.http.allowed_origins, ["https://chat.example.org/a\"b"]);
    let services: Vec<_> = full.services.iter().map(|(name, of)| (name.as_str(), of.http)).collect();
    assert_eq!(services, [("billing", false), ("my-shop_2", true)]);
    assert_eq!(full.store.scylla.password.unwrap().expose(), SECRET);
    assert!(full.nats.tls_ca_file.is_some() && full.auth.hs256_secret_file.is_none());
    // Where everything else is read-only, that is the folder that can be written.
    let copy = full.auth.jwks_copy_file.unwrap();
    let mounts = &said.full.pod()["spec"]["containers"][0]["volumeMounts"];
    let state = items(mounts).find(|one| one["name"] == "state").unwrap();
    assert!(copy.parent() == Some(Path::new(text(&state["mountPath"]))) && state["readOnly"].is_null());
    assert!(items(&said.full.pod()["spec"]["volumes"]).any(|one| one["name"] == "state" && !one["emptyDir"].is_null()));
}

#[tokio::test]
async fn a_node_has_the_time_that_its_drain_takes() {
    let Some(said) = rendered() else { return };
    for release in both(said) {
        let timing = configuration(release, release.pod()).config.timing;
        let pod = &release.pod()["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        // 8 s at most for handing conversations over.
        assert!(grace >= timing.drain_min_secs + timing.drain_secs + 8 + 5, "{grace}: killed while it drains");
        let node = &pod["containers"][0];
        let ready = |key: &str| node["readinessProbe"][key].as_u64().unwrap();
        // The node itself waits until it is known that it is not ready, so nothing else has to.
        assert!(timing.drain_min_secs > ready("periodSeconds") * ready("failureThreshold"), "it drains before that");
        assert!(node["lifecycle"].is_null());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_that_is_asked_is_one_of_a_node() {
    let Some(said) = rendered() else { return };
    let node = &said.full.pod()["spec"]["containers"][0];
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"].map(|name| &node[name]["httpGet"]);
    assert!(probes.iter().all(|probe| probe["port"] == "http"));
    let [started, alive, ready] = probes.map(|probe| text(&probe["path"]));
    assert!(started == alive && ready != alive, "a node that is not ready must not be killed");
    let endpoint = &said.full.object("ServiceMonitor")["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], "http");
    let mesh = TestMesh::start(1).await;
    let address = mesh.nodes[0].addr.to_string();
    for path in [alive, ready, text(&endpoint["path"])] {
        assert_eq!(http::get(&address, path).await.map(|answer| answer.status), Some(200), "{path}");
    }
}

#[tokio::test]
async fn containers_may_do_nothing_but_run() {
    let Some(said) = rendered() else { return };
    for release in both(said) {
        for (pod, args) in [(release.pod(), "serve"), (release.migrate(), "migrate")] {
            let spec = &pod["spec"];
            let container = &spec["containers"][0];
            assert_eq!(texts(&container["args"]), [args]);
            let rights = &container["securityContext"];
            assert!(rights["readOnlyRootFilesystem"] == true && rights["allowPrivilegeEscalation"] == false, "{args}");
            assert_eq!(texts(&rights["capabilities"]["drop"]), ["ALL"]);
            let person = &spec["securityContext"];
            assert!(person["runAsNonRoot"] == true && person["seccompProfile"]["type"] == "RuntimeDefault", "{args}");
            // The user of the image; its group may read the secrets, and nobody else.
            let id = person["runAsUser"].as_u64().unwrap();
            assert!(read("Dockerfile").contains(&format!("--uid {id} ")) && person["fsGroup"] == id);
            let volume = items(&spec["volumes"]).find(|one| one["name"] == "config").unwrap();
            assert_eq!(volume["projected"]["defaultMode"], 0o440);
            assert!(spec["automountServiceAccountToken"] == false && spec["enableServiceLinks"] == false, "{args}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{args}");
        }
    }
    let image = |release: &Release| text(&release.pod()["spec"]["containers"][0]["image"]).to_owned();
    assert_eq!(image(&said.plain), format!("natter:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(&said.full), "registry.example.org/natter:9.9.9");
    assert!(read(&format!("{CHART}/values.yaml")).contains("LimitNOFILE"), "what Kubernetes has no key for is said");
}
