//! What `natter doctor` says of the unit or the pod around a node: its time to stop, its files with secrets, its reload; and
//! what `serve` itself says of the first.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::doctor::{Place, fails, finding, report};
use crate::{harness::process::output, mesh::serve::ServeProcess};

const SECRET: &str = "another-secret-that-is-long-enough-for-hs256";

/// The finding of one check with more variables.
async fn found(place: &Place, check: &str, variables: &[(&str, &str)]) -> Value {
    let mut doctor = place.doctor();
    doctor.envs(variables.iter().copied());
    finding(&report(&output(doctor).await), "host", check)
}

fn file(path: &Path, content: &str, mode: u32) -> String {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_node_that_would_be_killed_while_it_drains_is_told() {
    let place = Place::new().await;
    let unsaid = found(&place, "stop", &[]).await;
    assert!(unsaid["state"] == "ok" && unsaid["says"].as_str().unwrap().starts_with("takes up to 30 s;"), "{unsaid}");
    let killed_after = async |secs: &str| found(&place, "stop", &[("NATTER_NODE__KILLED_AFTER_SECS", secs)]).await;
    assert_eq!(killed_after("30").await["state"], "ok");
    let short = killed_after("29").await;
    assert!(short["state"] == "warn" && short["fix"].as_str().unwrap().contains("TimeoutStopSec="), "{short}");
    let mut doctor = place.doctor();
    doctor.env("NATTER_NODE__KILLED_AFTER_SECS", "14").env("NATTER_TIMING__DRAIN_MIN_SECS", "5");
    let says = fails(doctor, "host", "stop").await;
    assert_eq!(says, "takes up to 35 s, and the node is killed after 14 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_at_its_start_when_a_stop_may_take_longer_than_it_has() {
    let place = Place::new().await;
    for (secs, warns) in [(29, true), (30, false)] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("node.killed_after_secs = {secs}\n");
        let node = ServeProcess::start(folder.path(), place.nats(), &more).await;
        let log = node.process.log();
        assert_eq!(log.contains("a stop may take longer than node.killed_after_secs"), warns, "{log}");
    }
}

#[tokio::test]
async fn files_with_secrets_are_for_the_node_alone() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let none = found(&place, "secret files", &[]).await;
    assert!(none["state"] == "ok" && none["says"] == "no secret is in a file", "{none}");
    for (mode, state) in [(0o640, "ok"), (0o644, "warn"), (0o602, "warn")] {
        let secret = file(&folder.path().join("auth-secret"), SECRET, mode);
        let variables = [("NATTER_AUTH__HS256_SECRET_FILE", secret.as_str()), ("NATTER_AUTH__HS256_SECRET", "")];
        let found = found(&place, "secret files", &variables).await;
        assert_eq!(found["state"], state, "{mode:o}: {found}");
        assert!(
            state == "ok" || found["says"].as_str().unwrap().contains("(auth.hs256_secret_file) has mode"),
            "{found}"
        );
    }
    // The configuration itself, where a secret stands in it, and only there.
    for (content, state) in
        [("auth.hs256_previous_secret = \"0123456789abcdef0123456789abcdef\"\n", "warn"), ("limits.window = 9\n", "ok")]
    {
        let config = file(&folder.path().join("natter.toml"), content, 0o644);
        let found = found(&place, "secret files", &[("NATTER_CONFIG", &config)]).await;
        assert_eq!(found["state"], state, "{content}: {found}");
    }
    let mut doctor = place.doctor();
    doctor.env("NATTER_NATS__PASSWORD", "").env("NATTER_NATS__USER", "").env("NATTER_NATS__NKEY_FILE", "/no/such/key");
    let gone = finding(&report(&output(doctor).await), "host", "secret files");
    assert!(gone["state"] == "fail" && gone["says"].as_str().unwrap().starts_with("/no/such/key"), "{gone}");
}

#[tokio::test]
async fn a_reload_that_would_see_no_new_key_is_told() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let secret = file(&folder.path().join("auth-secret"), SECRET, 0o600);
    let by_file = [("NATTER_AUTH__HS256_SECRET_FILE", secret.as_str()), ("NATTER_AUTH__HS256_SECRET", "")];
    let good = found(&place, "reload", &by_file).await;
    assert!(good["state"] == "ok" && good["says"] == format!("SIGHUP reads {secret} again"), "{good}");
    let variable = found(&place, "reload", &[]).await;
    let says = variable["says"].as_str().unwrap();
    assert!(variable["state"] == "ok" && says.contains("comes from NATTER_AUTH__HS256_SECRET:"), "{variable}");
    // A credential of systemd is a copy of the start.
    let copied = [&by_file[..], &[("CREDENTIALS_DIRECTORY", here)]].concat();
    let copy = found(&place, "reload", &copied).await;
    assert!(copy["state"] == "warn" && copy["fix"].as_str().unwrap().contains("LoadCredential="), "{copy}");
}
