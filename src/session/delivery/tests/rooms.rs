//! Rooms in the model: a log with the rows that let the user in and put the user out. Which rows are for the user is counted
//! here row by row, without the spans that the stores keep.

use super::*;

/// What happened to the user in a room.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    joins: Vec<Seq>,
    exits: Vec<Seq>,
}

impl Log {
    pub(super) fn is_join(&self, seq: Seq) -> bool {
        self.joins.contains(&seq)
    }

    /// Half of the exits are the user's own, the others are kicks.
    pub(super) fn puts_out(&self, seq: Seq) -> Option<UserId> {
        self.exits.contains(&seq).then(me)
    }

    pub(super) fn row(&self, seq: Seq) -> Row {
        let event =
            |sender: UserId, change: Change| Row { kind: Kind::Event, sender, body: change.to_body(), ..row(seq) };
        if self.is_join(seq) {
            event(me(), Change::Joined)
        } else if self.exits.contains(&seq) && seq.is_multiple_of(2) {
            event(me(), Change::Left)
        } else if self.exits.contains(&seq) {
            event(row(seq).sender, Change::Kicked { user: me() })
        } else if seq.is_multiple_of(3) {
            event(row(seq).sender, Change::Left)
        } else {
            row(seq)
        }
    }

    /// Whether the user is in after the row at `top`.
    fn is_in(&self, top: Seq) -> bool {
        let last = |seqs: &Vec<Seq>| seqs.iter().copied().filter(|seq| *seq <= top).max();
        last(&self.joins) > last(&self.exits)
    }

    /// Whether the row at `seq` is for the user: the user was in after the row before it. So a join is not.
    fn is_mine(&self, seq: Seq) -> bool {
        self.is_in(seq.saturating_sub(1))
    }
}

impl World {
    pub(super) fn is_mine(&self, conv: usize, seq: Seq) -> bool {
        conv < FIRST_ROOM || self.logs[conv].is_mine(seq)
    }

    /// The last row that is for the user and that anybody can have.
    pub(super) fn last_mine(&self, conv: usize) -> Seq {
        let there = |seq: &Seq| self.is_mine(conv, *seq) && (conv < FIRST_ROOM || self.lost[conv] != Some(*seq));
        (1..=self.tops[conv]).rev().find(there).unwrap_or(0)
    }

    /// The next row after `seq` that is for the user; one that is lost is passed over when the client was told.
    pub(super) fn next_of(&self, conv: usize, seq: Seq) -> Seq {
        let is_cut = |seq: Seq| self.cut[conv] && self.lost[conv] == Some(seq);
        (seq + 1..).find(|seq| *seq > self.tops[conv] || self.is_mine(conv, *seq) && !is_cut(*seq)).unwrap()
    }

    /// The client was told that the log goes on for it at `from`.
    pub(super) fn jumped(&mut self, conv: usize, from: Seq) {
        let before = self.got.get(&conv).copied().unwrap_or(0).max(self.acked[conv]).max(self.left[conv]);
        let between = (before + 1..from).filter(|seq| self.is_mine(conv, *seq)).count();
        let lost = self.lost[conv].is_some_and(|lost| lost > before && lost < from && self.is_mine(conv, lost));
        assert_eq!(between, usize::from(lost), "room {conv}: from {before} to {from}: {:?}", self.logs[conv]);
    }

    /// A device that comes back misses what is left to the history, and nothing of the newest part.
    pub(super) fn leave(&mut self, conv: usize, from: Seq) {
        let last = self.end(conv, self.tops[conv]);
        // Behind the log it begins where nothing of the newest part is for the user.
        assert!(from > 1 && last + 1 >= from, "conv {conv}: from {from} of {last}");
        let newest = self.next_of(conv, last.saturating_sub(self.rules.backlog));
        assert!(from <= newest, "conv {conv}: from {from}, and the newest part begins at {newest}");
        self.left[conv] = from - 1;
    }

    /// Where a log of which the top is `top` ends for the user.
    fn end(&self, conv: usize, top: Seq) -> Seq {
        let goes_on = conv < FIRST_ROOM || self.logs[conv].is_in(top);
        if goes_on { top } else { (1..=top).rev().find(|seq| self.is_mine(conv, *seq)).unwrap_or(0) }
    }

    /// The user joins, or is put out.
    pub(super) fn change(&mut self, room: usize, lost: bool) {
        self.tops[room] += 1;
        let seq = self.tops[room];
        if self.logs[room].is_in(seq - 1) {
            self.logs[room].exits.push(seq);
            if lost && self.lost[room].is_none() {
                self.lost[room] = Some(seq);
                return;
            }
        } else {
            self.logs[room].joins.push(seq);
        }
        // On the user's own subject, and of an exit on the room's as well.
        self.notices.push((room, seq));
    }

    /// What the store says of a room when its top is `top`, to a session that is at a position, or has none and a stored
    /// cursor; a member's session listens from then on.
    pub(super) fn place(&mut self, room: usize, from: Result<Seq, Seq>, top: Seq) -> RoomPlace {
        let is_in = self.logs[room].is_in(top);
        let mine = |seq: &Seq| self.logs[room].is_mine(*seq);
        let last = self.end(room, top);
        let next_after = |from: Seq| (from + 1..=top).find(mine).or(is_in.then_some(top.max(from) + 1));
        let (all, next) = match from {
            Ok(position) => (next_after(position), next_after(position)),
            Err(cursor) => (next_after(cursor), next_after(cursor.max(last.saturating_sub(self.rules.backlog)))),
        };
        if is_in && !self.listens[room] {
            self.listens[room] = true;
            // Published while the answer was on its way.
            let there = |seq: &Seq| self.lost[room] != Some(*seq);
            self.notices.extend((top + 1..=self.tops[room]).filter(there).map(|seq| (room, seq)));
        }
        RoomPlace { upto: top, last, start: next.map(|next| next - 1), is_cut: next != all }
    }
}

/// Of the newest part nothing is for a user who came back with its last row: the device begins behind the log, and is told so,
/// because what was for it long before is left to the history. Found by the model.
#[test]
fn a_device_whose_user_came_back_a_moment_ago_begins_behind_the_log() {
    for heard_of_it in [true, false] {
        let (mut world, room) = (World::new(), FIRST_ROOM);
        world.change(room, false);
        world.change(room, false);
        for _ in 0..world.rules.backlog - 1 {
            world.run(Step::Append(room));
        }
        world.change(room, false);
        if !heard_of_it {
            world.notices.clear();
        }
        world.settle();
        assert_eq!((world.got.get(&room), world.left[room]), (None, world.tops[room]), "heard of it: {heard_of_it}");
        world.run(Step::Append(room));
        world.settle();
        world.everything_arrived();
    }
}
