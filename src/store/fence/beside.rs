//! Rows that refer to something (R25): who may write about a message, whom a mention tells, and which rows have something
//! beside the log. Pure. Called by [`super::Role`] where a message gets its place.

use serde::{Deserialize, Serialize};

use super::Placed;
use crate::model::{Kind, NewMessage, Refs, UserId};

/// Which of the users that a message mentions are told of it, by their places among
/// [`Refs::mentions`]: whoever was in the conversation when the message was placed, but not its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(u64);

const _: () = assert!(Refs::MENTIONS <= 64, "each has a bit");

impl Told {
    /// Whom this message tells, where `hears` says who is in the conversation.
    pub(super) fn of(message: &NewMessage, hears: impl Fn(&UserId) -> bool) -> Self {
        let mut told = Self::default();
        let Some(refs) = message.refs.as_deref().filter(|_| message.kind == Kind::Message) else { return told };
        for (at, user) in refs.mentions.iter().take(Refs::MENTIONS).enumerate() {
            if *user != message.sender && hears(user) {
                told.0 |= 1 << at;
            }
        }
        told
    }

    /// Them, of the users that the row mentions.
    pub fn among(self, mentions: &[UserId]) -> impl Iterator<Item = &UserId> {
        let bit = move |at: usize| self.0.checked_shr(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1;
        mentions.iter().enumerate().filter(move |(at, _)| bit(*at)).map(|(_, user)| user)
    }
}

/// Whether anything stands beside the log for one of these rows at least.
pub fn stands_beside(rows: &[Placed]) -> bool {
    rows.iter().any(|placed| placed.row.refs.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Cid};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn mentions(names: &[String]) -> NewMessage {
        let refs = Refs { mentions: names.iter().map(|name| user(name)).collect(), ..Refs::default() };
        let (sender, cid, body) = (user("alice"), Cid::new("c").unwrap(), Body::text("hi"));
        NewMessage { refs: refs.boxed(), ..NewMessage::of_user(sender, cid, 1, body) }
    }

    #[test]
    fn those_are_told_who_hear_it_and_not_who_says_it() {
        let names: Vec<String> = ["carol", "alice", "bob", "eve"].map(str::to_owned).to_vec();
        let message = mentions(&names);
        let told = Told::of(&message, |user| user.as_str() != "eve");
        let all = &message.refs.as_ref().unwrap().mentions;
        assert_eq!(told.among(all).map(UserId::as_str).collect::<Vec<_>>(), ["carol", "bob"]);
        assert_eq!(told.among(&all[..1]).count(), 1);
        let edit = NewMessage { kind: Kind::Edit, ..message };
        assert_eq!(Told::of(&edit, |_| true), Told::default(), "an edit mentions nobody anew");
    }

    #[test]
    fn of_the_most_mentions_each_has_its_place() {
        let names: Vec<String> = (0..Refs::MENTIONS).map(|n| format!("u{n}")).collect();
        let message = mentions(&names);
        let all = &message.refs.as_ref().unwrap().mentions;
        let last = Told::of(&message, |user| user.as_str() == "u49");
        assert_eq!(last.among(all).map(UserId::as_str).collect::<Vec<_>>(), ["u49"]);
        assert_eq!(Told::of(&message, |_| true).among(all).count(), Refs::MENTIONS);
        // More than ever fit is no panic: rows come from a store.
        let many: Vec<UserId> = (0..100).map(|n| user(&format!("u{n}"))).collect();
        assert_eq!(Told(u64::MAX).among(&many).count(), 64);
    }
}
