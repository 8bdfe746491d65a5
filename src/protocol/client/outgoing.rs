//! Frames as a client writes them: used by the Rust client, the bench and the tests.

use serde::Serialize;

use crate::{
    model::{
        Seq, UserId,
        room::{Lifetime, Reach, Role},
    },
    protocol::Body,
};

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
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_to: Option<Seq>,
        #[serde(skip_serializing_if = "<[UserId]>::is_empty")]
        mentions: &'a [UserId],
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<Lifetime>,
    },
    Edit {
        #[serde(flatten)]
        about: Referring<'a>,
        body: &'a Body,
    },
    Delete(Referring<'a>),
    React {
        #[serde(flatten)]
        about: Referring<'a>,
        reaction: &'a str,
    },
    Unreact {
        #[serde(flatten)]
        about: Referring<'a>,
        reaction: &'a str,
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
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        raw: bool,
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
    Block {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        user: &'a str,
    },
    Unblock {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        user: &'a str,
    },
    Blocks {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        limit: usize,
    },
    Create {
        #[serde(flatten)]
        change: Changing<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        public: bool,
        history: Reach,
        #[serde(skip_serializing_if = "Option::is_none")]
        lifetime: Option<Lifetime>,
    },
    Join(Changing<'a>),
    Leave(Changing<'a>),
    Invite {
        #[serde(flatten)]
        change: Changing<'a>,
        user: &'a str,
    },
    Kick {
        #[serde(flatten)]
        change: Changing<'a>,
        user: &'a str,
    },
    Role {
        #[serde(flatten)]
        change: Changing<'a>,
        user: &'a str,
        role: Role,
    },
    Topic {
        #[serde(flatten)]
        change: Changing<'a>,
        topic: Option<&'a str>,
    },
    Lifetime {
        #[serde(flatten)]
        change: Changing<'a>,
        lifetime: Option<Lifetime>,
    },
    Room {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        room: &'a str,
    },
    Rooms {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        limit: usize,
    },
    Readers {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        room: &'a str,
        seq: Seq,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        limit: usize,
    },
    Members {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        room: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        limit: usize,
    },
}

/// What every change of a room has.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the fields are those of ChangeRoom")]
pub struct Changing<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<&'a str>,
}

/// What every row about a message has.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the fields are those of About")]
pub struct Referring<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    pub conv: &'a str,
    pub re: Seq,
    pub cid: &'a str,
}
