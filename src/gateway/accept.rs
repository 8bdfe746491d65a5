//! `GET /v1/ws`: the handshake, and from the HTTP connection to a bare TCP stream with a task of its own.
//!
//! Called by the HTTP router. axum's own `ws` hides the stream behind layers that cost 0.5 KB a connection and pins
//! the WebSocket library; the downcast gives the stream back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header},
    response::IntoResponse,
};
use futures_util::FutureExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Gateway, greet::greet, patient::Patient, places::Place, pump::Pump, socket::Socket};
use crate::{
    metrics::Metrics,
    protocol::{CloseReason, Encoding},
};

/// Where proxies say whom they speak for.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Upgrades a request to a WebSocket. Its connection keeps `place` until it is a session.
pub async fn websocket(
    State(gateway): State<Arc<Gateway>>,
    Extension(place): Extension<Arc<Place>>,
    mut request: Request,
) -> Response<Body> {
    let (encoding, answer) = match handshake(&gateway, &place, &request) {
        Ok(done) => done,
        Err((status, text)) => return (status, format!("{text}\n")).into_response(),
    };
    let bearer = bearer_of(request.headers());
    let Some(upgrade) = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "this connection cannot be upgraded\n").into_response();
    };
    gateway.metrics.http_upgrades.inc();
    // A fresh task: the one that served HTTP carries a large future.
    let tracker = gateway.connections.clone();
    tracker.spawn(async move {
        match upgrade.await.map(Upgraded::downcast::<TokioIo<Patient>>) {
            Ok(Ok(parts)) => {
                let stream = parts.io.into_inner().into_inner();
                gateway.connections.spawn(serve(gateway.clone(), stream, parts.read_buf, encoding, bearer, place));
            }
            Ok(Err(_)) => tracing::error!("an upgraded connection is not a TCP stream: it cannot be served"),
            Err(error) => tracing::debug!(%error, "an upgrade failed"),
        }
    });
    answer
}

/// Greets, and hands a connection that became a session over to a task of its own: what the greeting needs is several
/// times what an idle session does.
async fn serve(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    read_ahead: bytes::Bytes,
    encoding: Encoding,
    bearer: Option<String>,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream, &read_ahead, encoding, gateway.settings.frame_bytes);
    // A slice of hyper's whole read buffer: 8 KB, which nobody needs any more.
    drop(read_ahead);
    // A panic costs this connection only: what it held is given back on the way out.
    let greeted = AssertUnwindSafe(greet(&gateway, socket, bearer)).catch_unwind().await;
    match greeted.unwrap_or(Err(CloseReason::Internal)) {
        Ok(pump) => {
            place.leave();
            gateway.connections.spawn(run(pump, gateway.metrics.clone()));
        }
        Err(reason) => ended(&gateway.metrics, reason),
    }
}

/// The whole life of a session, as a task.
pub(super) async fn run(pump: Box<Pump>, metrics: Arc<Metrics>) {
    let reason = pump.run().await;
    ended(&metrics, reason);
}

fn ended(metrics: &Metrics, reason: CloseReason) {
    metrics.closed(reason.label());
    tracing::debug!(reason = reason.label(), "connection ended");
}

/// The status and the text of a handshake that is refused.
type BadHandshake = (StatusCode, &'static str);

fn handshake(gateway: &Gateway, place: &Place, request: &Request) -> Result<(Encoding, Response<Body>), BadHandshake> {
    let headers = request.headers();
    if gateway.is_draining() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, CloseReason::Drain.text()));
    }
    // axum routes HEAD like GET, and HTTP/1.0 has no upgrade.
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET over HTTP/1.1"));
    }
    let forwarded: Vec<_> = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    if !place.is_of_client(&forwarded) {
        return Err((StatusCode::SERVICE_UNAVAILABLE, CloseReason::Overloaded.text()));
    }
    let has = |name, value: &str| {
        let list = headers.get(name).and_then(|list: &HeaderValue| list.to_str().ok()).unwrap_or_default();
        list.split(',').any(|item| item.trim().eq_ignore_ascii_case(value))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint: connect with a WebSocket client"));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Version: must be 13"));
    }
    let key = key_of(headers).map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    check_origin(gateway, headers)?;
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).map(|list| list.to_str().unwrap_or_default());
    let hint = "Sec-WebSocket-Protocol: offer natter.json.v1 or natter.msgpack.v1";
    let encoding = Encoding::negotiate(offered).ok_or((StatusCode::BAD_REQUEST, hint))?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let set = answer.headers_mut();
    set.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    set.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key));
    set.insert(header::SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key: bad"))?);
    if offered.is_some() {
        set.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
    }
    Ok((encoding, answer))
}

/// The one key: 16 bytes in base64. Junk means that whoever asks does not speak the protocol.
fn key_of(headers: &HeaderMap) -> Result<&[u8], &'static str> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter().map(HeaderValue::as_bytes);
    let key = keys.next().ok_or("Sec-WebSocket-Key: missing")?;
    if keys.next().is_some() {
        return Err("Sec-WebSocket-Key: must be there once");
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // 128 bits are 21 digits of six bits and two bits in the last.
    match key.split_last_chunk::<3>() {
        Some((digits, [b'A' | b'Q' | b'g' | b'w', b'=', b'=']))
            if digits.len() == 21 && digits.iter().all(is_base64) =>
        {
            Ok(key)
        }
        _ => Err("Sec-WebSocket-Key: must be 16 bytes in base64"),
    }
}

/// A page cannot forge the origin that its browser sends. Other clients send none and are let in: their token decides.
fn check_origin(gateway: &Gateway, headers: &HeaderMap) -> Result<(), BadHandshake> {
    let allowed = &gateway.settings.origins;
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if allowed.is_empty() || allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        Ok(())
    } else {
        Err((StatusCode::FORBIDDEN, "Origin: not one of http.allowed_origins"))
    }
}

fn bearer_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
