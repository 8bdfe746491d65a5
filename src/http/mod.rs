//! HTTP beside the sockets: health, metrics, the web page, and the door to `/v1/ws`.
//!
//! Built by the node.

pub mod serve;
mod web;

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;

use crate::{
    gateway::{Gateway, accept::websocket},
    metrics::{CONTENT_TYPE, StoreOp},
};

/// All routes of a node.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let sockets = Router::new().route("/v1/ws", get(websocket)).with_state(gateway.clone());
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(gateway)
        .merge(web::routes())
        .merge(sockets)
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    node: String,
    store: String,
    nats: &'static str,
    sessions: usize,
}

/// The store decides; NATS is only a degraded mark (I7).
async fn ready(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    let health = gateway.store.health().await;
    let draining = gateway.draining.load(Ordering::Acquire);
    if health.is_err() {
        gateway.metrics.store_errors.of(StoreOp::Health).inc();
    }
    let ready = health.is_ok() && !draining;
    let store = match health {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    let nats = if gateway.bus.connected().is_some() { "connected" } else { "degraded: not connected" };
    let node = gateway.settings.node.clone();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, node, store, nats, sessions: gateway.registry.len() }))
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], gateway.metrics.encode())
}
