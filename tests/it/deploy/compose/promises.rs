//! What the compose file and the image promise, read from the files.

use std::collections::BTreeSet;

use natter::{
    config::{Config, Sources, StoreKind},
    node::longest_stop,
};
use serde_yaml_ng::Value;

use super::files::{
    each_text, environment, example, expressions, files_below, filled, raw, read, root, services, texts,
};

#[test]
fn nothing_but_the_proxy_listens_on_the_outside() {
    let file = filled();
    for (name, service) in services(&file) {
        let ports = texts(&service["ports"]);
        assert_eq!(ports, if name == "proxy" { vec!["8080:8080".to_owned()] } else { Vec::new() }, "{name}");
        assert!(service["privileged"].is_null(), "{name}");
        let networks = texts(&service["networks"]);
        if let Some(mode) = service["network_mode"].as_str() {
            // A process beside a server, in that one's network.
            assert_eq!(name, format!("{}-exporter", mode.strip_prefix("service:").unwrap()));
            continue;
        }
        assert!(!networks.is_empty(), "{name} would join the default network");
        // The bus and the store have no way out, and nothing that has one is on them but the nodes.
        let on = |wanted: &str| networks.iter().any(|network| network == wanted);
        assert!(name.starts_with("natter-") || !(on("front") && (on("bus") || on("store"))), "{name}: {networks:?}");
    }
    for inside in ["bus", "store", "watch"] {
        assert_eq!(file["networks"][inside]["internal"], true, "{inside} has a way out");
    }
    // The monitoring page of NATS is for the server's own health check and exporter.
    for (name, service) in services(&file).into_iter().filter(|(_, service)| texts(&service["command"])[..] == NATS) {
        let monitor = environment(service).into_iter().find(|(key, _)| key == "NATTER_NATS_MONITOR").unwrap().1;
        assert_eq!(monitor, "\"127.0.0.1:8222\"", "{name}");
    }
}

const NATS: [&str; 2] = ["-c", "/etc/natter/watched.conf"];

/// Images that write to their own files at the start, or change user.
const NOT_CONFINED: [&str; 4] = ["scylla-1", "scylla-2", "scylla-3", "cassandra-1"];

#[test]
fn everything_is_limited_and_has_no_more_rights_than_it_needs() {
    let file = filled();
    for (name, service) in services(&file) {
        for limit in ["mem_limit", "cpus"] {
            assert!(!service[limit].is_null(), "{name} has no {limit}");
        }
        let log = &service["logging"]["options"];
        assert!(log["max-size"].is_string() && log["max-file"].is_string(), "the log of {name} grows without end");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let confined = service["read_only"] == true && texts(&service["cap_drop"]) == ["ALL"];
        assert_eq!(confined, !NOT_CONFINED.contains(&name.as_str()), "{name}");
    }
    // What differs from machine to machine is set in .env.
    let (raw, known) = (raw(), example());
    for name in ["natter-1", "nats-1", "scylla-1", "cassandra-1", "proxy", "prometheus", "grafana"] {
        for limit in ["mem_limit", "cpus"] {
            let set = expressions(raw["services"][name][limit].as_str().unwrap());
            assert!(set.iter().all(|(variable, _)| known.contains_key(variable)) && set.len() == 1, "{name}: {limit}");
        }
    }
}

#[test]
fn the_profiles_are_chosen_in_the_environment_and_each_has_a_store() {
    let file = filled();
    let profiles = |service: &Value| texts(&service["profiles"]);
    let all: BTreeSet<String> = services(&file).values().flat_map(|service| profiles(service)).collect();
    assert_eq!(all, ["cassandra", "cluster", "monitoring", "scylla"].map(str::to_owned).into());
    let text = read(".env.example");
    for profile in &all {
        assert!(text.contains(&format!("#   {profile} ")), ".env.example does not say what {profile} is");
    }
    // With the default, and with the alternative, migrate finds a server whose name .env.example gives.
    assert_eq!(example()["COMPOSE_PROFILES"], "scylla");
    for (profile, server) in [("scylla", "scylla-1"), ("cassandra", "cassandra-1")] {
        let service = &file["services"][server];
        assert_eq!(profiles(service), [profile]);
        assert_eq!(file["services"]["migrate"]["depends_on"][server]["condition"], "service_healthy");
        assert!(text.contains(&format!("SCYLLA_CONTACT_POINTS={server}:9042")), "{server}");
    }
}

#[test]
fn versions_are_pinned_and_ours_is_this_one() {
    let file = filled();
    for (name, service) in services(&file) {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        let version = tag.trim_start_matches('v').split('-').next().unwrap();
        let parts: Vec<_> = version.split('.').collect();
        assert!(parts.len() >= 3 && parts.iter().all(|part| part.parse::<u32>().is_ok()), "{name}: {image} may change");
    }
    assert_eq!(example()["NATTER_VERSION"], env!("CARGO_PKG_VERSION"));
    // The default, where .env has no version.
    for name in ["natter-1", "natter-2", "migrate"] {
        let image = raw()["services"][name]["image"].as_str().unwrap().to_owned();
        assert_eq!(image, format!("${{NATTER_IMAGE:-natter}}:${{NATTER_VERSION:-{}}}", env!("CARGO_PKG_VERSION")));
    }
}

/// Seconds of a duration such as `40s` or `1m`.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<u64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

#[test]
fn nothing_is_killed_while_it_ends_in_an_orderly_way() {
    let file = filled();
    let all = services(&file);
    let proxy = read("deploy/haproxy.cfg");
    let hard_stop = proxy.lines().find_map(|line| line.trim().strip_prefix("hard-stop-after ")).unwrap();
    let grace = |name: &str| seconds(all[name]["stop_grace_period"].as_str().unwrap());
    assert!(grace("proxy") >= seconds(hard_stop) + 5, "the proxy would be killed before it has let its sockets go");
    for node in ["natter-1", "natter-2"] {
        let sources = Sources { variables: environment(all[node]), ..Sources::default() };
        let Config { timing, node: own, .. } = Config::load_with_origins(&sources).unwrap().config;
        assert!(grace(node) >= longest_stop(&timing).as_secs() + 5, "{node} would be killed while it drains");
        assert_eq!(own.killed_after_secs, grace(node), "{node} does not know");
        // From a node's signal to the proxy's knowledge of it: `inter 2s fall 2`.
        assert!(proxy.contains("check inter 2s fall 2") && timing.drain_min_secs > 4, "{node} drains before that");
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
    // That one is the engine's own.
    used.insert("COMPOSE_PROFILES".to_owned());
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
    }
    for node in ["natter-1", "natter-2"] {
        assert_eq!(all[node]["depends_on"]["migrate"]["condition"], "service_completed_successfully");
        assert_eq!(texts(&all[node]["healthcheck"]["test"]), ["CMD", "natter", "health"]);
        let files = all[node]["ulimits"]["nofile"].as_u64().unwrap();
        assert!(files > u64::from(Config::default().limits.sessions_per_node), "{node} has too few descriptors");
    }
    assert_eq!(all["migrate"]["depends_on"]["scylla-1"]["condition"], "service_healthy");
}

#[test]
fn the_configuration_takes_every_variable_of_every_node() {
    let file = filled();
    let mut names = BTreeSet::new();
    for (name, service) in services(&file).into_iter().filter(|(_, service)| service["build"] == ".") {
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
