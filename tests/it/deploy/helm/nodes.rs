//! The pods of the chart: the configuration that a node gets there, read by natter itself, and how it is probed, stopped
//! and confined.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use natter::{
    config::{Config, Loaded, Sources, StoreKind},
    node::longest_stop,
};
use serde_yaml_ng::Value;
use tempfile::TempDir;

use super::{
    super::compose::files::{SECRET, read, texts},
    rendered::{CHART, Release, Rendered, rendered},
};
use crate::{
    cli::doctor::{finding, report},
    harness::{http, natter::natter, process::output},
    mesh::TestMesh,
};

/// Webhooks are signed with nothing shorter.
const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

/// The files of a pod's volume as the kubelet makes them, in a folder of ours; secrets are all the same but those of webhooks.
fn mount(release: &Release, pod: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let volume = items(&pod["spec"]["volumes"]).find(|one| one["name"] == "config").unwrap();
    for source in items(&volume["projected"]["sources"]) {
        let map = source["configMap"]["name"].as_str().map(|name| release.named("ConfigMap", name));
        let item = &source[if map.is_some() { "configMap" } else { "secret" }]["items"][0];
        let secret = if text(&item["path"]).contains("webhooks.") { WEBHOOK_SECRET } else { SECRET };
        let content = map.map_or(secret, |map| text(&map["data"][text(&item["key"])]));
        let path = folder.path().join(text(&item["path"]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.replace("/etc/natter", folder.path().to_str().unwrap())).unwrap();
        let mode = u32::try_from(volume["projected"]["defaultMode"].as_u64().unwrap()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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

/// The program of a container with what the pod gives it.
fn natter_in(folder: &TempDir, release: &Release, arguments: &[&str]) -> Command {
    let mut command = natter(folder.path());
    command.env("NATTER_CONFIG", folder.path().join("natter.toml")).args(arguments);
    command.env("NATTER_NODE__NAME", format!("{}-0", release.name));
    command
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
        let store = |config: &Config| {
            // Each was read from a folder of its own.
            let mut store = config.store.clone();
            assert_eq!(store.scylla.password_file.take().is_some(), store.scylla.user.is_some());
            store
        };
        assert_eq!(store(&migrate.config), store(config));
        assert_eq!(migrate.config.queue, config.queue);
        assert_eq!(migrate.config.nats.urls, config.nats.urls);
        let volumes = format!("{:?}", release.migrate()["spec"]["volumes"]);
        assert!(!volumes.contains("auth."), "{volumes}");
    }
    let plain = configuration(&said.plain, said.plain.pod()).config;
    assert!(plain.auth.hs256_secret_file.is_some_and(|file| fs::metadata(file).is_err()), "the folder is gone by now");
    let full = configuration(&said.full, said.full.pod()).config;
    assert_eq!(full.limits.sessions_per_node, 5_000_000);
    assert_eq!(full.auth.issuer, ["https://id.example.org/a\"<b>\\"]);
    let services: Vec<_> = full.services.iter().map(|(name, of)| (name.as_str(), of.http)).collect();
    assert_eq!(services, [("billing", false), ("my-shop_2", true)]);
    assert_eq!(full.auth.public_key_files.len(), 2);
    assert_eq!(full.webhooks.values().next().unwrap().secret.as_ref().unwrap().expose(), WEBHOOK_SECRET);
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
        let Config { timing, node, .. } = configuration(release, release.pod()).config;
        let pod = &release.pod()["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace >= longest_stop(&timing).as_secs() + 5, "{grace}: killed while it drains");
        assert_eq!(node.killed_after_secs, grace, "the node does not know");
        let node = &pod["containers"][0];
        let ready = |key: &str| node["readinessProbe"][key].as_u64().unwrap();
        // The node itself waits until it is known that it is not ready, so nothing else has to.
        assert!(timing.drain_min_secs > ready("periodSeconds") * ready("failureThreshold"), "it drains before that");
        assert!(node["lifecycle"].is_null());
    }
}

#[tokio::test]
async fn the_program_itself_takes_the_files_and_doctor_finds_them_in_order() {
    let Some(said) = rendered() else { return };
    for release in both(said) {
        for pod in [release.pod(), release.migrate()] {
            let folder = mount(release, pod);
            let shown = output(natter_in(&folder, release, &["config", "--json"])).await;
            assert!(shown.status.success(), "{}: {shown:?}", release.name);
        }
    }
    let folder = mount(&said.plain, said.plain.pod());
    // There is neither NATS nor a store, and nobody is asked for their names; what the pod itself gives is well.
    let mut doctor = natter_in(&folder, &said.plain, &["doctor", "--json"]);
    doctor.env("NATTER_NATS__URLS", "nats://127.0.0.1:1").env("NATTER_STORE__SCYLLA__CONTACT_POINTS", "127.0.0.1:1");
    let seen = report(&output(doctor).await);
    let says = |check: &str| {
        let found = finding(&seen, "host", check);
        assert_eq!(found["state"], "ok", "{found}");
        found["says"].as_str().unwrap().to_owned()
    };
    assert_eq!(says("stop"), "takes up to 35 s, and the node is killed after 45 s");
    assert_eq!(says("secret files"), "2 can be read, and not by everybody");
    assert_eq!(says("reload"), "SIGHUP reads 2 files again");
}

#[tokio::test]
async fn the_page_makes_the_secrets_that_its_values_name() {
    let Some(said) = rendered() else { return };
    let pod = said.documented.pod();
    let config = configuration(&said.documented, pod).config;
    assert_eq!(config.store.scylla.contact_points, ["scylla-client:9042"]);
    let guide = read("docs/operations.md");
    let volume = items(&pod["spec"]["volumes"]).find(|one| one["name"] == "config").unwrap();
    let secrets: Vec<_> = items(&volume["projected"]["sources"]).filter(|one| !one["secret"].is_null()).collect();
    assert_eq!(secrets.len(), 3);
    for secret in secrets.iter().map(|one| &one["secret"]) {
        assert!(guide.contains(&format!("create secret generic {} ", text(&secret["name"]))));
        let item = &secret["items"][0];
        assert!(guide.contains(&format!("--from-literal={}=", text(&item["key"]))), "{item:?}");
    }
    // The path that tells when a changed one has come.
    assert!(guide.contains(config.auth.hs256_secret_file.unwrap().file_name().unwrap().to_str().unwrap()));
}

#[tokio::test]
async fn pods_are_replaced_for_what_a_hangup_does_not_take() {
    let Some(said) = rendered() else { return };
    let pod = |release: &Release| serde_yaml_ng::to_string(release.pod()).unwrap();
    let toml = |release: &Release| text(&release.object("ConfigMap")["data"]["natter.toml"]).to_owned();
    assert_ne!(toml(&said.plain), toml(&said.live));
    assert_eq!(pod(&said.plain), pod(&said.live), "a restart for what SIGHUP takes");
    assert_ne!(pod(&said.plain), pod(&said.restarted), "nodes of two configurations");
    // It is natter that says what that is.
    let config = |release: &Release| configuration(release, release.pod()).config;
    let files = |mut config: Config| {
        // Each was read from a folder of its own.
        config.nats.password_file = None;
        config
    };
    let [plain, live, restarted] = [&said.plain, &said.live, &said.restarted].map(|release| files(config(release)));
    assert_eq!(plain.changed_for_restart(&live), Vec::<String>::new());
    assert_eq!(plain.changed_for_restart(&restarted), ["limits.window"]);
    // What changes in the cluster changes in the pod only where a whole folder is mounted.
    for mounted in items(&said.full.pod()["spec"]["containers"][0]["volumeMounts"]) {
        assert!(mounted["subPath"].is_null(), "{mounted:?}");
    }
    assert!(said.plain.notes.contains("kill -HUP 1"));
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
