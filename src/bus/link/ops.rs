//! The NATS protocol as two enums: what a server sends, and what this node sends. Read and written by [`super::codec`];
//! nothing here does I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a subscription on one connection, as it goes over the wire.
pub(super) type Sid = u64;

/// What a server sends. Borrows from the read buffer.
#[derive(Debug, PartialEq)]
pub(super) enum ServerOp<'a> {
    /// About itself: first of all, and again when something changed.
    Info(Box<Info>),
    /// A message on a subscription.
    Msg(Msg<'a>),
    /// It wants a PONG.
    Ping,
    /// It has processed everything up to a PING.
    Pong,
    /// Only with `verbose`, which is off.
    Ok,
    /// An error, without its quotes. Most of them end the connection.
    Err(&'a [u8]),
}

/// A message (`MSG`, or `HMSG` when it has headers). Subjects are whatever some publisher wrote: perhaps no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Msg<'a> {
    pub(super) subject: &'a [u8],
    pub(super) sid: Sid,
    pub(super) reply: Option<&'a [u8]>,
    /// Version line and headers; empty for `MSG`.
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Msg<'_> {
    /// Whether this is the server's word that nobody has interest in what was published, and no message at all: status
    /// 503 in the first line of the headers.
    pub(super) fn is_no_responders(&self) -> bool {
        let status = self.headers.strip_prefix(b"NATS/1.0 503");
        status.is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_digit)) && self.payload.is_empty()
    }
}

/// What a server says about itself. The fields that natter needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    /// The server's, and another one's at each of its starts.
    pub(super) server_id: String,
    pub(super) server_name: String,
    pub(super) version: String,
    /// The largest payload it takes.
    pub(super) max_payload: usize,
    pub(super) tls_required: bool,
    pub(super) tls_available: bool,
    /// To be signed by whoever signs in with a key.
    pub(super) nonce: Option<String>,
    /// The servers of its cluster, `host:port`.
    pub(super) connect_urls: Vec<String>,
    /// Lame duck mode: it is about to stop, and will throw everybody out.
    #[serde(rename = "ldm")]
    pub(super) is_lame_duck: bool,
}

/// What this node sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum ClientOp<'a> {
    Connect(&'a Connect),
    Ping,
    Pong,
    /// `filter` is a subject, or a subject, a blank and a queue group.
    Sub {
        filter: &'a str,
        sid: Sid,
    },
    Unsub {
        sid: Sid,
    },
    Pub {
        subject: &'a str,
        reply: Option<&'a str>,
        payload: &'a [u8],
    },
}

/// Who this node is and what it understands.
#[derive(Clone, Serialize)]
pub(super) struct Connect {
    /// An `+OK` for each command: no.
    pub(super) verbose: bool,
    /// Stricter checks of subjects: no.
    pub(super) pedantic: bool,
    pub(super) tls_required: bool,
    pub(super) name: String,
    pub(super) lang: &'static str,
    pub(super) version: &'static str,
    /// 1: servers may send INFO at any time.
    pub(super) protocol: u8,
    /// Whether a node hears its own messages: no.
    pub(super) echo: bool,
    pub(super) headers: bool,
    /// Status 503 to the reply subject of what nobody hears; needs `headers`.
    pub(super) no_responders: bool,
    #[serde(flatten)]
    pub(super) proof: Proof,
}

/// The part of CONNECT that proves who this node is.
#[derive(Clone, Default, Serialize)]
pub(super) struct Proof {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(rename = "pass", skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    #[serde(rename = "auth_token", skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    /// A public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<String>,
    /// The server's nonce, signed.
    #[serde(rename = "sig", skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
}

impl fmt::Debug for Connect {
    /// Without the proof, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("name", &self.name).field("tls", &self.tls_required).finish_non_exhaustive()
    }
}
