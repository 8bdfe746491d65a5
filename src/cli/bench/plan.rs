//! What a run does: who connects where, how much is sent and for how long. Called by every part of the bench.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Args, limits, payload::SMALLEST_BODY, processes::Processes};
use crate::{auth::Minter, client::Authorities, model::UserId, protocol::Encoding};

/// Tokens must outlive the longest run.
const TTL: Duration = Duration::from_secs(86_400);
/// The largest body that makes sense with the default limits.
const LARGEST_BODY: usize = 60_000;

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// This many unanswered messages per pair.
    InFlight(usize),
    /// This many messages per second in total.
    Rate(u32),
}

/// A run.
pub(super) struct Plan {
    pub(super) urls: Vec<String>,
    pub(super) authorities: Authorities,
    pub(super) mixed: bool,
    pub(super) pairs: usize,
    /// Members of one room, instead of pairs; the first `pairs` of them write.
    pub(super) room: Option<usize>,
    pub(super) load: Load,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) drain: Duration,
    pub(super) body: usize,
    pub(super) encoding: Encoding,
    pub(super) processes: Processes,
    /// Prefix of the users of this run.
    prefix: String,
    minter: Minter,
}

impl Plan {
    pub(super) fn new(args: &Args, minter: Minter) -> anyhow::Result<Self> {
        if !(SMALLEST_BODY..=LARGEST_BODY).contains(&args.body) {
            bail!("--body must be {SMALLEST_BODY} to {LARGEST_BODY}, is {}", args.body);
        }
        if args.url.is_empty() || args.duration == 0 {
            bail!("there must be at least one --url and one second of --duration");
        }
        let pairs = args.pairs.get() as usize;
        let room = args.room.map(|members| members.get() as usize);
        if room.is_some_and(|members| members < pairs) {
            bail!("--pairs must be at most the members of the --room, of whom so many write: is {pairs}");
        }
        limits::check_own(args.idle.or(args.presence).map_or(room.unwrap_or(pairs * 2), |users| users.get() as usize))?;
        Ok(Self {
            urls: args.url.clone(),
            authorities: args.trust.authorities(),
            mixed: args.mixed,
            pairs,
            room,
            load: args.rate.map_or(Load::InFlight(args.in_flight.get() as usize), |rate| Load::Rate(rate.get())),
            warmup: Duration::from_secs(args.warmup),
            duration: Duration::from_secs(args.duration),
            drain: Duration::from_secs(args.drain),
            body: args.body,
            encoding: args.encoding.into(),
            processes: Processes::new(&args.pids, args.pid_of_children)?,
            prefix: format!("bench-{:06x}", rand::random::<u32>() & 0xff_ffff),
            minter,
        })
    }

    /// The name of a user: `side` is a, b or idle.
    pub(super) fn user(&self, side: &str, number: usize) -> String {
        format!("{}-{side}{number}", self.prefix)
    }

    pub(super) fn token(&self, user: &str) -> anyhow::Result<String> {
        let user = UserId::new(user).context("a user of the bench")?;
        Ok(self.minter.mint(&user, TTL)?)
    }

    /// How many connections there are.
    pub(super) fn lanes(&self) -> usize {
        self.room.unwrap_or(self.pairs * 2)
    }

    /// The one room of a run.
    pub(super) fn room_id(&self) -> String {
        self.prefix.clone()
    }

    /// Where the sender and the receiver of a pair connect.
    pub(super) fn urls_of(&self, pair: usize) -> (&str, &str) {
        let (first, second) = self.urls.split_at(self.urls.len().div_ceil(2));
        let second = if second.is_empty() { first } else { second };
        let (a, b) = (&first[pair % first.len()], &second[pair % second.len()]);
        if self.mixed && pair % 2 == 1 { (b, a) } else { (a, b) }
    }
}
