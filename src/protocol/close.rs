//! Every way a connection is closed, in one table: code, reason, whether to reconnect, metric label.

macro_rules! close_reasons {
    ($($(#[doc = $doc:literal])* $name:ident, $code:literal, $label:literal, $text:literal;)*) => {
        /// Why the node closes a connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $($(#[doc = $doc])* $name,)*
        }

        impl CloseReason {
            /// All reasons, for tests and documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The close code on the wire.
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The metric's label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What happened, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// The reason in words, sent with the code.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

close_reasons! {
    /// The client closed, or the socket ended.
    Gone, 1000, "gone", "";
    /// A frame that breaks the WebSocket protocol itself.
    Protocol, 1002, "protocol", "not the WebSocket protocol";
    /// A text frame that is not UTF-8.
    NotUtf8, 1007, "not_utf8", "a text frame must be UTF-8";
    /// A frame over the limit.
    FrameTooLarge, 1009, "frame_too_large", "the frame is over the limit";
    /// The node failed at this connection: a defect, or an error of something in between.
    Internal, 1011, "internal", "the node failed, connect again";
    /// The node is being stopped; `goodbye` came before, with `reconnect_ms`.
    Drain, 4000, "drain", "the node is stopping, connect again";
    /// No `hello` in time (`timing.hello_timeout_ms`).
    HelloTimeout, 4001, "hello_timeout", "no hello in time";
    /// Too many sessions of the user or on the node, too many logins in line for the store (`goodbye` came before, with
    /// `reconnect_ms`), or too many `hello`s of the user: 400 at once and 5 a second pass, and a new device counts as eleven.
    Overloaded, 4002, "overloaded", "too many sessions, connect later";
    /// No sign of life for `timing.idle_secs`, or nothing read for `timing.stall_secs`.
    Idle, 4003, "idle", "no answer to pings";
    /// The store is away, so the session could not start.
    StoreDown, 4004, "store_down", "the store is unavailable, connect later";
    /// A later session of the same device, whose `attempt` is smaller: a program started anew, or a connection that
    /// the client gave up and that came through after all.
    Superseded, 4005, "superseded", "a later session of this device with a smaller attempt, connect again";
    /// The user has more devices than are kept, and this one logged in longest ago, or it was ended while its session was not
    /// heard of: it comes back as a new one.
    Retired, 4006, "retired", "this device was retired, connect again as a new one";
    /// The token was refused: get another one.
    BadToken, 4100, "bad_token", "the token was refused";
    /// The token ended: get a fresh one, then connect.
    TokenExpired, 4101, "token_expired", "the token expired";
    /// The first frame was no proper `hello`, a second `hello` came, too many frames that cannot be read, or too many after
    /// `rate_limited`.
    Violation, 4102, "violation", "protocol violation";
    /// Ended by its user, with `end_session`, or by an operator.
    Disconnected, 4103, "disconnected", "ended by its user";
    /// A later session of the same device, whose `attempt` is not smaller.
    Replaced, 4104, "replaced", "replaced by a later session of this device";
}

/// Whether a client that was closed with `code` should connect again (with back-off).
pub fn should_reconnect(code: u16) -> bool {
    matches!(code, 1001 | 1005 | 1006 | 1011 | 1012 | 1013 | 4000..=4099)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_whether_to_reconnect() {
        for reason in CloseReason::ALL {
            let code = reason.code();
            assert_eq!(should_reconnect(code), code == 1011 || (4000..4100).contains(&code), "{reason:?}");
        }
        assert!([1001, 1006, 1012, 1013].into_iter().all(should_reconnect));
        assert!(![1000, 1002, 1007, 1009].into_iter().any(should_reconnect));
    }
}
