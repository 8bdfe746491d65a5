//! What readers could see, held against what was ever visible and what was answered.

use super::world::{CID_BASE, Replica, Stored};
use crate::model::Seq;

/// What was promised so far.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// The message at each seq, from the moment it was visible.
    fixed: Vec<Option<u8>>,
    /// The seq that each cid was answered with.
    sent: Vec<(u8, Seq)>,
    /// Where the last mend said that all heads are.
    mended: Seq,
}

impl Promises {
    /// A send was answered.
    pub(super) fn on_sent(&mut self, cid: u8, seq: Seq) -> Result<(), String> {
        if let Some((_, before)) = self.sent.iter().find(|(sent, before)| *sent == cid && *before != seq) {
            return Err(format!("message {cid} was answered with seq {before} and with seq {seq}"));
        }
        if !self.sent.contains(&(cid, seq)) {
            self.sent.push((cid, seq));
        }
        Ok(())
    }

    /// The highest seq that was answered.
    pub(super) fn last(&self) -> Seq {
        self.sent.iter().map(|(_, seq)| *seq).max().unwrap_or(0)
    }

    /// A mend that came when `asked` was the last seq answered is answered with `seq`.
    pub(super) fn on_mended(&mut self, asked: Seq, seq: Seq) -> Result<(), String> {
        if seq < asked {
            return Err(format!("a mend ended at seq {seq}, but seq {asked} was answered before it came"));
        }
        self.mended = self.mended.max(seq);
        Ok(())
    }

    pub(super) fn answered(&self) -> usize {
        self.sent.len()
    }

    /// Every pair of replicas answers a quorum read; every head on any replica may be seen.
    pub(super) fn check(&mut self, replicas: &[Replica; 3], above: Seq) -> Result<(), String> {
        let head = replicas.iter().flat_map(|replica| replica.heads).max().unwrap_or(0);
        for seq in 1..=head + above {
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                match newest(&replicas[a], &replicas[b], seq) {
                    Some(row) => self.see(seq, row.cid)?,
                    None if seq > head => {}
                    None => return Err(format!("a reader misses seq {seq} below head {head}")),
                }
            }
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let behind = |user: usize| replicas[a].heads[user].max(replicas[b].heads[user]) < self.mended;
            if behind(0) || behind(1) {
                return Err(format!("a mend ended at seq {}, and a quorum shows a head below", self.mended));
            }
        }
        for (cid, seq) in &self.sent {
            if *seq > head {
                return Err(format!("message {cid} was answered, but no head shows seq {seq}"));
            }
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                let (a, b) = (&replicas[a], &replicas[b]);
                for user in 0..2 {
                    if a.heads[user].max(b.heads[user]) < *seq {
                        return Err(format!(
                            "message {cid} was answered with seq {seq}, but user {user} may not see it"
                        ));
                    }
                }
            }
            if self.fixed.get(*seq as usize).copied().flatten() != Some(*cid) {
                return Err(format!("message {cid} was answered with seq {seq}, where another one stands"));
            }
        }
        Ok(())
    }

    fn see(&mut self, seq: Seq, cid: u8) -> Result<(), String> {
        let at = seq as usize;
        if self.fixed.len() <= at {
            self.fixed.resize(at + 1, None);
        }
        let name = char::from(CID_BASE + cid);
        match self.fixed[at] {
            Some(before) if before != cid => {
                return Err(format!("seq {seq} showed {} and shows {name}", char::from(CID_BASE + before)));
            }
            _ => self.fixed[at] = Some(cid),
        }
        let twice = self.fixed.iter().enumerate().find(|(other, seen)| *other != at && **seen == Some(cid));
        twice.map_or(Ok(()), |(other, _)| Err(format!("message {name} stands at seq {other} and at seq {seq}")))
    }
}

/// What a quorum of these two shows.
pub(super) fn newest(a: &Replica, b: &Replica, seq: Seq) -> Option<Stored> {
    let (a, b) = (a.rows.get(&seq), b.rows.get(&seq));
    a.into_iter().chain(b).max_by_key(|row| (row.timestamp, row.cid)).copied()
}
