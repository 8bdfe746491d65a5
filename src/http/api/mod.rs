//! The HTTP API of services: `POST /v1/<op>` with the fields of the op as JSON, a service's token, and the same executor,
//! limits, answers and codes as over NATS. Its description is in [`spec`].
//!
//! One of [`super::routes`]. Requests have room of their own, less than there are places for connections: however long they
//! wait for the store, probes are answered and sockets are opened.

mod asyncapi;
mod fields;
mod head;
mod problem;
mod spec;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use self::problem::Fault;
use crate::{
    config::Services,
    gateway::Gateway,
    metrics::Metrics,
    model::{Cid, MAX_NAME, UserId},
    ops::Ops,
    protocol::{Encoding, ErrorCode, Op, Outcome, Refused, ask::SEND_MANY_LIMIT, takes::Beside},
    services::{self, op_named, reply},
};

/// Requests under way at most, where there are places for so many connections.
const AT_ONCE: usize = 512;
/// When to come back where all of them are taken, in milliseconds.
const FULL_MS: std::ops::Range<u64> = 500..1_500;
/// What a user takes in the list of a `send_many`.
const LISTED: usize = MAX_NAME + 8;
/// How long a browser may go by an answer about origins.
const CORS_AGE: Duration = Duration::from_secs(600);

/// What the API may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most bytes of a request's body; of a `send_many` besides its list of users.
    pub body_bytes: usize,
    /// A request must have come whole, and then be answered, within this time each.
    pub within: Duration,
    /// Connections that a node has places for.
    pub connections: usize,
    /// The origins whose pages may call it, as in `http.cors_origins`.
    pub cors_origins: Vec<String>,
}

/// The API of a node.
pub struct Api {
    /// Has the keys that tokens are verified with.
    gateway: Arc<Gateway>,
    ops: Arc<Ops>,
    services: Services,
    metrics: Arc<Metrics>,
    settings: Settings,
    room: Semaphore,
}

impl Api {
    /// Puts the parts together.
    pub fn new(
        gateway: Arc<Gateway>,
        ops: Arc<Ops>,
        services: Services,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Arc<Self> {
        let room = Semaphore::new(AT_ONCE.min(settings.connections / 2).max(1));
        Arc::new(Self { gateway, ops, services, metrics, settings, room })
    }

    /// Its routes.
    pub(super) fn routes(self: Arc<Self>) -> Router {
        let origins = self.settings.cors_origins.clone();
        let routes = Router::new()
            .route("/v1/openapi.json", get(spec::show))
            .route("/v1/asyncapi.json", get(asyncapi::show))
            .route("/v1/{op}", any(perform));
        let routes = routes.with_state(self);
        if origins.is_empty() { routes } else { routes.route_layer(cors(&origins)) }
    }

    async fn answer(&self, word: &str, request: Request, who: &mut Option<UserId>) -> Result<Bytes, Fault> {
        let op = op_named(word)?;
        if request.method() != Method::POST {
            return Err(Fault::of_form(StatusCode::METHOD_NOT_ALLOWED, "ops are asked with POST").ending());
        }
        let (parts, body) = request.into_parts();
        // Before there is room for it: whoever has no token takes none from those who have.
        let (service, key) = self.head(&parts.headers, who).await.map_err(Fault::ending)?;
        let Ok(_room) = self.room.try_acquire() else {
            let text = "too many requests are under way on this node, try again";
            let refused = Refused::new(ErrorCode::Unavailable, text).after(rand::random_range(FULL_MS));
            return Err(Fault::from(refused).ending());
        };
        let payload = self.payload(op, &parts.headers, body).await.map_err(Fault::ending)?;
        let beside = Beside { to: None, cid: key.as_ref().map(Cid::as_str) };
        let request = services::Request { service, op, encoding: Encoding::Json, payload: &payload, beside, cid: None };
        let (caller, ask) = request.read(&self.ops)?;
        // The room for bodies is needed no more once it is an ask.
        drop(payload);
        let (told, outcome) = oneshot::channel();
        self.ops.perform(&caller, ask, move |outcome| drop(told.send(outcome)));
        let outcome: Outcome = match timeout(self.settings.within, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Refused::new(
                ErrorCode::Unavailable,
                "no answer came in time, the outcome is unknown: try again, with the same cid",
            )),
        };
        Ok(reply::answer(Encoding::Json, &outcome?, &self.metrics))
    }

    /// Who asks, and with which key.
    async fn head(&self, headers: &HeaderMap, who: &mut Option<UserId>) -> Result<(UserId, Option<Cid>), Fault> {
        let token = head::bearer(headers)?;
        let verifier = self.gateway.verifier();
        if verifier.lacks_key(token) {
            verifier.fetch_again().await;
        }
        let claims = verifier.verify_service(token);
        let service = claims.map_err(|error| Fault::unknown_caller(format!("token: {error}")))?.service;
        *who = Some(service.clone());
        if !self.services.may_use_http(&service) {
            let text = format!("token: {service} may not ask over HTTP (services.{service}.http)");
            return Err(Refused::new(ErrorCode::Unauthorized, text).into());
        }
        head::is_json(headers)?;
        Ok((service, head::key(headers)?))
    }

    async fn payload(&self, op: Op, headers: &HeaderMap, body: Body) -> Result<Bytes, Fault> {
        let most = self.settings.body_bytes + if op == Op::SendMany { SEND_MANY_LIMIT * LISTED } else { 0 };
        let too_large = || {
            let text = format!("the body of the request is over {most} bytes");
            Fault::from(Refused::new(ErrorCode::TooLarge, text))
        };
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if told.is_some_and(|length| length > most) {
            return Err(too_large());
        }
        match timeout(self.settings.within, Limited::new(body, most).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => {
                let text = format!("the body of the request could not be read: {error}");
                Err(Fault::of_form(StatusCode::BAD_REQUEST, text))
            }
            Err(_) => {
                let text = "the body of the request did not come in time (http.request_timeout_secs)";
                Err(Fault::of_form(StatusCode::REQUEST_TIMEOUT, text))
            }
        }
    }
}

async fn perform(State(api): State<Arc<Api>>, Path(word): Path<String>, request: Request) -> Response {
    let began = Instant::now();
    let id = head::request_id(request.headers());
    let shown = id.to_str().unwrap_or("-");
    let mut who = None;
    let done = api.answer(&word, request, &mut who).await;
    log(shown, &word, who.as_ref(), done.as_ref().err(), began.elapsed());
    let counted = done.as_ref().map_err(|fault| &fault.refused);
    reply::count(&api.metrics, counted.err());
    let mut response = match done {
        Ok(json) => (HEADS, json).into_response(),
        Err(fault) => fault.into_response(shown),
    };
    response.headers_mut().insert(head::REQUEST_ID, id);
    response
}

/// Of what was done: nobody on the way keeps a message or a token.
const HEADS: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// What a service did wrong is worth a line; what anybody else does, and what load does, would fill the log.
fn log(id: &str, op: &str, service: Option<&UserId>, fault: Option<&Fault>, took: Duration) {
    let service = service.map(UserId::as_str);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match fault {
        None => tracing::debug!(request_id = id, op, service, ms, "an HTTP request was answered"),
        Some(Fault { status, refused: Refused { code, message: why, .. }, .. }) => {
            let (status, code) = (status.as_u16(), code.word());
            if service.is_some() && status < 500 && status != 429 {
                tracing::info!(request_id = id, op, service, status, code, why, ms, "an HTTP request was refused");
            } else {
                tracing::debug!(request_id = id, op, service, status, code, why, ms, "an HTTP request was refused");
            }
        }
    }
}

fn cors(origins: &[String]) -> CorsLayer {
    let named = origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok());
    let allowed = if origins.iter().any(|origin| origin == "*") { Any.into() } else { AllowOrigin::list(named) };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, head::IDEMPOTENCY_KEY, head::REQUEST_ID])
        .expose_headers([head::REQUEST_ID, header::RETRY_AFTER])
        .max_age(CORS_AGE)
}
