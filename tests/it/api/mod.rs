//! The HTTP API of services, used as one of them: a mesh of nodes that know the service `billing`, and requests with its
//! token. `mesh::service_ops` has who may what.

mod batches;
mod description;
mod requests;
mod schemathesis;
mod tokens;

use natter::{
    config::{Config, SendAs, Service},
    model::UserId,
};
use serde_json::Value;

use crate::{
    harness::http::{self, Answer},
    mesh::{TestMesh, TestNode, service_token},
};

/// What comes with each request that has nothing wrong in its head.
pub struct Caller {
    bearer: String,
}

impl Caller {
    /// With a good token.
    fn of(service: &str) -> Self {
        Self::with(&service_token(service))
    }

    /// With any token.
    fn with(token: &str) -> Self {
        Self { bearer: format!("Bearer {token}") }
    }

    /// Asks an op of a node.
    async fn ask(&self, node: &TestNode, op: &str, fields: &Value) -> Answer {
        self.say(node, op, &[], fields.to_string().as_bytes()).await
    }

    /// The same with more headers, and with any body.
    async fn say(&self, node: &TestNode, op: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let own = [("Authorization", self.bearer.as_str()), ("Content-Type", "application/json")];
        let headers: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
        http::request(node.addr, "POST", &format!("/v1/{op}"), &headers, body).await.expect("the node must answer")
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Billing may ask over HTTP, and may do what alice may; the service `mute` may not ask over HTTP.
fn services(config: &mut Config) {
    let may_act_for = SendAs::Users(vec![user("alice")]);
    config.services.insert(user("billing"), Service { may_act_for, http: true, ..Service::default() });
    config.services.insert(user("mute"), Service::default());
}

/// A mesh that knows the services.
async fn mesh(nodes: usize) -> TestMesh {
    TestMesh::tuned(nodes, services).await
}

/// A refusal as it must look; gives its code.
fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    let code = problem["code"].as_str().unwrap();
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["type"], format!("/v1/docs#{code}"), "{problem}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 5), "{problem}");
    assert!(problem["title"].as_str().is_some_and(|text| text.ends_with('.')), "{problem}");
    assert_eq!(problem["retry"].as_bool().unwrap(), status == 503 || status == 429, "{problem}");
    code.to_owned()
}
