//! What can go wrong for a user of the client.

use crate::{
    model::{ConvId, NameError, Seq},
    protocol::{ErrorCode, close::should_reconnect},
};

/// Why there is no connection. [`ConnectError::may_retry`] tells what a later try may mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("{0}: not an address to connect to, give one like ws://127.0.0.1:8080/v1/ws")]
    Url(String),
    /// No node answered there.
    #[error("{url}: cannot connect ({reason}), is the node running?")]
    Unreachable {
        /// The address.
        url: String,
        /// The system's message.
        reason: String,
    },
    /// There is no secure connection to what answered: its certificate is not accepted, it does not speak TLS, or the
    /// authorities to check it by could not be read.
    #[error("{url}: no secure connection: {reason}")]
    Tls {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Something answered, but not with a WebSocket.
    #[error("{url}: answered HTTP {status} instead of a WebSocket, check the address and the token")]
    Http {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection was closed; the code is 1006 when it ended without a close frame.
    #[error("{}: {reason} ({code})", if *code == 1006 { "connection lost" } else { "closed by the node" })]
    Closed {
        /// The close code.
        code: u16,
        /// The node's message.
        reason: String,
    },
    /// The client ended it: something did not come, and a new connection starts before it.
    #[error("{conv} went on with {seq}, and something before it did not come")]
    Gap {
        /// Which conversation.
        conv: ConvId,
        /// What came instead.
        seq: Seq,
    },
    /// The token source gave no token.
    #[error("no token: {0}")]
    Token(String),
    /// The peer does not speak the protocol.
    #[error("not a natter node: {0}")]
    Protocol(String),
    /// Nothing came in time.
    #[error("no answer in time, is the node overloaded?")]
    Timeout,
}

impl ConnectError {
    /// Whether trying again, later or elsewhere, may help.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Url(_) | Self::Protocol(_) => false,
            // A certificate that has expired is replaced one day; a first connection does not wait for it (`driver`).
            Self::Unreachable { .. } | Self::Timeout | Self::Token(_) | Self::Tls { .. } | Self::Gap { .. } => true,
            Self::Http { status, .. } => *status >= 500 || matches!(status, 408 | 429),
            Self::Closed { code, .. } => should_reconnect(*code),
        }
    }

    /// The connection ended without a close frame.
    pub(super) fn lost(reason: impl ToString) -> Self {
        Self::Closed { code: 1006, reason: reason.to_string() }
    }
}

/// Why a request got no usable answer.
///
/// ```no_run
/// # async fn say(client: &natter::client::Client) -> Result<(), natter::client::RequestError> {
/// use natter::{client::RequestError, protocol::{Body, ErrorCode}};
///
/// match client.send("#lobby", Body::text("hi")).await {
///     Err(error) if error.code() == Some(ErrorCode::NotMember) => println!("join the lobby first"),
///     Err(RequestError::Closed(why)) => println!("no connection any more: {why}"),
///     other => println!("stored at {}", other?.seq),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The node refused it for good: whatever might succeed later has already been tried again.
    #[error("{}: {message}", code.word())]
    Refused {
        /// The error code.
        code: ErrorCode,
        /// The node's message: which field, what limit, what to do.
        message: String,
    },
    /// A name that is not valid.
    #[error("{field}: {error}")]
    Name {
        /// Which argument it was.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// The client is closed for good. Whether a send that was under way is stored is unknown: another client may send
    /// it again with the same cid.
    #[error("not connected any more: {0}")]
    Closed(ConnectError),
    /// The client was dropped or closed by its own user.
    #[error("the client was closed")]
    Dropped,
}

impl RequestError {
    /// What the node refused it with; none where it never got that far.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}
