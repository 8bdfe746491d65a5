//! What may run: the one place that decides which work for the store starts now, which waits, and which is refused.
//! All work belongs to one of four [`Class`]es, each with a bounded line, first come, first served; a higher class has
//! the larger share, and none is without one. Work is charged before it starts, by what it is expected to cost, and the
//! difference is settled when it ends.
//!
//! Asked by the appender, by `ops` for whatever waits for the store, and by the gateway for logins. [`Lines`] decides,
//! without I/O and without a clock; [`Overload`] lets callers wait. It knows nothing of what the work is.

mod bucket;
mod bytes;
mod lines;
mod pace;
mod rates;
mod turn;

pub use bytes::{Held, WaitingBytes};
pub use lines::Lines;
pub use rates::Rates;
pub use turn::{Busy, Overload, Tally, Turn};

/// Monotonic milliseconds since any fixed moment.
pub type Tick = u64;

/// The four kinds of work, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Messages are stored.
    Append,
    /// Sessions get what they are behind with, and their acknowledgements are judged and written.
    Fill,
    /// Sessions start: numbers, devices, the first comparison of heads.
    Login,
    /// Lists, history, and comparisons that nobody waits for.
    Listing,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: &'static [Self] = &[Self::Append, Self::Fill, Self::Login, Self::Listing];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Fill => "fill",
            Self::Login => "login",
            Self::Listing => "listing",
        }
    }

    /// Its share where all classes wait, of 100.
    fn share(self) -> u64 {
        match self {
            Self::Append => 60,
            Self::Fill => 25,
            Self::Login => 10,
            Self::Listing => 5,
        }
    }

    /// How much of the room for all that runs it may take alone, of 100: the less urgent ones together leave some to
    /// appends, which would otherwise wait for what runs already.
    fn room(self) -> u64 {
        match self {
            Self::Append => 100,
            Self::Fill => 50,
            Self::Login | Self::Listing => 20,
        }
    }

    /// Whether its rows are limited per second: the classes that read whole inboxes and pages at will.
    fn is_metered(self) -> bool {
        matches!(self, Self::Login | Self::Listing)
    }
}

/// What reading or writing so many rows with so many bytes of bodies costs.
pub fn cost(rows: usize, bytes: usize) -> u64 {
    (rows + bytes / BYTES_OF_ONE) as u64
}

/// So many bytes of bodies cost as much as a row.
const BYTES_OF_ONE: usize = 4 << 10;

/// How much may run and wait.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Cost of all work that runs.
    pub in_flight: u64,
    /// How much work of a class may run at once, and how much may wait.
    pub lines: [LineLimits; 4],
    /// Cost per second of the metered classes together.
    pub rows_per_sec: u32,
    /// While the store recovers from an outage, at least so much work is started per second.
    pub recovery_per_sec: u32,
}

/// The bounds of one class.
#[derive(Debug, Clone, Copy)]
pub struct LineLimits {
    /// Most that run at once.
    pub at_once: usize,
    /// Most that wait.
    pub waiting: usize,
}
