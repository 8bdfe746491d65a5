//! deploy/systemd: the units as systemd reads them, and what they promise; the variables of their examples, as natter and
//! nats-server read them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use natter::{
    auth::Minter,
    config::{Config, Loaded, Secret, Sources},
    model::UserId,
    nats_server::{NatsServer, ServerOptions, find, free_ports},
    node::longest_stop,
    protocol::Encoding,
};
use tempfile::TempDir;

use super::compose::files::{SECRET, read, root};
use crate::{
    cli::doctor::{finding, report},
    harness::{
        http,
        natter::{natter, program},
        process::{Process, output},
        skip::skip,
        until,
    },
    mesh::Peer,
};

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
    for all in [false, true] {
        let config = configured(all).config;
        assert!(number("TimeoutStopSec") >= longest_stop(&config.timing).as_secs() + 5, "killed while it drains");
        assert_eq!(config.node.killed_after_secs, number("TimeoutStopSec"), "the node does not know");
        let clients = config.limits.sessions_per_node + config.http.connections;
        assert!(number("LimitNOFILE") > u64::from(clients) + 1_000);
    }
    assert_eq!(unit["KillMode"], ["mixed"], "SIGTERM is for the node, SIGKILL for all that is left");
    // Those are copies of the start, and a reload would read them again.
    assert!(!unit.contains_key("LoadCredential") && !unit.contains_key("DynamicUser"));
    let user = &unit["User"][0];
    assert!(read(&format!("{FOLDER}/natter.sysusers")).contains(&format!("\nu {user} ")), "nobody makes {user}");
    assert_eq!((&unit["Group"][0], &unit["StateDirectoryMode"][0]), (user, &"0700".to_owned()));
}

/// What `natter config --default` prints, to start from.
fn example_file() -> String {
    natter::config::example()
}

/// The configuration that the example makes, with the folder /etc/natter elsewhere.
fn configured(all: bool) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path();
    for file in ["auth-secret", "nats-password", "cql-password"] {
        fs::write(etc.join(file), SECRET).unwrap();
    }
    fs::write(etc.join("natter.toml"), example_file()).unwrap();
    let mut variables: BTreeMap<String, String> = example("natter.env", all).into_iter().collect();
    variables.values_mut().for_each(|value| *value = value.replace("/etc/natter", etc.to_str().unwrap()));
    let file = variables.remove("NATTER_CONFIG").map(Into::into);
    let sources = Sources { file, variables: variables.clone().into_iter().collect(), ..Sources::default() };
    let loaded = Config::load_with_origins(&sources).unwrap_or_else(|e| panic!("{e}"));
    for name in variables.keys() {
        assert!(loaded.origins.values().any(|source| source.to_string() == *name), "{name} sets nothing");
    }
    loaded
}

#[test]
fn the_configuration_takes_every_variable_of_the_example() {
    let unit = unit("natter.service");
    // Required: without it there would be a node of defaults. And the unit itself sets nothing, so that this file is all that
    // other commands need.
    assert_eq!(unit["EnvironmentFile"], ["/etc/natter/environment"]);
    assert!(!unit.contains_key("Environment") && unit["ExecStart"] == ["/usr/local/bin/natter serve"]);
    for all in [false, true] {
        let config = configured(all).config;
        assert_eq!(config.store.embedded.data_dir, Path::new("/var/lib").join(&unit["StateDirectory"][0]));
        assert!(config.auth.hs256_secret_file.is_some() && config.nats.password.is_some());
    }
    // What the head and the page say to install is what is named; and commands beside the node run as it does.
    let (text, guide) = (read(&format!("{FOLDER}/natter.service")), read("docs/operations.md"));
    for (name, value) in example("natter.env", false) {
        let told = text.contains(&value) && guide.contains(&value);
        assert!(told || !value.starts_with("/etc/"), "{name}: nobody installs {value}");
    }
    for key in ["User", "EnvironmentFile", "LimitNOFILE"] {
        assert!(guide.contains(&format!("--property={key}={}", unit[key][0])), "docs/operations.md: {key}");
    }
}

/// A node as the unit runs it, with the folders /etc/natter and /var/lib/natter elsewhere.
struct Installed {
    folder: TempDir,
    node: Process,
    address: SocketAddr,
    nats: NatsServer,
}

impl Installed {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1).unwrap()[0]));
        fs::create_dir(folder.path().join("etc")).unwrap();
        let node = Process::start(Self::command(folder.path(), address, &nats, &["serve"]));
        let mut installed = Self { folder, node, address, nats };
        let answers = async || http::get(address, "/readyz").await.is_some_and(|answer| answer.status == 200);
        installed.node.ready("the node is ready", answers).await;
        installed
    }

    /// The program with the variables of the example.
    fn command(folder: &Path, address: SocketAddr, nats: &NatsServer, arguments: &[&str]) -> Command {
        let etc = folder.join("etc");
        let files =
            [("auth-secret", SECRET), ("nats-password", &nats.passwords().node), ("natter.toml", &example_file())];
        for (name, content) in files.into_iter().filter(|(name, _)| !etc.join(name).exists()) {
            install(&etc, name, content);
        }
        let mut command = natter(folder);
        for (name, value) in example("natter.env", false) {
            let value = match name.as_str() {
                "NATTER_HTTP__LISTEN" => address.to_string(),
                "NATTER_NATS__URLS" => nats.client_url(),
                _ => value.replace("/etc/natter", etc.to_str().unwrap()),
            };
            command.env(name, value.replace("/var/lib", folder.to_str().unwrap()));
        }
        command.args(arguments);
        command
    }

    /// What systemd does at `systemctl reload natter`: one line after the other, and no more after one that fails.
    async fn reload(&self) -> bool {
        for line in &unit("natter.service")["ExecReload"] {
            let line = line.replace("/usr/local/bin/natter", program().to_str().unwrap());
            let own = Self::command(self.folder.path(), self.address, &self.nats, &[]);
            let mut shell = Command::new("sh");
            shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
            shell.env("MAINPID", self.node.pid().to_string()).args(["-c", &line]);
            if !output(shell).await.status.success() {
                return false;
            }
        }
        true
    }

    async fn takes(&self, secret: &str) -> bool {
        let minter = Minter::new(&Secret::new(secret)).unwrap();
        let token = minter.mint(&UserId::new("alice").unwrap(), Duration::from_secs(60)).unwrap();
        let url = format!("ws://{}/v1/ws", self.address);
        Peer::join_as(&url, &token, "d", Encoding::Json, 0).await.is_ok()
    }
}

/// As `install -m 640 -g natter` does: another file in the place of the old one.
fn install(etc: &Path, name: &str, content: &str) {
    let new = etc.join(format!(".{name}"));
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(new, etc.join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_the_unit_takes_a_new_key_and_no_fault() {
    let mut installed = Installed::start().await;
    let etc = installed.folder.path().join("etc");
    let (new, newest) = ("n0123456789abcdef0123456789abcdef", "m0123456789abcdef0123456789abcdef");
    assert!(installed.takes(SECRET).await && !installed.takes(new).await);
    // As the page says: the old one is good for a while.
    let guide = read("docs/operations.md");
    let edit =
        guide.lines().find(|line| line.starts_with("sed -i") && line.ends_with("/etc/natter/natter.toml")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &edit.replace("/etc/natter", etc.to_str().unwrap())]);
    assert!(output(shell).await.status.success());
    install(&etc, "auth-previous-secret", SECRET);
    install(&etc, "auth-secret", new);
    assert!(installed.reload().await);
    installed.node.says("SIGHUP: took the keys").await;
    assert!(installed.takes(new).await && installed.takes(SECRET).await);
    install(&etc, "natter.toml", &example_file());
    assert!(installed.reload().await);
    until("the old key is not taken any more", async || !installed.takes(SECRET).await).await;
    assert!(installed.takes(new).await);
    // A fault is told to whoever reloads, and the node is not even asked.
    install(&etc, "auth-secret", newest);
    install(&etc, "natter.toml", "limits.windows = 1\n");
    assert!(!installed.reload().await, "the reload of a faulty file succeeds");
    assert!(installed.takes(new).await && !installed.takes(newest).await);
    // And doctor, run as the node is, finds what the unit gives it in order.
    install(&etc, "natter.toml", "");
    let folder = installed.folder.path();
    let doctor = Installed::command(folder, installed.address, &installed.nats, &["doctor", "--json"]);
    let seen = report(&output(doctor).await);
    let found = ["stop", "secret files", "reload"].map(|check| finding(&seen, "host", check));
    assert!(found.iter().all(|one| one["state"] == "ok"), "{found:?}");
    assert_eq!(found[0]["says"], "takes up to 30 s, and the node is killed after 45 s");
    assert_eq!(found[2]["says"], "SIGHUP reads 2 files again");
    assert!(!installed.node.log().contains("killed_after"), "{}", installed.node.log());
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
        assert!(
            given["NATS_FILE"] == "server.conf"
                && read("deploy/systemd/nats.env").contains(&format!("NATS_FILE={file}"))
        );
        let mut check = Command::new(find(None).unwrap().path);
        check.env_clear().envs(&given).arg("-t").arg("-c").arg(&path);
        let said = output(check).await;
        assert!(said.status.success(), "{said:?}");
    }
}

#[tokio::test]
async fn systemd_takes_the_units_and_finds_them_confined() {
    let version = Command::new("systemd-analyze").arg("--version").output();
    let version = version.ok().and_then(|said| {
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.split([' ', '.']).nth(1)?.parse::<u32>().ok()
    });
    // With 250 came the looks at a unit that is not installed.
    if version.is_none_or(|version| version < 250) {
        return skip("the units of deploy/systemd", "there is no systemd-analyze of 250 or newer; apt install systemd");
    }
    let mut sysusers = Command::new("systemd-sysusers");
    sysusers.arg("--dry-run").arg(root().join(FOLDER).join("natter.sysusers"));
    let said = output(sysusers).await;
    assert!(said.status.success(), "{said:?}");
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
