//! The checker: compares what senders were told with what devices received.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use natter::{
    model::Seq,
    protocol::{Message, ServerFrame},
};
use parking_lot::Mutex;

use super::peer::{Peer, messages};
use crate::harness::wait::{PATIENCE, until_ok};

/// Everything that was answered `sent`. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Answered>>);

#[derive(Debug, Default)]
struct Answered {
    by_place: BTreeMap<(String, Seq), (String, String)>,
    by_cid: BTreeMap<(String, String, String), Seq>,
}

impl Ledger {
    /// Records an answer, and checks that a cid has one seq and a seq one cid (I4).
    pub fn answered(&self, from: &str, cid: &str, conv: &str, seq: Seq) {
        let mut answered = self.0.lock();
        let who = (from.to_owned(), cid.to_owned());
        let before = answered.by_place.insert((conv.to_owned(), seq), who.clone());
        assert!(before.as_ref().is_none_or(|before| *before == who), "{conv} {seq}: both {before:?} and {who:?}");
        let before = answered.by_cid.insert((from.to_owned(), cid.to_owned(), conv.to_owned()), seq);
        assert!(before.is_none_or(|before| before == seq), "{cid} of {from} has seqs {before:?} and {seq} in {conv}");
    }

    /// Sends a text and records the answer.
    pub async fn send(&self, peer: &Peer, from: &str, to: &str, cid: &str) -> Seq {
        let (conv, seq) = peer.send(to, cid, cid).await;
        self.answered(from, cid, conv.as_str(), seq);
        seq
    }

    /// How many sends were answered.
    pub fn len(&self) -> usize {
        self.0.lock().by_place.len()
    }

    /// Waits until everything that was answered and concerns `user` has reached one of the sessions of a device (I2),
    /// with the cid it was sent with (I4), each session in order (I3).
    pub async fn reaches(&self, user: &str, sessions: &[&Peer]) {
        let wanted: BTreeMap<_, _> = {
            let answered = self.0.lock();
            let of_user = |conv: &str| conv.split(':').skip(1).any(|name| name == user);
            answered
                .by_place
                .iter()
                .filter(|((conv, _), _)| of_user(conv))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        until_ok(PATIENCE, &format!("everything has come to {user}"), async || {
            let mut missing: BTreeSet<_> = wanted.keys().cloned().collect();
            for message in sessions.iter().flat_map(|peer| peer.messages()) {
                let place = (message.conv.to_string(), message.seq);
                missing.remove(&place);
                if let Some((from, cid)) = wanted.get(&place) {
                    assert_eq!(
                        (message.from.as_str(), message.cid.as_ref().map(|c| c.as_str())),
                        (&**from, Some(&**cid))
                    );
                }
            }
            let some: Vec<_> = missing.iter().take(5).collect();
            let what = || format!("{} of {} are missing: {some:?} … {sessions:?}", missing.len(), wanted.len());
            if missing.is_empty() { Ok(()) } else { Err(what()) }
        })
        .await;
        sessions.iter().for_each(|peer| in_order(&peer.frames()));
    }
}

/// I3: one session hands out each conversation densely and in order, wherever it starts.
pub fn in_order(frames: &[ServerFrame]) {
    let mut last: BTreeMap<&str, &Message> = BTreeMap::new();
    for message in messages(frames) {
        if let Some(before) = last.insert(message.conv.as_str(), message) {
            assert_eq!(message.seq, before.seq + 1, "{} after {before:?}: {message:?}", message.conv);
        }
    }
}
