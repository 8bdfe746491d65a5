//! The snippets of docs/services.md, each run as it stands there: nats-py, nats.go and async-nats.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::nats_py::python;
use crate::{harness::skip::skip, mesh::TestMesh};

const PAGE: &str = include_str!("../../../docs/services.md");
/// The version that was tried; the minor version may grow.
const NATS_GO: &str = "github.com/nats-io/nats.go@v1";

/// The one snippet of the page in a language.
fn snippet(language: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{language}\n")).expect("the page has a snippet in this language");
    let (code, rest) = rest.split_once("```").expect("the snippet ends");
    assert!(!rest.contains(&format!("```{language}\n")), "the page has two snippets in {language}");
    code
}

fn run(folder: &Path, program: &Path, args: &[&str], env: &[(&str, String)]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().cloned()).current_dir(folder).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{} {args:?}: {said}", program.display()))
    }
}

/// A folder with a Go module that has nats.go, kept between runs; `Err` says why there is none.
fn go_module() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-go");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    if !folder.join("go.sum").exists() {
        if !folder.join("go.mod").exists() {
            run(&folder, Path::new("go"), &["mod", "init", "snippet"], &[])?;
        }
        run(&folder, Path::new("go"), &["get", NATS_GO], &[])?;
    }
    Ok(folder)
}

fn account(mesh: &TestMesh) -> [(&'static str, String); 2] {
    [("NATS_URL", mesh.nats.client_url()), ("NATTER_BILLING_PASSWORD", mesh.nats.passwords().billing.clone())]
}

/// Runs a snippet beside a mesh and reads the answer that it prints.
async fn answer(run: impl FnOnce() -> Result<String, String> + Send + 'static) -> Value {
    let text = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

async fn arrived(mesh: &TestMesh, reply: &Value) {
    assert_eq!((&reply["conv"], &reply["seq"]), (&"dm:billing:bob".into(), &1.into()), "{reply}");
    let bob = mesh.json(0, "bob", "d").await;
    assert_eq!(bob.message("dm:billing:bob", 1).await.from.as_str(), "billing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_snippet_sends() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return skip("the Python snippet of docs/services.md", &reason),
    };
    let mesh = TestMesh::start(1).await;
    let env = account(&mesh);
    let folder = std::env::temp_dir();
    let reply = answer(move || run(&folder, &python, &["-c", snippet("python")], &env)).await;
    arrived(&mesh, &reply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_snippet_sends() {
    let folder = match tokio::task::spawn_blocking(go_module).await.unwrap() {
        Ok(folder) => folder,
        Err(reason) => return skip("the Go snippet of docs/services.md", &reason),
    };
    let mesh = TestMesh::start(1).await;
    let env = account(&mesh);
    fs::write(folder.join("main.go"), snippet("go")).unwrap();
    let reply = answer(move || run(&folder, Path::new("go"), &["run", "."], &env)).await;
    arrived(&mesh, &reply).await;
}

#[tokio::test]
async fn the_rust_snippet_sends() {
    let mesh = TestMesh::start(1).await;
    let (url, password) = (mesh.nats.client_url(), mesh.nats.passwords().billing.clone());
    let reply = the_rust_snippet(url, password).await.unwrap();
    arrived(&mesh, &serde_json::from_slice(&reply).unwrap()).await;
    // What ran is what the page shows.
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    assert!(squeezed(include_str!("services_doc.rs")).contains(&squeezed(snippet("rust"))), "the page differs");
}

async fn the_rust_snippet(url: String, password: String) -> Result<bytes::Bytes, Box<dyn std::error::Error>> {
    let client = async_nats::ConnectOptions::with_user_and_password("billing".into(), password)
        .custom_inbox_prefix("_INBOX_billing")
        .connect(url)
        .await?;
    let request = r#"{"cid":"rs-doc-1","body":{"text":"paid"}}"#;
    let answer = client.request("natter.send.billing.user.bob", request.into()).await?;
    println!("{}", String::from_utf8_lossy(&answer.payload));
    Ok(answer.payload)
}
