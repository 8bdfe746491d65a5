//! What readers could see, held against what was ever visible and what was answered.

use super::{
    folds::reacts,
    home::{conv, kind, sender, user},
    rooms::Folded,
    world::{CID_BASE, Replica, Stored, further, take_fold},
};
use crate::model::{Counts, Seq};

/// What was promised so far.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// The message at each seq, from the moment it was visible.
    fixed: Vec<Option<u8>>,
    /// What is counted up to each seq that was visible.
    counted: Vec<Counts>,
    /// The seq that each cid was answered with.
    sent: Vec<(u8, Seq)>,
    /// Where the last mend said that all heads are.
    mended: Seq,
    /// The conversation is a room.
    rooms: bool,
    /// What the visible rows make of it.
    pub(super) folded: Folded,
}

impl Promises {
    pub(super) fn of(rooms: bool) -> Self {
        Self { rooms, ..Self::default() }
    }

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
    pub(super) fn check(&mut self, replicas: &[Replica; 3], above: Seq, services: bool) -> Result<(), String> {
        let head = replicas.iter().map(|replica| replica.head().seq).max().unwrap_or(0);
        for seq in 1..=head + above {
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                match newest(&replicas[a], &replicas[b], seq) {
                    Some(row) => {
                        self.see(seq, row.cid)?;
                        if seq <= head {
                            self.check_counts(seq, &row)?;
                            if self.rooms {
                                self.folded.see(seq, &row)?;
                            }
                        }
                    }
                    None if seq > head => {}
                    None => return Err(format!("a reader misses seq {seq} below head {head}")),
                }
            }
        }
        self.check_heads(replicas)?;
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            (0..2).try_for_each(|user| self.check_fold(user, (&replicas[a], &replicas[b]), head))?;
        }
        if self.rooms {
            self.folded.check(replicas, head)?;
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let shown = |user: usize| further(replicas[a].heads[user], replicas[b].heads[user]).seq;
            let behind = |user: usize| shown(user) < self.concerned(user, self.mended, services);
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
                for user in (0..2).filter(|user| !(services && *user == 1 && sender(*cid) == 1)) {
                    if further(a.heads[user], b.heads[user]).seq < *seq {
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

    /// The last seq up to `upto` that a user's head must show: a service has none of what it wrote.
    fn concerned(&self, user: usize, upto: Seq, services: bool) -> Seq {
        if !services || user == 0 {
            return upto;
        }
        let of_others =
            |seq: &Seq| self.fixed.get(*seq as usize).is_some_and(|cid| cid.is_some_and(|cid| sender(cid) == 0));
        (1..=upto).rev().find(of_others).unwrap_or(0)
    }

    /// Whoever sees the head `head` sees the last reaction of a user up to there beside its message, or a later one.
    fn check_fold(&self, user: usize, (a, b): (&Replica, &Replica), head: Seq) -> Result<(), String> {
        let at = |seq: Seq| self.fixed.get(seq as usize).copied().flatten();
        let is_theirs = |cid: u8| reacts(cid).is_some() && sender(cid) == user;
        let last = (1..=head).rev().find(|seq| at(*seq).is_some_and(is_theirs)).unwrap_or(0);
        let mut fold = a.folds[user];
        take_fold(&mut fold, b.folds[user]);
        let (shown, cid) = fold.unwrap_or_default();
        if shown < last {
            return Err(format!("at head {head} the fold of user {user} is as of seq {shown} only, not {last}"));
        }
        if shown == 0 || shown > head || at(shown) == Some(cid) {
            return Ok(());
        }
        Err(format!("the fold of user {user} is message {cid} of seq {shown}, where another one stands"))
    }

    /// What a row that everybody may see says of how many messages there are is exact. Rows are seen in their order.
    fn check_counts(&mut self, seq: Seq, row: &Stored) -> Result<(), String> {
        let at = seq as usize;
        if self.counted.is_empty() {
            self.counted.push(Counts::default());
        }
        if self.counted.len() == at {
            self.counted.push(self.counted[at - 1].with(kind(row.cid), &conv(self.rooms), &user(sender(row.cid))));
        }
        if row.counts == self.counted[at] { Ok(()) } else { Err(format!("the row at seq {seq} counts wrong")) }
    }

    /// And so is what a head says.
    fn check_heads(&self, replicas: &[Replica; 3]) -> Result<(), String> {
        let shown = replicas.iter().flat_map(|replica| replica.heads).filter(|head| head.seq > 0);
        let mut wrong = shown.filter(|head| self.counted.get(head.seq as usize) != Some(&head.counts));
        wrong.next().map_or(Ok(()), |head| Err(format!("a head at seq {} counts wrong", head.seq)))
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
    a.into_iter().chain(b).max_by_key(|row| (row.timestamp, row.cid)).cloned()
}
