//! Frames as a client writes them: used by the Rust client, the bench and the tests.

use serde::Serialize;

use crate::{model::Seq, protocol::Body};

/// What a client can say, borrowed from wherever it lives: the same frames as [`ClientFrame`](super::ClientFrame).
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of ClientFrame")]
pub enum Outgoing<'a> {
    Hello {
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        device: &'a str,
        client: &'a str,
        attempt: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<&'a str>,
    },
    Send {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        to: &'a str,
        cid: &'a str,
        body: &'a Body,
    },
    Ack {
        conv: &'a str,
        seq: Seq,
    },
    Read {
        conv: &'a str,
        seq: Seq,
    },
    History {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        conv: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Seq>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<Seq>,
        #[serde(skip_serializing_if = "Option::is_none")]
        around: Option<Seq>,
        limit: usize,
    },
    Conversations {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        limit: usize,
    },
    Sessions {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    EndSession {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
    },
    Signal {
        to: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'a Body>,
    },
    Token {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        token: &'a str,
    },
    Ping {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    Presence {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        users: &'a [&'a str],
        #[serde(skip_serializing_if = "Option::is_none")]
        watch: Option<bool>,
    },
    Join {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        room: &'a str,
    },
    Leave {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        room: &'a str,
    },
}
