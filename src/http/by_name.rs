//! Signing in to the page with a name and nothing else, on the nodes of `natter dev` only. Part of [`super::routes`], where
//! the node was given something to sign with.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use crate::{auth::Minter, model::UserId};

const TTL: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Deserialize)]
struct Who {
    user: String,
}

/// Whether it is offered, and the token of a name.
pub(super) fn routes(minter: Arc<Minter>) -> Router {
    Router::new().route("/v1/dev", get(offer)).route("/v1/dev/token", post(token)).with_state(minter)
}

async fn offer(headers: HeaderMap) -> Response {
    if !is_here(&headers) {
        return refusal(StatusCode::FORBIDDEN, "only pages of this machine may ask");
    }
    Json(json!({"by_name": true})).into_response()
}

async fn token(State(minter): State<Arc<Minter>>, headers: HeaderMap, body: String) -> Response {
    if !is_here(&headers) {
        return refusal(StatusCode::FORBIDDEN, "only pages of this machine may ask");
    }
    let Ok(Who { user }) = serde_json::from_str(&body) else {
        return refusal(StatusCode::BAD_REQUEST, r#"say who: {"user": "alice"}"#);
    };
    match UserId::new(&user).map_err(|error| error.to_string()).map(|user| minter.mint(&user, TTL)) {
        Ok(Ok(token)) => Json(json!({"token": token})).into_response(),
        Ok(Err(error)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(words) => refusal(StatusCode::BAD_REQUEST, &format!("user: {words}")),
    }
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({"detail": detail}))).into_response()
}

/// Whether the browser was led here by an address of this machine: a foreign name that was made to point here would give a
/// foreign page everybody's tokens.
fn is_here(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}
