//! Who must hear of a conversation. The store raises these users' heads and the router publishes to them: both ask
//! here, so that the two can never differ.

use std::iter;

use super::{ConvId, Parties, UserId};

/// The users whom a conversation concerns: each has an inbox row for it. In the order of their names, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    first: UserId,
    /// `None` where one writes to oneself.
    second: Option<UserId>,
}

impl Audience {
    /// The most users that an audience has.
    pub const MAX: usize = 2;

    /// The audience of a conversation; `None` for a room, which natter does not serve yet.
    pub fn of(conv: &ConvId) -> Option<Self> {
        match conv.parties() {
            Parties::Direct(first, second) if first == second => Some(Self { first, second: None }),
            Parties::Direct(first, second) => Some(Self { first, second: Some(second) }),
            Parties::Room(_) => None,
        }
    }

    /// All of them, each once: one in a conversation with oneself.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        iter::once(&self.first).chain(&self.second)
    }

    /// All but `user`: none in a conversation with oneself.
    pub fn others<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a UserId> {
        self.users().filter(move |member| *member != user)
    }

    /// Whether `user` is one of them.
    pub fn contains(&self, user: &UserId) -> bool {
        self.position(user.as_str()).is_some()
    }

    /// Which of [`Audience::users`] a user is: for state that is kept per user.
    pub fn position(&self, user: &str) -> Option<usize> {
        self.users().position(|member| member.as_str() == user)
    }

    /// All of them in the order in which they are told of a message: the recipients first and its sender last. A sender
    /// who is not one of them is left out.
    pub fn recipients_first<'a>(&'a self, sender: &'a UserId) -> impl Iterator<Item = &'a UserId> {
        self.others(sender).chain(self.users().filter(move |member| *member == sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RoomId;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn names<'a>(users: impl Iterator<Item = &'a UserId>) -> Vec<&'a str> {
        users.map(UserId::as_str).collect()
    }

    #[test]
    fn the_sender_comes_last() {
        let (a, b, eve) = (user("a"), user("a-a"), user("eve"));
        let audience = Audience::of(&ConvId::direct(&b, &a)).unwrap();
        assert_eq!(names(audience.users()), ["a", "a-a"]);
        assert_eq!(names(audience.recipients_first(&a)), ["a-a", "a"]);
        assert_eq!(names(audience.recipients_first(&b)), ["a", "a-a"]);
        assert_eq!(names(audience.recipients_first(&eve)), ["a", "a-a"]);
        assert_eq!(names(audience.others(&a)), ["a-a"]);
        assert_eq!(["a", "a-a", "aa"].map(|name| audience.position(name)), [Some(0), Some(1), None]);
        assert!(audience.contains(&b) && !audience.contains(&eve));
    }

    #[test]
    fn with_oneself_there_is_one() {
        let a = user("a");
        let audience = Audience::of(&ConvId::direct(&a, &a)).unwrap();
        assert_eq!(names(audience.users()), ["a"]);
        assert_eq!(names(audience.recipients_first(&a)), ["a"]);
        assert_eq!(audience.others(&a).count(), 0);
    }

    #[test]
    fn a_room_has_none_yet() {
        assert_eq!(Audience::of(&ConvId::room(&RoomId::new("lobby").unwrap())), None);
    }
}
