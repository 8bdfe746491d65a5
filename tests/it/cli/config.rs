//! The `natter` command as a shell runs it: `config` and `token`, their output, errors and exit codes.

use std::{
    io::Read as _,
    process::{Output, Stdio},
};

use natter::{
    auth::{Verifier, dev_secret},
    config::{Auth, Config, Sources},
};
use tempfile::TempDir;

use crate::harness::natter::natter;

fn run(folder: &TempDir, args: &[&str]) -> Output {
    natter(folder.path()).args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn verifier(folder: &TempDir) -> Verifier {
    let secret = dev_secret(&folder.path().join("natter-data")).unwrap();
    Verifier::from_config(&Auth { hs256_secret: Some(secret), ..Auth::default() }).unwrap()
}

#[test]
fn help_and_version_are_answers_and_nonsense_is_a_usage_fault() {
    let folder = tempfile::tempdir().unwrap();
    assert!(stdout(&run(&folder, &["--help"])).contains("Examples:"));
    assert_eq!(stdout(&run(&folder, &["--version"])), format!("natter {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["nonsense"][..], &[], &["token"], &["token", "a.b"], &["token", "alice", "--ttl", "soon"]] {
        let output = run(&folder, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn the_example_file_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("natter.toml");
    std::fs::write(&path, stdout(&run(&folder, &["config", "--default"]))).unwrap();
    let from_file = Config::load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
    assert_eq!(from_file, Config::default());
    let shown = run(&folder, &["--config", "natter.toml", "config"]);
    assert!(stdout(&shown).contains("window = 256  # natter.toml:"), "{shown:?}");
}

#[test]
fn config_shows_what_is_in_force_and_what_set_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("natter.toml"), "[nats]\nuser = \"n\"\npassword = \"hunter2\"\n").unwrap();
    let mut command = natter(folder.path());
    command.env("NATTER_CONFIG", "natter.toml").env("NATTER_LIMITS__WINDOW", "64");
    command.args(["config", "--json", "--log", "debug"]);
    let output = command.output().unwrap();
    let shown: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(shown["config"]["limits"]["window"], 64);
    assert_eq!(shown["config"]["nats"]["password"], "********");
    assert_eq!(shown["sources"]["limits.window"], "NATTER_LIMITS__WINDOW");
    assert_eq!(shown["sources"]["nats.password"], "natter.toml:3");
    assert_eq!(shown["sources"]["log.filter"], "--log");
}

#[test]
fn every_fault_of_a_configuration_is_listed_with_a_hint_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.toml"), "[limits]\nwindw = 1\nwindow = 0\n").unwrap();
    let output = run(&folder, &["--config", "bad.toml", "--log-format", "xml", "config"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        stderr(&output),
        "natter: 3 faults in the configuration\n  \
         limits.windw is not a key, did you mean limits.window? [bad.toml:2]\n  \
         log.format = \"xml\" must be \"text\" or \"json\" [--log-format]\n  \
         limits.window = 0 must be from 1 to 65536 [bad.toml:3]\n\
         hint: natter config --default shows every key, its default and what it is for\n"
    );
}

#[test]
fn a_token_for_the_data_folder_is_taken_by_its_node() {
    let folder = tempfile::tempdir().unwrap();
    let none = run(&folder, &["token", "alice"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).starts_with("natter: there is no secret at natter-data/auth.secret\nhint: "), "{none:?}");
    assert!(!folder.path().join("natter-data").exists(), "a token command made a secret that no node knows");

    let verifier = verifier(&folder);
    let plain = run(&folder, &["token", "alice"]);
    assert_eq!(verifier.verify(stdout(&plain).trim_end()).unwrap().user.as_str(), "alice");
    let args = ["token", "bob", "--data", "natter-data", "--ttl", "1h", "--json"];
    let shown: serde_json::Value = serde_json::from_str(stdout(&run(&folder, &args))).unwrap();
    let claims = verifier.verify(shown["token"].as_str().unwrap()).unwrap();
    assert_eq!((claims.user.as_str(), Some(claims.exp)), ("bob", shown["exp"].as_u64()));
    let left = claims.exp - natter::model::now_millis() / 1000;
    assert!((3_590..=3_600).contains(&left), "{left}");
}

#[test]
fn a_token_for_a_configured_mesh_names_its_audience_and_never_shows_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "a-secret-that-is-long-enough-for-hs256";
    std::fs::write(folder.path().join("secret"), format!("{secret}\n")).unwrap();
    let file = "[auth]\nhs256_secret_file = \"secret\"\naudience = [\"natter\"]\n";
    std::fs::write(folder.path().join("natter.toml"), file).unwrap();
    let path = folder.path().join("secret");
    let auth = Auth { hs256_secret_file: Some(path), audience: vec!["natter".into()], ..Auth::default() };
    let verifier = Verifier::from_config(&auth).unwrap();
    for args in [
        &["--config", "natter.toml", "token", "alice"][..],
        &["token", "alice", "--config", "natter.toml", "--secret-file", "secret"],
    ] {
        let output = run(&folder, args);
        assert!(verifier.verify(stdout(&output).trim_end()).is_ok(), "{args:?}");
    }
    std::fs::write(folder.path().join("secret"), "tooshort").unwrap();
    let output = run(&folder, &["--config", "natter.toml", "token", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "natter: secret has 8 bytes, a shared secret needs at least 32\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = natter(folder.path())
        .args(["config", "--default"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}
