//! deploy/systemd: the units as systemd reads them, and what they promise; the variables of their examples, as natter and
//! nats-server read them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use natter::{
    config::{Config, Sources},
    nats_server::find,
};

use super::compose::files::{SECRET, read, root};
use crate::harness::{natter::program, process::output, skip::skip};

const FOLDER: &str = "deploy/systemd";

/// The settings of a unit; a key that comes several times has several.
fn unit(name: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in read(&format!("{FOLDER}/{name}")).lines().filter(|line| !line.starts_with(['#', '['])) {
        if let Some((key, value)) = line.split_once('=') {
            settings.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    settings
}

/// The variables of an example, as systemd reads them. With `all`, those that are commented out too.
fn example(name: &str, all: bool) -> Vec<(String, String)> {
    let text = read(&format!("{FOLDER}/{name}"));
    let lines = text.lines().map(|line| if all { line.trim_start_matches('#') } else { line });
    let named = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let pairs = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.is_empty() && named(name));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

/// The variables that a unit itself sets.
fn set_by(unit: &BTreeMap<String, Vec<String>>) -> Vec<(String, String)> {
    let pairs = unit["Environment"].iter().map(|one| one.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%S", "/var/lib"))).collect()
}

#[test]
fn a_node_drains_reloads_and_has_what_it_needs() {
    let unit = unit("natter.service");
    let number = |key: &str| unit[key][0].parse::<u64>().unwrap();
    let config = Config::default();
    // 8 s at most for handing conversations over.
    let drain = config.timing.drain_min_secs + config.timing.drain_secs + 8;
    assert!(number("TimeoutStopSec") >= drain + 5, "killed while it drains");
    let text = read(&format!("{FOLDER}/natter.env"));
    assert!(text.contains(&format!("TimeoutStopSec= must be {drain} s more")), "{text}");
    assert_eq!(unit["KillMode"], ["mixed"], "SIGTERM is for the node, SIGKILL for all that is left");
    assert!(number("LimitNOFILE") > u64::from(config.limits.sessions_per_node + config.http.connections) + 1_000);
    // The file is looked at first; with a fault in it, systemd says that the reload failed.
    let [look, reload] = &unit["ExecReload"][..] else { panic!("{:?}", unit["ExecReload"]) };
    assert!(look.contains("natter config ") && reload.ends_with("kill -HUP $MAINPID"), "{look}, {reload}");
    // Those are copies of the start, and a reload would read them again.
    assert!(!unit.contains_key("LoadCredential") && !unit.contains_key("DynamicUser"));
    let user = &unit["User"][0];
    assert!(read(&format!("{FOLDER}/natter.sysusers")).contains(&format!("\nu {user} ")), "nobody makes {user}");
}

#[test]
fn the_configuration_takes_every_variable_of_the_unit_and_its_example() {
    let unit = unit("natter.service");
    let folder = tempfile::tempdir().unwrap();
    for file in ["auth-secret", "nats-password", "cql-password"] {
        fs::write(folder.path().join(file), SECRET).unwrap();
    }
    fs::write(folder.path().join("natter.toml"), natter::config::example()).unwrap();
    for all in [false, true] {
        // As systemd has them, the file's last.
        let mut variables: BTreeMap<String, String> = set_by(&unit).into_iter().collect();
        variables.extend(example("natter.env", all));
        let here = folder.path().to_str().unwrap();
        let mut variables: Vec<_> =
            variables.into_iter().map(|(name, value)| (name, value.replace("/etc/natter", here))).collect();
        let at = variables.iter().position(|(name, _)| name == "NATTER_CONFIG").unwrap();
        let file = Some(variables.remove(at).1.into());
        let sources = Sources { file, variables: variables.clone(), ..Sources::default() };
        let loaded = Config::load_with_origins(&sources).unwrap_or_else(|e| panic!("{e}"));
        let from = loaded.origins.values().filter(|source| source.to_string().contains("NATTER_"));
        assert!(from.count() >= variables.len(), "a variable sets nothing");
        assert!(loaded.config.store.embedded.data_dir.ends_with(&unit["StateDirectory"][0]));
        assert!(loaded.config.auth.hs256_secret_file.is_some() && loaded.config.nats.password.is_some());
    }
    assert_eq!(unit["StateDirectoryMode"], ["0700"]);
    assert_eq!(unit["EnvironmentFile"], ["-/etc/natter/environment"]);
}

/// Every variable of a file of nats/ and of those that it includes.
fn wanted(file: &Path, names: &mut BTreeSet<String>) {
    for line in fs::read_to_string(file).unwrap().lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some(other) = line.trim().strip_prefix("include ") {
            wanted(&file.parent().unwrap().join(other), names);
        }
        let parts = line.split('$').skip(1);
        names.extend(parts.map(|part| part.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect()));
    }
}

#[tokio::test]
async fn nats_server_has_every_variable_of_its_files_and_takes_them() {
    let unit = unit("nats-server.service");
    assert_eq!(unit["ExecStart"], ["/usr/local/bin/nats-server -c /etc/nats/${NATS_FILE}"]);
    for (all, file) in [(false, "server.conf"), (true, "cluster.conf")] {
        let folder = tempfile::tempdir().unwrap();
        let given = set_by(&unit).into_iter().chain(example("nats.env", all));
        // Whoever installs it fills in the passwords.
        let given = given.map(|(name, value)| (name, if value.is_empty() { SECRET.to_owned() } else { value }));
        let given: BTreeMap<String, String> =
            given.map(|(n, v)| (n, v.replace("/var/lib", folder.path().to_str().unwrap()))).collect();
        let path = root().join("nats").join(file);
        let mut names = BTreeSet::new();
        wanted(&path, &mut names);
        // Those of permissions are in the files themselves.
        names.retain(|name| name.starts_with("NATTER_"));
        let has: BTreeSet<String> = given.keys().filter(|name| *name != "NATS_FILE").cloned().collect();
        assert_eq!(has, names, "{file}");
        assert!(given["NATS_FILE"] == "server.conf" && read("deploy/systemd/nats.env").contains(&format!("NATS_FILE={file}")));
        let mut check = Command::new(find(None).unwrap().path);
        check.env_clear().envs(&given).arg("-t").arg("-c").arg(&path);
        let said = output(check).await;
        assert!(said.status.success(), "{said:?}");
    }
}

#[tokio::test]
async fn systemd_takes_the_units_and_finds_them_confined() {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        return skip("the units of deploy/systemd", "there is no systemd-analyze; apt install systemd");
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["natter.service", "nats-server.service"] {
        // As it stands, but with a program that is here: systemd wants it to be there.
        let text = read(&format!("{FOLDER}/{name}"));
        let installed = format!("/usr/local/bin/{}", name.trim_end_matches(".service"));
        let here = text.replace(&installed, program().to_str().unwrap());
        assert_ne!(here, text);
        let copy = folder.path().join(name);
        fs::write(&copy, here).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify").arg(&copy);
        let said = output(verify).await;
        let words = String::from_utf8_lossy(&said.stderr);
        // It speaks of a setting that it does not know, and succeeds.
        assert!(said.status.success() && !words.contains(&format!("{name}:")), "{words}");
        // Of 100 points, tenths of which systemd shows; 15 now.
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--threshold=20", "--no-pager"]).arg(&copy);
        let said = output(security).await;
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stdout));
    }
}
