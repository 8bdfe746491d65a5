//! A room in the simulation: what its clients write, and what readers could see of it held against the fold of its log.

use super::{
    home::{LIMITS, sender, user},
    world::{Replica, Stored, take_member},
};
use crate::model::{
    RoomId, Seq, UserId,
    room::{Change, Denied, Member, Reach, Room, View, decide, may_send},
};

/// What clients send; even ones are alice's.
pub(super) const ROOM_CIDS: [u8; 8] = [10, 11, 12, 13, 14, 15, 16, 17];

/// The change that a message is: alice makes the room and kicks bob twice, bob joins twice; the others are messages.
pub(super) fn change(cid: u8) -> Option<Change> {
    match cid {
        10 => Some(Change::Created { topic: None, public: true, history: Reach::Join, lifetime: None }),
        11 | 15 => Some(Change::Joined),
        14 | 16 => Some(Change::Kicked { user: user(1) }),
        _ => None,
    }
}

pub(super) fn room_id() -> RoomId {
    RoomId::new("r").unwrap()
}

/// The room after a seq.
#[derive(Debug, Clone)]
struct State {
    room: Option<Room>,
    members: [Member; 2],
    /// The last event.
    event: Seq,
    /// Everything that is stored up to there.
    cids: Vec<u8>,
}

impl State {
    fn next(&self, cid: u8, seq: Seq) -> Result<Self, Denied> {
        let mut next = self.clone();
        next.cids.push(cid);
        let (room, author) = (self.room.as_ref(), &self.members[sender(cid)]);
        let Some(change) = change(cid) else { return may_send(room, author).map(|()| next) };
        let by = user(sender(cid));
        let about = change.concerns(&by).map_or(sender(cid), number);
        let view = View { room, sender: author, target: &self.members[about] };
        let changed = decide(view, &change, seq, 1, LIMITS.room)?;
        next.members[about] = changed.target.unwrap_or(Member::STRANGER);
        (next.room, next.event) = (Some(changed.room), seq);
        Ok(next)
    }
}

fn number(name: &UserId) -> usize {
    usize::from(*name == user(1))
}

/// What the visible rows make of the room, at each seq, and the refusals that are not judged yet.
#[derive(Debug)]
pub(super) struct Folded {
    states: Vec<State>,
    refused: Vec<(u8, Seq, Denied)>,
    denied: usize,
}

impl Default for Folded {
    fn default() -> Self {
        let members = [Member::STRANGER, Member::STRANGER];
        let nothing = State { room: None, members, event: 0, cids: Vec::new() };
        Self { states: vec![nothing], refused: Vec::new(), denied: 0 }
    }
}

impl Folded {
    pub(super) fn denied(&self) -> usize {
        self.denied
    }

    /// A send that came when `asked` was the last seq answered is refused.
    pub(super) fn on_denied(&mut self, cid: u8, asked: Seq, denied: Denied) {
        self.denied += 1;
        self.refused.push((cid, asked, denied));
    }

    /// Everybody may see this row. Rows are seen in their order.
    pub(super) fn see(&mut self, seq: Seq, row: &Stored) -> Result<(), String> {
        let at = seq as usize;
        if self.states.len() == at {
            let wrong = |denied| format!("message {} stands at seq {seq}: {denied}", row.cid);
            let next = self.states[at - 1].next(row.cid, seq).map_err(wrong)?;
            self.states.push(next);
        }
        let state = &self.states[at];
        let says = row.made.as_deref().map(|made| &made.room);
        let makes = change(row.cid).and(state.room.as_ref());
        let agree = says == makes && row.event == self.states[at - 1].event;
        if agree { Ok(()) } else { Err(format!("the row at seq {seq} says of the room what is not so")) }
    }

    /// Whoever sees the head `head` on any replica sees the room and the members as of there, or later.
    pub(super) fn check(&mut self, replicas: &[Replica; 3], head: Seq) -> Result<(), String> {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (a, b) = (&replicas[a], &replicas[b]);
            let mut at = a.room.clone();
            at.take(b.room.clone());
            let event = self.states[at.head.seq as usize].event;
            let applied = at.room.as_ref().map_or(0, |room| room.applied);
            if at.event != event || applied < event {
                return Err(format!("at head {} the room shows {applied} applied of {event}", at.head.seq));
            }
            if self.states.get(applied as usize).is_some_and(|state| state.room != at.room) {
                return Err(format!("the room as of seq {applied} is not what the log makes of it"));
            }
            for user in 0..2 {
                let mut member = a.members[user].clone();
                b.members[user].clone().into_iter().for_each(|other| take_member(&mut member, other));
                self.check_member(user, &member.unwrap_or(Member::STRANGER), head)?;
            }
        }
        let refused = std::mem::take(&mut self.refused);
        refused.into_iter().try_for_each(|(cid, asked, denied)| self.judge(cid, asked, denied))
    }

    fn check_member(&self, user: usize, member: &Member, head: Seq) -> Result<(), String> {
        if member.changed < self.states[head as usize].members[user].changed {
            return Err(format!("at head {head} user {user} is as of seq {} only", member.changed));
        }
        match self.states.get(member.changed as usize) {
            Some(state) if state.members[user] != *member => {
                Err(format!("user {user} as of seq {} is not what the log makes of it", member.changed))
            }
            _ => Ok(()),
        }
    }

    /// It was so at some moment between the question and the answer, and the message was not stored.
    fn judge(&self, cid: u8, asked: Seq, denied: Denied) -> Result<(), String> {
        let states = &self.states[(asked as usize).min(self.states.len() - 1)..];
        if states[0].cids.contains(&cid) {
            return Err(format!("message {cid} is stored, and was refused: {denied}"));
        }
        let so = states.iter().any(|state| state.next(cid, state.cids.len() as Seq + 1).err() == Some(denied));
        if so { Ok(()) } else { Err(format!("message {cid} was refused, and never so after seq {asked}: {denied}")) }
    }
}
