//! The WebSocket protocol of a server (RFC 6455), after the handshake: a codec without I/O, and a connection on a TCP
//! stream around it. It knows frames and messages, and nothing of what they say.
//!
//! Used by [`super::socket`]. Written for what an idle connection costs: the bytes that are read and written at one
//! time are in buffers of the thread ([`lent`]), and a connection holds only what is left of them.

mod connection;
mod decoder;
mod header;
mod lent;
mod mask;
mod outgoing;
mod unread;
mod utf8;

pub use self::{
    connection::{Connection, End, Incoming},
    decoder::{Decoder, Event, Payload},
    header::{Header, OpCode},
};

/// What a peer did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A frame that the protocol does not allow, or not there.
    #[error("a frame breaks the WebSocket protocol")]
    Protocol,
    /// A text message, or the reason of a close frame, is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message is over the limit.
    #[error("a message over the limit")]
    TooLarge,
}

impl Fault {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}
