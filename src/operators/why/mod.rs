//! Why a message has or has not reached a user. `here` is what one node knows of the user's sessions, `stored` what the store
//! says, and `judge` makes a verdict of both: pure, and called by the command, which has the answers of all nodes.

mod facts;
mod here;
mod judge;
mod stored;
#[cfg(test)]
mod tests;

pub use facts::{DeviceFacts, Here, RowFacts, SessionFacts, Standing, Stored};
pub use judge::{Device, Report, Verdict, judge};
pub(super) use {here::here, stored::stored};
