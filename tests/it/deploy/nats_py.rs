//! A service that is not written in Rust: nats-py from PyPI, in a virtual environment that is kept between runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use natter::protocol::{Body, Encoding};
use serde_json::{Value, json};

use crate::{
    harness::{python::python_with, skip::skip},
    mesh::TestMesh,
};

/// The library and the version that it was tested with; the minor version may grow.
const PACKAGE: &str = "nats-py>=2.9,<3";

/// A Python with the library; `Err` says why there is none.
pub(super) fn python() -> Result<PathBuf, String> {
    python_with("nats", PACKAGE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_service_sends_tries_again_and_hears_who_is_offline() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return skip("a service in Python", &reason),
    };
    let mesh = TestMesh::start(2).await;
    let bob = mesh.json(1, "bob", "d").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/deploy/nats_py/service.py");
    let mut command = Command::new(python);
    command.arg(script).args([mesh.nats.client_url(), mesh.nats.passwords().billing.clone()]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), 6, "{text}");
    assert_eq!((&said[0]["conv"], &said[0]["seq"]), (&json!("dm:billing:bob"), &json!(1)));
    assert_eq!(said[1], said[0], "a retry is answered with the same place and time");
    assert_eq!(said[2]["seq"], 2);
    assert_eq!((&said[3]["error"]["code"], &said[3]["error"]["retry"]), (&json!("bad_frame"), &json!(false)));
    assert_eq!(said[4]["conv"], "dm:billing:nobody");
    let offline = ["event", "user", "from", "conv", "seq"].map(|field| said[5][field].clone());
    assert_eq!(json!(offline), json!(["offline", "nobody", "billing", "dm:billing:nobody", 1]));
    let first = bob.message("dm:billing:bob", 1).await;
    let body: Body = Encoding::Json.decode(br#"{"text":"invoice 17","due":12.5}"#).unwrap();
    assert_eq!((first.from.as_str(), first.body), ("billing", Some(body)));
    bob.message("dm:billing:bob", 2).await;
    assert_eq!(bob.seqs("dm:billing:bob"), [1, 2]);
}
