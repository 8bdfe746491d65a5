//! natter.js in Node: against a real mesh whose NATS server and nodes go away, its types, its package, and the page's own
//! modules that need no browser.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;

use crate::{
    harness::{
        node::{node, npm_package},
        process::Process,
        skip::skip,
    },
    mesh::{TestMesh, token, token_for},
};

const TYPESCRIPT: &str = "typescript@5";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of the script with which it asks for a deed.
const DEED: &str = "do: ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_node_keeps_its_promises_while_the_mesh_breaks() {
    let mut command = match node() {
        Ok(command) => command,
        Err(reason) => return skip("natter.js in Node", &reason),
    };
    let mut mesh = TestMesh::start(3).await;
    let folder = tempfile::tempdir().unwrap();
    let urls: Vec<String> = mesh.nodes.iter().map(crate::mesh::TestNode::url).collect();
    let given = json!({
        "urls": urls,
        "folder": folder.path(),
        "tokens": {"alice": token("alice"), "bob": token("bob"), "carol": token("carol")},
        "short": token_for("dora", Duration::from_secs(20)),
        "long": token("dora"),
        "expired": "not.a.token",
    });
    command.arg(here("tests/it/clients/natter_js/mesh.mjs")).arg(given.to_string()).arg(folder.path().join("done"));
    let mut script = Process::reading(command);
    let mut done = 0;
    loop {
        let deed = script.line_after(DEED).await;
        match deed.as_str() {
            "kill NATS" => mesh.nats.kill9(),
            "start NATS" => mesh.nats.restart().await.unwrap(),
            "drain the first node" => assert!(mesh.nodes.remove(0).drain().await),
            "end" => break,
            other => panic!("the script asked for {other}"),
        }
        done += 1;
        std::fs::write(folder.path().join("done"), done.to_string()).unwrap();
    }
    assert!(script.ended().await.success());
}

/// What a script of Node says when it is not content.
fn content(mut command: Command) {
    let output = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn what_the_page_knows_and_says_needs_no_browser() {
    let mut command = match node() {
        Ok(command) => command,
        Err(reason) => return skip("the page's modules in Node", &reason),
    };
    command.arg("--test").arg(here("tests/it/clients/natter_js/page.mjs"));
    content(command);
}

#[test]
fn its_types_are_those_of_a_program_that_uses_all_of_it() {
    let (command, typescript) = match (node(), npm_package(TYPESCRIPT)) {
        (Ok(command), Ok(typescript)) => (command, typescript),
        (Err(reason), _) | (_, Err(reason)) => return skip("the types of natter.js", &reason),
    };
    let check = |file: &str| {
        let mut tsc = node_like(&command);
        tsc.arg(typescript.join("lib/tsc.js"));
        tsc.args(["--noEmit", "--strict", "--target", "es2023", "--module", "nodenext", "--lib", "es2023,dom"]);
        tsc.arg(here(file));
        tsc
    };
    content(check("tests/it/clients/natter_js/types.ts"));
    let refused = check("tests/it/clients/natter_js/wrong_types.ts").output().unwrap();
    let faults = String::from_utf8_lossy(&refused.stdout).matches("error TS").count();
    assert_eq!(faults, 4, "{}", String::from_utf8_lossy(&refused.stdout));
}

fn node_like(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.stdin(std::process::Stdio::null());
    other
}

/// What is exported has a type, and what has a type is exported.
#[test]
fn the_types_name_what_there_is() {
    let js = include_str!("../../../clients/js/natter.js");
    let types = include_str!("../../../clients/js/natter.d.ts");
    let names = |text: &str, kinds: &[&str]| {
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("export "))
            .map(|line| line.trim_start_matches("async "))
            .filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)))
            .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
            .collect();
        found.sort();
        found
    };
    let kinds = ["function ", "const ", "class "];
    assert_eq!(names(js, &kinds), names(types, &kinds));
    assert!(names(js, &kinds).len() > 10);
}

#[test]
fn the_package_holds_the_module_its_types_and_nothing_else() {
    let Ok(output) = Command::new("npm").args(["pack", "--dry-run", "--json"]).current_dir(here("clients/js")).output()
    else {
        return skip("the package of natter.js", "npm: not found");
    };
    let packed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = packed[0]["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap());
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    assert_eq!(files, ["README.md", "natter.d.ts", "natter.js", "package.json"]);
}
