//! This machine: descriptors, the port, the keys that check tokens.

use std::io;

use serde::Deserialize;
use tokio::net::TcpListener;

use super::{
    super::health::{ask, reachable},
    finding::Finding,
};
use crate::{auth::Verifier, config::Config, descriptors};

const PART: &str = "host";

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    vec![open_files(config), port(config).await, keys(config).await]
}

fn open_files(config: &Config) -> Finding {
    let clients = u64::from(config.limits.sessions_per_node) + u64::from(config.http.connections);
    let need = clients + descriptors::reserve(usize::MAX) as u64;
    let (soft, hard) = match descriptors::limits() {
        Ok(limits) => limits,
        Err(e) => {
            return Finding::warn(PART, "descriptors", format!("cannot read the limit: {e}"), "check with ulimit -n");
        }
    };
    let says = format!("{hard} allowed, {need} needed for limits.sessions_per_node and http.connections");
    // A node raises the soft limit itself.
    if soft.max(hard) >= need {
        return Finding::ok(PART, "descriptors", says);
    }
    let fix = format!(
        "raise the hard limit: ulimit -Hn {need}, or LimitNOFILE={need} in the unit, which for a pod is that of the container \
         runtime; a node lowers limits.sessions_per_node to what fits"
    );
    Finding::warn(PART, "descriptors", says, fix)
}

/// Free, or held by the node that this configuration is of.
async fn port(config: &Config) -> Finding {
    let listen = config.http.listen;
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::ok(PART, "port", format!("{listen} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => holder(config).await,
        Err(e) => Finding::fail(
            PART,
            "port",
            format!("cannot listen on {listen}: {e}"),
            "set http.listen to an address of this machine, and a port above 1023 or the right to use it",
        ),
    }
}

#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    node: String,
}

async fn holder(config: &Config) -> Finding {
    let listen = config.http.listen;
    let answer = ask(&reachable(listen).to_string(), "/readyz").await.ok();
    let Some(held) = answer.and_then(|answer| serde_json::from_str::<Readiness>(&answer.body).ok()) else {
        let says = format!("{listen} is taken by something other than natter");
        return Finding::fail(PART, "port", says, "stop that, or set http.listen to another port");
    };
    let Readiness { ready, node } = held;
    if node != config.node.name.as_str() {
        let says = format!("{listen} is taken by node {node}, but this configuration is for {}", config.node.name);
        return Finding::fail(PART, "port", says, "set http.listen to another port");
    }
    if ready {
        Finding::ok(PART, "port", format!("{listen} is held by {node}, which is running and ready"))
    } else {
        let says = format!("{listen} is held by {node}, which is not ready");
        Finding::fail(PART, "port", says, "natter health says why; it may be draining")
    }
}

async fn keys(config: &Config) -> Finding {
    match Verifier::start(&config.auth, None).await {
        Ok(_) => Finding::ok(PART, "token keys", "can be read"),
        Err(error) => {
            Finding::fail(PART, "token keys", error.to_string(), "natter config --default shows the keys of [auth]")
        }
    }
}
