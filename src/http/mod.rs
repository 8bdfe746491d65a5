//! HTTP beside the sockets: health, metrics, the web page, the API of services, and the door to `/v1/ws`.
//!
//! Built by the node.

pub mod api;
mod by_name;
mod lane;
pub mod serve;
mod web;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;

use crate::{
    auth::Minter,
    bus::cells::Cells,
    gateway::{Gateway, accept::websocket},
    metrics::{CONTENT_TYPE, Metrics, StoreOp},
    store::Store,
};

/// What HTTP shows of a node.
#[derive(Clone)]
pub struct Shown {
    /// The door to `/v1/ws`, and whether the node is about to end.
    pub gateway: Arc<Gateway>,
    /// Whether it takes writes.
    pub store: Store,
    /// Whether NATS is there.
    pub cells: Cells,
    /// All counts.
    pub metrics: Arc<Metrics>,
    /// What services ask.
    pub api: Arc<api::Api>,
    /// Who may show the page in a frame, as in `http.frame_ancestors`.
    pub frame_ancestors: Vec<String>,
    /// Signs the tokens of those who say a name and nothing else: only on the nodes of `natter dev`.
    pub by_name: Option<Arc<Minter>>,
}

/// The routes of a node.
pub struct Routes {
    /// All of them.
    pub all: Router,
    /// For connections that found no room: the probes, and a 503 for the rest.
    pub probes: Router,
}

/// The routes of a node.
pub fn routes(shown: Shown) -> Routes {
    let by_name = shown.by_name.clone().map_or_else(Router::new, by_name::routes);
    let page = web::routes(&shown.frame_ancestors).merge(by_name);
    let sockets = Router::new().route("/v1/ws", get(websocket)).with_state(shown.gateway.clone());
    let api = shown.api.clone().routes();
    let probes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    Routes { all: probes.clone().merge(page).merge(sockets).merge(api), probes: probes.fallback(no_room) }
}

async fn no_room() -> impl IntoResponse {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONNECTION, "close")], "too many connections, try another node\n")
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    node: String,
    store: String,
    nats: String,
    sessions: usize,
}

/// The store decides; NATS that is away is only a degraded mark (I7). NATS that refuses the node is a fault of its
/// configuration, which waiting does not mend: such a node is not ready.
async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    let Shown { gateway, store, cells, metrics, .. } = shown;
    let health = store.engine.health().await;
    if health.is_err() {
        metrics.store_errors.of(StoreOp::Health).inc();
    }
    let refusal = cells.refusal();
    let ready = health.is_ok() && refusal.is_none() && !gateway.is_leaving();
    let store = match health {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    let nats = match (refusal, cells.away(), cells.count()) {
        (Some(words), ..) => format!("refused: {words}"),
        (None, 0, _) => "connected".to_owned(),
        (None, _, 1) => "degraded: not connected".to_owned(),
        (None, away, count) => format!("degraded: not connected to {away} of {count} cells"),
    };
    let node = gateway.node().to_owned();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, node, store, nats, sessions: gateway.sessions() }))
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shown.metrics.encode())
}
