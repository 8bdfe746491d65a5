//! What a connection's frames, notices and store answers mean, as state machines without I/O: events in, [`Effect`]s
//! out; time is a number that the caller passes in. The connection's task in the gateway owns the socket and carries
//! the effects out.
//!
//! [`greeting`] is a connection until its `welcome`, [`Session`] from then on. [`delivery`] is the part that I2, I3 and
//! I6 rest on. All are tested against simple models with random interleavings.

#[cfg(test)]
mod any_kind;
pub mod delivery;
mod effect;
mod gate;
pub mod greeting;
mod rate;
mod retry;
mod rules;
#[expect(clippy::module_inception, reason = "the session is what this module is about")]
mod session;
mod view;

pub use delivery::Delivery;
pub use effect::{AckCheck, Cause, Effect, GapsPage, RoomPlace, RoomsPage, Stamped, Upkeep, UpkeepDone, Urgency};
pub use greeting::{Greeting, Rejection};
pub use rate::Rate;
pub use rules::{BEHIND, GAPS, KNOWN, PAGE_ROWS, REST_AFTER, ROOM_ACK_COALESCE, Rules, WARM};
pub use session::Session;
pub use view::View;

use crate::model::{Device, Millis, SessionRank};

/// Monotonic milliseconds since any fixed moment: the session's only clock.
pub type Tick = u64;

/// Who a session is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user from the token, and the device as the client named it.
    pub device: Device,
    /// What decides between two sessions of the device (R11).
    pub rank: SessionRank,
}

/// What a peer has taken of what was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Bytes since the connection began; 0 where that is not known.
    pub bytes: u64,
    /// Whether there are more on their way.
    pub more: bool,
}

/// When a token ends, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// On the session's clock.
    pub tick: Tick,
    /// On the wall clock, for people.
    pub at: Millis,
}

#[cfg(test)]
mod tests;
