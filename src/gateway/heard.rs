//! What a frame of the client's says, decoded where it lies in the buffer that it was read into. Used by the pump.

use super::socket::Arrived;
use crate::protocol::{Encoding, Request, client::FrameError};

/// Something that a session hears from its client.
pub(super) enum Heard {
    /// A request, or why it cannot be read.
    Request(Result<Request, FrameError>),
    /// Text where binary was agreed on, or the reverse.
    WrongKind,
    /// A ping or a pong.
    Control,
}

impl Heard {
    /// Decodes what arrived.
    pub(super) fn of(arrived: Arrived<'_>, encoding: Encoding) -> Self {
        match arrived {
            Arrived::Frame(payload) => Self::Request(Request::decode(encoding, &payload)),
            Arrived::WrongKind => Self::WrongKind,
            Arrived::Control => Self::Control,
        }
    }
}
