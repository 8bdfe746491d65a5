//! What a run does: which mesh it connects to and as whom, how much is sent and for how long. Called by every part of the bench.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{
    limits,
    options::{Common, Content, Timing},
    processes::Processes,
    progress::Progress,
};
use crate::{auth::Minter, cli::Global, client::Authorities, model::UserId, protocol::Encoding};

/// Tokens must outlive the longest run.
const TTL: Duration = Duration::from_secs(86_400);

/// What all scenarios start from: the options that they share.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) common: Common,
    pub(super) global: Global,
}

impl Setup {
    /// The mesh, for a run of so many connections at once.
    pub(super) fn mesh(&self, connections: usize) -> anyhow::Result<Mesh> {
        limits::check_own(connections)?;
        let Common { url, trust, signing, encoding, pids, pid_of_children, .. } = &self.common;
        if url.iter().all(String::is_empty) {
            bail!("there must be at least one --url");
        }
        let processes = Processes::new(pids, *pid_of_children)?;
        limits::check_servers(&processes, connections)?;
        Ok(Mesh {
            urls: url.clone(),
            authorities: trust.authorities(),
            encoding: (*encoding).into(),
            processes,
            progress: Progress::new(),
            prefix: format!("bench-{:06x}", rand::random::<u32>() & 0xff_ffff),
            minter: Minter::from_config(&signing.auth(&self.global.load()?.config)?)?,
        })
    }
}

/// The mesh under test.
pub(super) struct Mesh {
    pub(super) urls: Vec<String>,
    pub(super) authorities: Authorities,
    pub(super) encoding: Encoding,
    pub(super) processes: Processes,
    pub(super) progress: Progress,
    /// What the names of this run's users begin with.
    pub(super) prefix: String,
    minter: Minter,
}

impl Mesh {
    /// The name of a user: `side` is a, b or idle.
    pub(super) fn user(&self, side: &str, number: usize) -> String {
        format!("{}-{side}{number}", self.prefix)
    }

    pub(super) fn token(&self, user: &str) -> anyhow::Result<String> {
        let user = UserId::new(user).context("a user of the bench")?;
        Ok(self.minter.mint(&user, TTL)?)
    }

    /// The one room of a run.
    pub(super) fn room_id(&self) -> String {
        self.prefix.clone()
    }

    /// Users who are on no side connect to all nodes in turn.
    pub(super) fn url(&self, number: usize) -> &str {
        &self.urls[number % self.urls.len()]
    }

    /// Where those who send connect, and those who receive.
    pub(super) fn sides(&self) -> (&[String], &[String]) {
        let (first, second) = self.urls.split_at(self.urls.len().div_ceil(2));
        (first, if second.is_empty() { first } else { second })
    }
}

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// This many unanswered messages per sender.
    InFlight(usize),
    /// This many messages per second in total.
    Rate(u32),
}

/// Who writes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One user to another, each on a connection of its own.
    Pairs { pairs: usize, both_ways: bool },
    /// Some members to all members of one room.
    Room { members: usize, writers: usize },
    /// Each of these to each of as many others, in turn.
    Cold { each: usize },
    /// Two and two to each other, and in rooms.
    Mixed { users: usize },
}

/// A run with messages.
pub(super) struct Plan {
    pub(super) mesh: Mesh,
    pub(super) shape: Shape,
    pub(super) load: Load,
    /// A sender stops after so many messages.
    pub(super) most: u64,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) drain: Duration,
    pub(super) body: usize,
    pub(super) ack_every: u64,
}

impl Plan {
    pub(super) fn new(mesh: Mesh, shape: Shape, load: Load, timing: &Timing, content: &Content) -> Self {
        let (warmup, duration) = (timing.warmup(), timing.duration());
        Self { warmup, duration, ..Self::timeless(mesh, shape, load, content) }
    }

    /// For a scenario that ends when it is done.
    pub(super) fn timeless(mesh: Mesh, shape: Shape, load: Load, content: &Content) -> Self {
        let (body, ack_every, drain) = (content.body as usize, content.ack_every, content.drain());
        let (warmup, duration, most) = (Duration::ZERO, Duration::ZERO, u64::MAX);
        Self { mesh, shape, load, most, warmup, duration, drain, body, ack_every }
    }

    /// Whether all are in one room.
    pub(super) fn is_room(&self) -> bool {
        matches!(self.shape, Shape::Room { .. })
    }

    pub(super) fn senders(&self) -> usize {
        match self.shape {
            Shape::Pairs { pairs, .. } => pairs,
            Shape::Room { writers, .. } => writers,
            Shape::Cold { each: users } | Shape::Mixed { users } => users,
        }
    }

    /// The connection of a sender.
    pub(super) fn lane_of(&self, sender: usize) -> usize {
        match self.shape {
            Shape::Pairs { .. } | Shape::Cold { .. } => sender * 2,
            Shape::Room { .. } | Shape::Mixed { .. } => sender,
        }
    }

    /// How many connections there are.
    pub(super) fn lanes(&self) -> usize {
        match self.shape {
            Shape::Pairs { pairs, .. } => pairs * 2,
            Shape::Room { members, .. } => members,
            Shape::Cold { each } => each * 2,
            Shape::Mixed { users } => users,
        }
    }
}
