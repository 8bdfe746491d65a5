//! A connection until its `welcome`: which frame may come first, whose token is taken, and what a connection is told
//! that is refused. Each state's handler takes the state and returns the next one.
//!
//! Called by the gateway, which reads the socket, checks the token, and registers session and device in between.

use std::sync::Arc;

use super::{Effect, Expiry, Identity, Rules, Session, Stamped, Tick};
use crate::{
    model::{Device, Millis, SessionId, SessionRank, Since, UserId},
    protocol::{
        ClientFrame, CloseReason, ErrorCode, Refused, Request, ServerFrame,
        client::{FrameError, Hello},
        server::{Limits, Welcome},
    },
};

/// A connection that is not let in: what it is told, and how it is closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// What is said first.
    pub frame: Option<Box<ServerFrame>>,
    /// How the connection is closed.
    pub reason: CloseReason,
}

impl Rejection {
    /// Closed without a word.
    pub fn silent(reason: CloseReason) -> Self {
        Self { frame: None, reason }
    }

    /// Closed because there is no room now, after it was said when to come back.
    pub fn overloaded(reconnect_ms: u64) -> Self {
        let reason = CloseReason::Overloaded;
        let frame = ServerFrame::Goodbye { reason: reason.label().into(), reconnect_ms };
        Self { frame: Some(Box::new(frame)), reason }
    }

    fn refused(reference: Option<u64>, refused: Refused, reason: CloseReason) -> Self {
        Self { frame: Some(Box::new(refused.into_frame(reference))), reason }
    }
}

/// Waits for `hello`.
#[derive(Debug)]
pub struct Greeting;

/// Said `hello`; its token is not checked yet.
#[derive(Debug)]
pub struct Introduced {
    reference: Option<u64>,
    hello: Hello,
}

/// Its token was taken; next the store numbers its connection and registers its device.
#[derive(Debug)]
pub struct Entering {
    reference: Option<u64>,
    identity: Identity,
    expiry: Expiry,
    /// Up to where its client says it has everything.
    since: Option<Since>,
}

/// Where and when a session starts.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// What it keeps to.
    pub rules: Arc<Rules>,
    /// The node's name.
    pub node: String,
    /// The node's wall clock.
    pub ts: Millis,
    /// The session's clock.
    pub now: Tick,
    /// 0 to 999: spreads the slow sweeps of many sessions.
    pub phase: u64,
    /// The device was not known before: it has nothing, whatever its client says.
    pub is_new: bool,
    /// The stamps of the inbox, read after the subscription was fenced (R10).
    pub stamps: Stamped,
}

/// What a checked token says, or whether it is merely too old, and what is wrong in words.
pub type CheckedToken = Result<(UserId, Expiry), (bool, String)>;

impl Greeting {
    /// The first frame.
    ///
    /// # Errors
    /// When it is not a proper `hello`.
    pub fn on_frame(self, decoded: Result<Request, FrameError>) -> Result<Introduced, Rejection> {
        let (reference, refused) = match decoded {
            Ok(Request { reference, frame: ClientFrame::Hello(hello) }) => return Ok(Introduced { reference, hello }),
            Ok(Request { reference, .. }) => {
                (reference, Refused::new(ErrorCode::BadFrame, "op: the first frame must be hello"))
            }
            Err(FrameError { reference, refused }) => (reference, refused),
        };
        Err(Rejection::refused(reference, refused, CloseReason::Violation))
    }
}

impl Introduced {
    /// The token in the frame.
    pub fn token(&self) -> Option<&str> {
        self.hello.token.as_deref()
    }

    /// The token was checked; `None` where there was none. `session` is a fresh id.
    ///
    /// # Errors
    /// When it was refused.
    pub fn on_token(self, checked: Option<CheckedToken>, session: SessionId) -> Result<Entering, Rejection> {
        let Self { reference, hello } = self;
        let (reason, text) = match checked {
            Some(Ok((user, expiry))) => {
                let rank = SessionRank { number: 0, attempt: hello.attempt, session };
                let identity = Identity { device: Device::new(user, hello.device), rank };
                let since = hello.since.as_deref().and_then(Since::parse);
                return Ok(Entering { reference, identity, expiry, since });
            }
            Some(Err((true, text))) => (CloseReason::TokenExpired, text),
            Some(Err((false, text))) => (CloseReason::BadToken, text),
            None => {
                let text = "token: missing, put it into hello or into the Authorization header";
                (CloseReason::BadToken, text.to_owned())
            }
        };
        Err(Rejection::refused(reference, Refused::new(ErrorCode::Unauthorized, text), reason))
    }
}

impl Entering {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The store knows the device, in this life, and gave this connection a number.
    pub fn on_entered(mut self, number: u64, life: u64) -> Self {
        self.identity.rank.number = number;
        self.identity.device.life = life;
        self
    }

    /// The store could not do that.
    pub fn on_store_down(self, refused: Refused) -> Rejection {
        Rejection::refused(self.reference, refused, CloseReason::StoreDown)
    }

    /// The device is registered and the subscription fenced (or could not be): the session starts.
    pub fn on_registered(self, arrival: Arrival) -> (Session, Vec<Effect>) {
        let Self { reference, identity, expiry, since } = self;
        let mut out = vec![Effect::Frame(ServerFrame::Welcome(Welcome {
            reference,
            user: identity.device.user.clone(),
            device: identity.device.device.clone(),
            session: identity.rank.session.clone(),
            new: arrival.is_new,
            node: arrival.node.clone(),
            ts: arrival.ts,
            exp: expiry.at,
            ping_secs: arrival.rules.ping / 1000,
            limits: Limits {
                body: arrival.rules.body_bytes,
                window: usize::try_from(arrival.rules.window).unwrap_or(usize::MAX),
            },
        }))];
        let since = since.filter(|_| !arrival.is_new);
        let session = Session::start(identity, expiry, since, arrival, &mut out);
        (session, out)
    }
}
