//! Who must hear what, here and on other nodes: the sessions on this node by subject, the way out over the bus and the
//! way in from it.
//!
//! Used by `ops` (what was stored is told to whom it concerns) and by the gateway (sessions come and go). Follow a
//! message: [`Router::publish_stored`] → [`audience`] → the bus and [`Registry`] → [`Mailbox`] of each session.

pub mod audience;
mod clock;
mod gather;
mod mailbox;
mod recent;
mod registry;
mod rooms;
mod router;
mod traces;
mod untold;
mod watch;

pub use clock::Clock;
pub use mailbox::{Look, Mail, Mailbox, Seen};
pub use registry::{Capacity, Comings, Full, PARTS, Registry, SessionHandle};
pub use rooms::{Listening, Rooms};
pub use router::{Missed, OnBlocked, OnOffline, Router, shown};
pub use traces::{Point, Step, Traces};
pub use watch::{Watch, watch};
