//! How far the client is in each conversation: what it was handed, what it acknowledged, what its program told. No I/O.
//! Called by the referee.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::{
    referee::{Verdict, is_conv},
    rules::{FRAMES, Fault},
};

/// "A few times a second": more acknowledgements of one conversation in a second are too many …
const ACKS: usize = 12;
/// … but for so many messages there may be one more.
const ACK_FOR: usize = 16;

#[derive(Debug, Default)]
struct Place {
    /// The highest that exists.
    top: u64,
    /// Everything that was handed out, with its body.
    handed: BTreeMap<u64, Value>,
    /// The client has everything up to here, as far as it must have it.
    have: u64,
    /// Where the log goes on behind a hole that is meant, or where it begins.
    jumps: BTreeSet<u64>,
    /// Whatever comes next goes on from there.
    loose: bool,
    /// On this connection, and at all.
    acked: u64,
    most_acked: u64,
    told: u64,
    /// When acknowledgements came, and how many messages were handed out until then.
    acks: VecDeque<(Instant, usize)>,
    count: usize,
}

/// All conversations.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, Place>);

impl Place {
    fn hand(&mut self, seq: u64, body: Value) {
        if self.handed.is_empty() || self.loose {
            self.loose = false;
            if seq > self.have {
                self.have = seq - 1;
                self.jumps.insert(seq);
            }
        }
        self.top = self.top.max(seq);
        self.count += 1;
        self.handed.insert(seq, body);
        while self.handed.contains_key(&(self.have + 1)) {
            self.have += 1;
        }
    }
}

impl Places {
    fn of(&mut self, conv: &str) -> &mut Place {
        self.0.entry(conv.to_owned()).or_default()
    }

    /// The highest seq of a conversation.
    pub(super) fn top(&self, conv: &str) -> u64 {
        self.0.get(conv).map_or(0, |place| place.top)
    }

    /// A message exists, though it was not handed out.
    pub(super) fn exists(&mut self, conv: &str, seq: u64) {
        let place = self.of(conv);
        place.top = place.top.max(seq);
    }

    /// A message goes to the client.
    pub(super) fn hand(&mut self, conv: &str, seq: u64, body: Value) {
        self.of(conv).hand(seq, body);
    }

    /// A client that does not know what this is need not tell of it.
    pub(super) fn may_be_passed_over(&mut self, conv: &str, seq: u64) {
        self.of(conv).jumps.insert(seq + 1);
    }

    /// The next message of the conversation stands behind a hole that is meant.
    pub(super) fn truncate(&mut self, conv: &str) {
        self.of(conv).loose = true;
    }

    /// The device is new: all conversations begin wherever they do.
    pub(super) fn begin_anew(&mut self) {
        self.0.values_mut().for_each(|place| place.loose = true);
    }

    pub(super) fn acked(&self, conv: &str) -> u64 {
        self.0.get(conv).map_or(0, |place| place.acked)
    }

    /// From here on acknowledgements count anew: on another connection, or because one was refused.
    pub(super) fn forget_acks(&mut self) {
        self.0.values_mut().for_each(|place| place.acked = 0);
    }

    pub(super) fn told(&self, conv: &str) -> u64 {
        self.0.get(conv).map_or(0, |place| place.told)
    }

    pub(super) fn on_ack(&mut self, conv: &str, seq: u64, now: Instant) -> Verdict {
        let place = self.of(conv);
        if seq > place.have {
            let words = format!("it acknowledged {seq} of {conv} and has everything up to {} only", place.have);
            return Err(Fault::new(5, words));
        }
        place.acked = place.acked.max(seq);
        place.most_acked = place.most_acked.max(seq);
        place.acks.push_back((now, place.count));
        while place.acks.front().is_some_and(|(at, _)| now.duration_since(*at) > Duration::from_secs(1)) {
            place.acks.pop_front();
        }
        let messages = place.count - place.acks.front().map_or(place.count, |(_, count)| *count);
        if place.acks.len() > ACKS + messages / ACK_FOR {
            let words = format!("{} acknowledgements of {conv} came within a second", place.acks.len());
            return Err(Fault::new(4, words));
        }
        Ok(())
    }

    /// The program told of a message.
    pub(super) fn on_told(&mut self, told: &Value) -> Verdict {
        let (conv, seq) = (told["conv"].as_str().unwrap_or_default(), told["seq"].as_u64().unwrap_or_default());
        if !is_conv(conv) || seq == 0 {
            return Err(Fault::new(FRAMES, format!("the program told of a message without conv and seq: {told}")));
        }
        let place = self.of(conv);
        let Some(body) = place.handed.get(&seq) else {
            return Err(Fault::new(FRAMES, format!("it told of {conv} {seq}, which it was not handed")));
        };
        if told["body"] != *body {
            return Err(Fault::new(FRAMES, format!("{conv} {seq} has the body {body}, it told {}", told["body"])));
        }
        if seq <= place.told {
            return Err(Fault::new(3, format!("it told of {conv} {seq} after {}: it has it already", place.told)));
        }
        let follows = seq == place.told + 1 || place.jumps.contains(&seq);
        if !follows {
            let words = format!("it told of {conv} {seq} after {}: what lies between has not come", place.told);
            return Err(Fault::new(6, words));
        }
        place.told = seq;
        Ok(())
    }

    /// What was acknowledged and not told.
    pub(super) fn behind(&self) -> Option<Fault> {
        self.0.iter().find(|(_, place)| place.most_acked > place.told).map(|(conv, place)| {
            let words =
                format!("it acknowledged {} of {conv}, and its program has got {}", place.most_acked, place.told);
            Fault::new(5, words)
        })
    }
}
