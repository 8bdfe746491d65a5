//! Trace points of one user's messages, told to an operator while somebody asks for them (`natter trace`): stored, published,
//! handed out, acknowledged, and found without anybody to hear. No bodies.
//!
//! Asked for with a lease that ends by itself. While nobody asks, each point costs one relaxed load. Called by the router and
//! by connections; the lease is taken by `operators`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use compact_str::CompactString;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    bus::Bus,
    model::{Cid, ConvId, DeviceId, Millis, Parties, Seq, UserId, now_millis},
    protocol::Encoding,
    subject::Subject,
};

/// Users that are followed at the same time, at most.
const FOLLOWED: usize = 16;
/// Points of one user that are told in a second, at most; beyond that they are counted.
const PER_SECOND: u32 = 1_000;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It has its place and is durable.
    Stored,
    /// It was published to the other nodes, or not.
    Published,
    /// NATS said that no other node had interest, and there was no session on the node that published either.
    Offline,
    /// It was written to a client's socket.
    Handed,
    /// A client acknowledged everything up to it.
    Acknowledged,
}

/// One point of a message's way.
#[derive(Debug, Clone, Serialize)]
pub struct Point<'a> {
    /// Which.
    pub step: Step,
    /// When, by this node's clock.
    pub at: Millis,
    /// Of which conversation.
    pub conv: &'a ConvId,
    /// Which message.
    pub seq: Seq,
    /// Who wrote it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'a UserId>,
    /// The sender's id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<&'a Cid>,
    /// Whose device has it, or misses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a UserId>,
    /// Which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<&'a DeviceId>,
    /// It went out; of those published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}

impl<'a> Point<'a> {
    /// A point of now.
    pub fn of(step: Step, conv: &'a ConvId, seq: Seq) -> Self {
        Self { step, at: now_millis(), conv, seq, from: None, cid: None, user: None, device: None, ok: None }
    }
}

/// What an operator gets.
#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    #[serde(flatten)]
    point: &'a Point<'a>,
    /// So many before it were left out.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Who is followed on this node.
pub struct Traces {
    is_on: AtomicBool,
    node: String,
    bus: Arc<dyn Bus>,
    followed: Mutex<Vec<Followed>>,
}

struct Followed {
    user: UserId,
    token: CompactString,
    until: Instant,
    /// The present second, and the points that were told in it.
    second: Instant,
    told: u32,
    left_out: u32,
}

/// More users are followed already than a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Traces {
    /// Nobody is followed yet.
    pub(super) fn new(node: &str, bus: Arc<dyn Bus>) -> Self {
        Self { is_on: AtomicBool::new(false), node: node.to_owned(), bus, followed: Mutex::default() }
    }

    /// Whether anybody may be followed now: asked before anything is made for a point.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Follows a user for so long, for the operator who chose the token; again to prolong it, and for no time to end it.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn follow(&self, user: UserId, token: &str, lease: Duration) -> Result<(), TooMany> {
        let now = Instant::now();
        let mut followed = self.followed.lock();
        followed.retain(|one| one.until > now);
        let until = now + lease;
        if let Some(one) = followed.iter_mut().find(|one| one.token == token && one.user == user) {
            one.until = until;
        } else if followed.len() >= FOLLOWED {
            return Err(TooMany);
        } else {
            followed.push(Followed { user, token: token.into(), until, second: now, told: 0, left_out: 0 });
        }
        followed.retain(|one| one.until > now);
        self.is_on.store(!followed.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Tells a point that concerns `user`, or whoever the conversation is between.
    pub fn tell(&self, user: &UserId, point: &Point<'_>) {
        let now = Instant::now();
        let mut followed = self.followed.lock();
        // Here the lease ends: the first point after it finds nobody, and from then on it is one load again.
        followed.retain(|one| one.until > now);
        if followed.is_empty() {
            return self.is_on.store(false, Ordering::Relaxed);
        }
        let point = &Point { user: point.user.or(point.device.map(|_| user)), ..point.clone() };
        for one in followed.iter_mut().filter(|one| concerns(&one.user, user, point.conv)) {
            if one.may_tell(now) {
                let left_out = std::mem::take(&mut one.left_out);
                let payload = Encoding::Json.encode(&Told { node: &self.node, point, left_out });
                self.bus.publish(&Subject::told(&self.node, &one.token), payload);
            }
        }
    }
}

impl Followed {
    fn may_tell(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.told) = (now, 0);
        }
        let may = self.told < PER_SECOND;
        if may {
            self.told += 1
        } else {
            self.left_out += 1
        }
        may
    }
}

fn concerns(followed: &UserId, user: &UserId, conv: &ConvId) -> bool {
    followed == user || matches!(conv.parties(), Parties::Direct(one, other) if one == *followed || other == *followed)
}
