//! The accept loop: TCP connections become HTTP connections, some of which become WebSockets.
//!
//! Called by the node. Not `axum::serve`: that has no time-outs, so anyone could hold descriptors with half a
//! request, and it hides the TCP stream from the upgrade. Every connection needs a place ([`crate::gateway::places`]);
//! those that find none go to [`super::lane`].

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, Version, header},
    response::IntoResponse as _,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Routes, lane::Lane};
use crate::{
    backoff::Backoff,
    gateway::{Gateway, patient::Patient, places::Place},
};

/// After an accept that failed for want of descriptors or memory, at first and at most: others end meanwhile.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Between two log lines about that.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How long an HTTP connection may take for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To send the head of a request, to take some of an answer, and for the last answer after `life`.
    pub request: Duration,
    /// After which no further request is taken.
    pub life: Duration,
}

/// Accepts until `shutdown`, then lets the requests under way end.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    gateway: &Gateway,
    patience: Patience,
    shutdown: CancellationToken,
) {
    let requests = TaskTracker::new();
    let mut lane = Lane::new(routes.probes);
    let mut said = None;
    let mut backoff = Backoff::new(ACCEPT_PAUSE.0, ACCEPT_PAUSE.1);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            never = lane.serve() => match never {},
        };
        if accepted.is_ok() {
            backoff.reset();
        }
        match accepted {
            Ok((stream, peer)) => match gateway.places().enter(peer.ip(), &stream) {
                Ok(place) => {
                    let serving = connection(stream, routes.all.clone(), Some(place), patience, shutdown.clone());
                    requests.spawn(serving);
                }
                Err(crowded) => lane.take(stream, crowded),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                say_seldom(&mut said, &error);
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
    drop((listener, lane));
    requests.close();
    requests.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn say_seldom(said: &mut Option<Instant>, error: &io::Error) {
    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
        *said = Some(Instant::now());
        tracing::error!(%error, "cannot accept connections; raise the limit of open files if that is it");
    }
}

/// Serves one connection to its end. Its requests carry its place where it has one.
pub(super) async fn connection(
    stream: TcpStream,
    router: Router,
    place: Option<Arc<Place>>,
    patience: Patience,
    shutdown: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(place) = place.clone() {
            request.extensions_mut().insert(place);
        }
        let router = router.clone();
        async move {
            match check_host(&request) {
                Ok(()) => router.call(request).await,
                Err(text) => Ok((StatusCode::BAD_REQUEST, text).into_response()),
            }
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.request)
        .serve_connection(TokioIo::new(Patient::new(stream, patience.request)), service)
        .with_upgrades();
    tokio::pin!(serving);
    let done = tokio::select! {
        done = serving.as_mut() => Some(done),
        () = shutdown.cancelled() => None,
        () = tokio::time::sleep(patience.life) => None,
    };
    let done = match done {
        Some(done) => Ok(done),
        None => {
            serving.as_mut().graceful_shutdown();
            timeout(patience.request, serving).await
        }
    };
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended badly"),
        Err(_) => tracing::debug!("an HTTP connection took too long and was cut off"),
    }
}

/// A request with two hosts is read differently by the proxy before us; one of HTTP/1.1 without any is none.
fn check_host<B>(request: &hyper::Request<B>) -> Result<(), &'static str> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match hosts {
        1 => Ok(()),
        0 if request.version() < Version::HTTP_11 => Ok(()),
        0 => Err("Host: missing\n"),
        _ => Err("Host: must be there once\n"),
    }
}
