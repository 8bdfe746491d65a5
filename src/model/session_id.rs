//! Session ids, and which of two sessions of one device stays.

use std::fmt;

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Serialize};

/// A live connection of one device, unique over the mesh. Of two sessions of one device the larger
/// ([`SessionRank`]) stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(CompactString);

impl SessionId {
    /// A fresh id: 80 random bits in lower-case hex. Its order means nothing but is the same for everyone,
    /// which is all that R11 needs.
    pub fn random() -> Self {
        Self(format_compact!("{:016x}{:04x}", rand::random::<u64>(), rand::random::<u16>()))
    }

    /// An id that somebody else named: it means a session or none.
    pub fn named(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What decides between two sessions of one device: the later connection, and of two that came at the same moment the
/// client's own counter, then the session id (R11). Fields in the order in which they count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionRank {
    /// The connection's number, from the store: larger than that of every connection of the device that was numbered
    /// before this one said hello. Two at the same moment may have the same.
    pub number: u64,
    /// `hello.attempt`: a counter that the client keeps over its reconnects.
    pub attempt: u64,
    /// Breaks the tie.
    pub session: SessionId,
}
