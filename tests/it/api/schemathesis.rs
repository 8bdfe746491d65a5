//! Schemathesis, from PyPI, against a running node: requests that it makes up from the description, good and bad. No answer
//! may be one that the description does not have, and none a 500.

use std::process::Command;

use natter::{
    client::{Client, ClientOptions, NewRoom},
    config::{SendAs, Service, Star},
    model::RoomId,
};

use super::user;
use crate::{
    harness::{python::python_with, skip::skip},
    mesh::{TestMesh, service_token, token},
};

const PACKAGE: &str = "schemathesis>=4,<5";
/// Made-up requests for each op and phase: all of it takes about a minute.
const EXAMPLES: &str = "15";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,ignored_auth";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_made_up_request_gets_an_answer_that_is_not_described() {
    let python = match tokio::task::spawn_blocking(|| python_with("schemathesis", PACKAGE)).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return skip("the requests that Schemathesis makes up", &reason),
    };
    // For anybody, whoever is made up.
    let mesh = TestMesh::tuned(1, |config| {
        let may_act_for = SendAs::Anyone(Star::Star);
        config.services.insert(user("billing"), Service { may_act_for, http: true, ..Service::default() });
    })
    .await;
    // Something to find: what is asked for names nothing at all otherwise.
    let alice = Client::connect(ClientOptions::new(mesh.nodes[0].url(), token("alice"), "c")).await.unwrap();
    let room = Some(RoomId::new("lobby").unwrap());
    alice.create_room(NewRoom { room, public: true, ..NewRoom::default() }).await.unwrap();
    let url = format!("http://{}/v1/openapi.json", mesh.nodes[0].addr);
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .args([
            "run",
            &url,
            "--checks",
            CHECKS,
            "--max-examples",
            EXAMPLES,
            "--seed",
            "1",
            "--suppress-health-check",
            "all",
        ])
        .args(["--header", &format!("Authorization: Bearer {}", service_token("billing"))])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "2", "--max-failures", "20", "--no-color"])
        .current_dir(std::env::temp_dir());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Fails where it ran nothing at all.
    let answered = mesh.nodes[0].metric("natter_service_requests_total").await;
    assert!(answered > 1_000.0, "only {answered} requests came: {said}");
}
