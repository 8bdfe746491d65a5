//! From an upgraded socket to a session: `hello`, token, limits, subscription and fence, device, `welcome`.
//!
//! Called by [`super::accept`] in the connection's own task. Its future is dropped before the pump runs, so what
//! it needs costs an idle connection nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::timeout;

use super::{
    Gateway,
    mailbox::Mailbox,
    pump::Pump,
    registry::SessionHandle,
    requests::{check_token, code_of, counted},
    socket::{Incoming, Socket},
};
use crate::{
    bus::BusError,
    metrics::{FrameOp, StoreOp},
    model::{Device, SessionId, SessionRank, UserId, now_millis},
    protocol::{
        ClientFrame, CloseReason, ErrorCode, Request, ServerFrame,
        client::Hello,
        server::{Limits, Welcome},
    },
    session::{Expiry, Identity, Joined, refusal},
};

/// Greets a connection; the pump that comes back runs it.
///
/// # Errors
/// Why the connection was refused; it is closed with that.
pub async fn greet(
    gateway: &Arc<Gateway>,
    mut socket: Socket,
    bearer: Option<String>,
) -> Result<Box<Pump>, CloseReason> {
    let refused = match admit(gateway, &mut socket, bearer).await {
        Ok(entry) => match enter(gateway, &mut socket, &entry).await {
            Ok(()) => return start(gateway, socket, entry),
            Err(reason) => {
                gateway.registry.leave(&entry.handle);
                reason
            }
        },
        Err(reason) => reason,
    };
    socket.end(refused).await;
    Err(refused)
}

/// A session that is in the registry but not yet welcome.
struct Entry {
    handle: Arc<SessionHandle>,
    expiry: Expiry,
    reference: Option<u64>,
}

fn refuse(
    gateway: &Gateway,
    socket: &mut Socket,
    reference: Option<u64>,
    code: ErrorCode,
    text: &str,
    reason: CloseReason,
) -> CloseReason {
    gateway.metrics.error(code.word());
    let frame = socket.encoding().encode(&refusal(reference, code, text));
    match socket.write(frame) {
        Ok(()) => reason,
        Err(gone) => gone,
    }
}

async fn admit(gateway: &Arc<Gateway>, socket: &mut Socket, bearer: Option<String>) -> Result<Entry, CloseReason> {
    let hello = timeout(gateway.settings.hello_timeout, read_hello(gateway, socket));
    let (reference, hello) = hello.await.map_err(|_| CloseReason::HelloTimeout)??;
    gateway.metrics.frames_in.of(FrameOp::Hello).inc();
    let (user, expiry) = match hello.token.as_deref().or(bearer.as_deref()).map(|t| check_token(gateway, None, t)) {
        Some(Ok(known)) => known,
        Some(Err((expired, text))) => {
            let reason = if expired { CloseReason::TokenExpired } else { CloseReason::BadToken };
            return Err(refuse(gateway, socket, reference, ErrorCode::Unauthorized, &text, reason));
        }
        None => {
            let text = "token: missing, put it into hello or into the Authorization header";
            return Err(refuse(gateway, socket, reference, ErrorCode::Unauthorized, text, CloseReason::BadToken));
        }
    };
    let handle = handle_of(socket, user, hello);
    gateway.registry.join(&handle, |local| gateway.router.inbound(local)).map_err(|_full| CloseReason::Overloaded)?;
    Ok(Entry { handle, expiry, reference })
}

fn handle_of(socket: &Socket, user: UserId, hello: Hello) -> Arc<SessionHandle> {
    let rank = SessionRank { attempt: hello.attempt, session: SessionId::random() };
    tracing::debug!(%user, device = %hello.device, session = %rank.session, client = hello.client, "hello");
    Arc::new(SessionHandle {
        identity: Identity { user, device: hello.device, rank },
        encoding: socket.encoding(),
        mailbox: Mailbox::default(),
        active_at: AtomicU64::new(0),
    })
}

async fn read_hello(gateway: &Gateway, socket: &mut Socket) -> Result<(Option<u64>, Hello), CloseReason> {
    let payload = loop {
        match socket.incoming().await? {
            Incoming::Sign => {}
            Incoming::Frame(payload) => break payload,
            Incoming::WrongKind => return Err(CloseReason::Violation),
        }
    };
    let (reference, code, text) = match Request::decode(socket.encoding(), &payload, gateway.rules.body_bytes) {
        Ok(Request { reference, frame: ClientFrame::Hello(hello) }) => return Ok((reference, hello)),
        Ok(Request { reference, .. }) => (reference, ErrorCode::BadFrame, "op: the first frame must be hello".into()),
        Err(error) => (error.reference, error.code, error.message),
    };
    Err(refuse(gateway, socket, reference, code, &text, CloseReason::Violation))
}

/// Fences the subscription and registers the device, at the same time; then `welcome`.
async fn enter(gateway: &Gateway, socket: &mut Socket, entry: &Entry) -> Result<(), CloseReason> {
    // The drain tells the sessions that it finds; whoever joins after that sees the mark.
    if gateway.draining.load(Ordering::Acquire) {
        return Err(CloseReason::Drain);
    }
    let identity = &entry.handle.identity;
    let device = Device { user: identity.user.clone(), device: identity.device.clone() };
    let register = gateway.store.marks.register_device(&device);
    let (fenced, registered) = tokio::join!(fence(gateway), register);
    if let Err(error) = fenced {
        // I7: the session goes on without; the reconnect will fence and compare.
        tracing::debug!(user = %identity.user, %error, "no fence at the start of a session");
    }
    if let Err(error) = counted(&gateway.metrics, StoreOp::RegisterDevice, registered) {
        let (code, text) = (code_of(&error), error.to_string());
        return Err(refuse(gateway, socket, entry.reference, code, &text, CloseReason::StoreDown));
    }
    let welcome = ServerFrame::Welcome(Welcome {
        reference: entry.reference,
        user: identity.user.clone(),
        device: identity.device.clone(),
        session: identity.rank.session.clone(),
        node: gateway.settings.node.clone(),
        ts: now_millis(),
        exp: entry.expiry.at,
        ping_secs: gateway.rules.ping / 1000,
        limits: Limits { body: gateway.rules.body_bytes, window: gateway.rules.window as usize },
    });
    socket.write(socket.encoding().encode(&welcome))
}

/// The fence belongs to one generation of the connection (R10): when that changes meanwhile, once more.
async fn fence(gateway: &Gateway) -> Result<u64, BusError> {
    match gateway.bus.fence().await {
        Err(BusError::Reconnected) => gateway.bus.fence().await,
        done => done,
    }
}

fn start(gateway: &Arc<Gateway>, socket: Socket, entry: Entry) -> Result<Box<Pump>, CloseReason> {
    let mut first = Vec::new();
    let phase = rand::random_range(0..1000);
    let identity = entry.handle.identity.clone();
    let session = Joined::start(identity, gateway.rules.clone(), entry.expiry, phase, gateway.now(), &mut first);
    gateway.metrics.sessions_opened.inc();
    let pump = Pump::new(gateway.clone(), entry.handle.clone(), socket, session, first);
    if pump.is_err() {
        gateway.registry.leave(&entry.handle);
    }
    pump
}
