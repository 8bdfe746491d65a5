//! Every op a client can name, in one table: its word on the wire, whether the rate limit counts it, and how much of a
//! session's room for requests it takes while it is under way.
//!
//! Used by the frame reader, by sessions for their limits, and by the metrics as a label.

/// Room that a small request takes; see [`Op::weight`].
const SMALL: usize = 1;
/// A page of rows is as heavy as this many small requests.
const PAGE: usize = 16;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident, $word:literal, limited: $limited:literal, weight: $weight:expr;)*) => {
        /// What a client's frame asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[$doc])* $name,)*
        }

        impl Op {
            /// All ops, for metrics, tests and documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the wire, which is also the metric's label.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The op with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }

            /// Whether the limit of requests per second counts it.
            pub fn is_limited(self) -> bool {
                match self { $(Self::$name => $limited,)* }
            }

            /// How much of the session's room for requests under way it takes until it is answered.
            pub fn weight(self) -> usize {
                match self { $(Self::$name => $weight,)* }
            }
        }
    };
}

ops! {
    /// Opens the session.
    Hello, "hello", limited: false, weight: SMALL;
    /// Sends a message.
    Send, "send", limited: true, weight: SMALL;
    /// Everything up to a seq has arrived.
    Ack, "ack", limited: false, weight: SMALL;
    /// Everything up to a seq was read by the person.
    Read, "read", limited: true, weight: SMALL;
    /// A page of a log.
    History, "history", limited: true, weight: PAGE;
    /// A page of the list of conversations.
    Conversations, "conversations", limited: true, weight: PAGE;
    /// A live signal, never stored.
    Signal, "signal", limited: true, weight: SMALL;
    /// A fresh token.
    Token, "token", limited: true, weight: SMALL;
    /// A sign of life.
    Ping, "ping", limited: true, weight: SMALL;
    /// Who is online. Not served yet.
    Presence, "presence", limited: true, weight: SMALL;
    /// Enters a room. Not served yet.
    Join, "join", limited: true, weight: SMALL;
    /// Leaves a room. Not served yet.
    Leave, "leave", limited: true, weight: SMALL;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_one_op() {
        for op in Op::ALL {
            assert_eq!(Op::from_word(op.word()), Some(*op));
        }
        assert_eq!(Op::from_word("no_such"), None);
    }
}
