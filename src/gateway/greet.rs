//! From an upgraded socket to a session: reads the `hello`, checks its token, joins the registry, fences the subscription,
//! registers the device and numbers the connection. What each of these means is decided by [`crate::session::greeting`].
//!
//! Called by [`super::accept`] in the connection's own task. Its future is dropped before the pump runs, so what
//! it needs costs an idle connection nothing.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    Gateway,
    joined::Joined,
    pump::Pump,
    socket::{Arrived, Socket},
};
use crate::{
    metrics::Metrics,
    model::{SessionId, now_millis},
    ops::Ops,
    overload::{Class, Turn},
    protocol::{
        CloseReason, Op, Request, ServerFrame,
        event::{self, EventKind, What},
    },
    routing::SessionHandle,
    session::{
        Greeting, Rejection, Stamped,
        greeting::{Arrival, Entering, Introduced},
    },
    store::Entered,
};

/// When whoever found no room may come back.
const COME_BACK_MS: std::ops::Range<u64> = 3_000..15_000;

/// Greets a connection; the pump that comes back runs it.
///
/// # Errors
/// Why the connection was refused; it was closed with that.
pub(super) async fn greet(
    gateway: &Arc<Gateway>,
    mut socket: Socket,
    bearer: Option<String>,
) -> Result<Box<Pump>, CloseReason> {
    let rejection = match admit(gateway, &mut socket, bearer).await {
        Ok((entering, joined, turn)) => match enter(gateway, &entering, turn).await {
            Ok((entered, stamps)) => {
                // A client that went away while it waited must not replace the session that it has made since.
                let Some(gone) = socket.look_ahead() else {
                    let entering = entering.on_entered(entered.number, entered.life);
                    return start(gateway, socket, entering, joined, entered, stamps);
                };
                Rejection::silent(gone)
            }
            Err(refused) => {
                refused.map_or(Rejection::silent(CloseReason::Drain), |refused| entering.on_store_down(refused))
            }
        },
        Err(rejection) => rejection,
    };
    Err(reject(&gateway.metrics, socket, rejection).await)
}

async fn reject(metrics: &Metrics, mut socket: Socket, rejection: Rejection) -> CloseReason {
    if let Some(frame) = &rejection.frame {
        if let ServerFrame::Error { code, .. } = &**frame {
            metrics.error(code.word());
        }
        socket.write(&socket.encoding().encode(&**frame));
    }
    socket.end(rejection.reason).await;
    rejection.reason
}

async fn admit(
    gateway: &Arc<Gateway>,
    socket: &mut Socket,
    bearer: Option<String>,
) -> Result<(Entering, Joined, Turn), Rejection> {
    let hello = timeout(gateway.settings.hello_timeout, read_hello(socket));
    let introduced = hello.await.map_err(|_| Rejection::silent(CloseReason::HelloTimeout))??;
    gateway.metrics.frames_in.of(Op::Hello).inc();
    let checked = match introduced.token().or(bearer.as_deref()) {
        Some(token) => Some(gateway.check_first_token(token).await),
        None => None,
    };
    if let Some(Err((_, reason))) = &checked {
        tracing::info!(address = socket.address(), reason, "a token was refused");
    }
    let entering = introduced.on_token(checked, SessionId::random())?;
    if !gateway.hellos.admit(&entering.identity().device.user) {
        return Err(come_back_later());
    }
    let turn = wait_in_line(gateway, socket).await?;
    let identity = entering.identity();
    tracing::debug!(user = %identity.device.user, device = %identity.device.device, session = %identity.rank.session, "hello");
    let handle = Arc::new(SessionHandle::new(identity.clone(), socket.encoding()));
    if gateway.registry.join(&handle, |listeners| gateway.ops.router().inbound(listeners)).is_err() {
        turn.give_back();
        return Err(come_back_later());
    }
    Ok((entering, Joined::of(gateway, handle), turn))
}

/// Waits for the login's turn: what it asks of the store comes after this.
async fn wait_in_line(gateway: &Gateway, socket: &mut Socket) -> Result<Turn, Rejection> {
    let turn = gateway.overload.turn_within(gateway.settings.login_wait, Class::Login, Ops::login_cost()).await;
    if gateway.is_draining() {
        turn.into_iter().for_each(Turn::give_back);
        return Err(Rejection::silent(CloseReason::Drain));
    }
    let turn = turn.map_err(|_busy| come_back_later())?;
    // Whoever has left the line asks nothing of the store.
    match socket.look_ahead() {
        Some(gone) => {
            turn.give_back();
            Err(Rejection::silent(gone))
        }
        None => Ok(turn),
    }
}

/// No room: each is told a moment of its own, so that they do not come back together.
fn come_back_later() -> Rejection {
    Rejection::overloaded(rand::random_range(COME_BACK_MS))
}

async fn read_hello(socket: &mut Socket) -> Result<Introduced, Rejection> {
    loop {
        match socket.arrived().await.map_err(Rejection::silent)? {
            Arrived::Control => {}
            Arrived::Frame(payload) => return Greeting.on_frame(Request::decode(socket.encoding(), &payload)),
            Arrived::WrongKind => return Err(Rejection::silent(CloseReason::Violation)),
        }
    }
}

/// Fences the subscription, and then has the store enter the device: what it reads there the first comparison begins with
/// (R10). `Err(None)`: the node drains.
async fn enter(
    gateway: &Gateway,
    entering: &Entering,
    turn: Turn,
) -> Result<(Entered, Stamped), Option<crate::protocol::Refused>> {
    // The drain tells the sessions that it finds; who joins later sees the flag.
    if gateway.is_draining() {
        turn.give_back();
        return Err(None);
    }
    let device = &entering.identity().device;
    if let Err(error) = gateway.ops.router().fence_user(&device.user).await {
        // I7: the session goes on without; the reconnect will fence and compare.
        tracing::debug!(user = %device.user, %error, "no fence at the start of a session");
    }
    let entered = gateway.ops.enter(device).await;
    turn.end(Ops::login_cost(), entered.is_ok());
    let (entered, stamps) = entered.map_err(Some)?;
    if entered.is_new {
        gateway.hellos.count_device(&device.user);
    }
    Ok((entered, stamps))
}

fn start(
    gateway: &Arc<Gateway>,
    socket: Socket,
    entering: Entering,
    joined: Joined,
    entered: Entered,
    stamps: Stamped,
) -> Result<Box<Pump>, CloseReason> {
    let Some(handle) = joined.take() else { return Err(CloseReason::Gone) };
    handle.enter(entered.life);
    let (session, first) = entering.on_registered(Arrival {
        rules: gateway.rules.clone(),
        node: gateway.settings.node.clone(),
        ts: now_millis(),
        now: gateway.clock.now(),
        phase: rand::random_range(0..1000),
        is_new: entered.is_new,
        stamps,
    });
    gateway.metrics.sessions_opened.inc();
    let (device, rank) = (&handle.identity.device, &handle.identity.rank);
    tracing::info!(
        user = %device.user, device = %device.device, session = %rank.session, address = socket.address(), "session opened"
    );
    let pump = Pump::new(gateway.clone(), handle.clone(), socket, session, first)?;
    tell_session(gateway, &handle, None);
    Ok(pump)
}

/// Services are told of a session that starts, or ends for a reason.
pub(super) fn tell_session(gateway: &Gateway, handle: &SessionHandle, ended: Option<CloseReason>) {
    gateway.ops.router().events().tell(EventKind::Session, || {
        let (device, rank) = (&handle.identity.device, &handle.identity.rank);
        let (user, device, session) = (device.user.clone(), device.device.clone(), rank.session.clone());
        let reason = ended.map(|reason| reason.label().into());
        What::Session(event::Session { user, device, session, started: ended.is_none(), reason })
    });
}
