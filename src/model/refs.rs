//! What a row says beside its body: which message it is about, what it replies to, whom it mentions, when it expires. And who
//! may write a row about a message. Pure: `ops` makes the targets, the engines keep them and ask [`may_refer`] where a row
//! gets its seq.

use serde::{Deserialize, Serialize};

use super::{
    Folded, Kind, Millis, Row, Seq, UserId,
    room::{Denied, Role},
};

/// The message that an edit, a deletion or a reaction is about, with what never changes of it once it is written: so whoever
/// gives out seqs needs not read it. Made of the message's own row, in no other way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    seq: Seq,
    author: UserId,
    service: bool,
    expires: Option<Millis>,
    gone: Option<Gone>,
}

/// Why there is nothing left of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gone {
    /// Somebody deleted it.
    Deleted,
    /// Its time is over.
    Expired,
}

impl Target {
    /// The target that a row is, with what was made of it and the time of now; `None` where it is no message.
    pub fn of(row: &Row, folded: Option<&Folded>, now: Millis) -> Option<Self> {
        if row.kind != Kind::Message {
            return None;
        }
        let gone = match folded {
            Some(Folded { deleted: Some(_), .. }) => Some(Gone::Deleted),
            // Erased.
            _ if row.body.is_sealed() => Some(Gone::Deleted),
            _ => row.is_expired(now).then_some(Gone::Expired),
        };
        Some(Self { seq: row.seq, author: row.sender.clone(), service: row.service, expires: row.expires(), gone })
    }

    /// Its place.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

/// What a row refers to, and how long it counts. Only for rows that have any of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refs {
    /// Of an edit, a deletion, a reaction: the message that it is about.
    pub re: Option<Target>,
    /// Of a message: the one that it replies to.
    pub reply_to: Option<Seq>,
    /// Of a message: whom it mentions.
    pub mentions: Vec<UserId>,
    /// From then on nobody is shown its body. An edit expires with its message.
    pub expires: Option<Millis>,
}

impl Refs {
    /// Most users that a message mentions.
    pub const MENTIONS: usize = 50;

    /// About a message.
    pub fn about(target: Target) -> Box<Self> {
        let expires = target.expires;
        Box::new(Self { re: Some(target), expires, ..Self::default() })
    }

    /// In a box, if there is anything in it.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Whether a second try says the same as the first one, which was stored: it expires when the first one does, which a
    /// room may have said.
    pub fn is_retry_of(again: Option<&Self>, first: Option<&Self>) -> bool {
        let none = Self::default();
        let (again, first) = (again.unwrap_or(&none), first.unwrap_or(&none));
        let re = |refs: &Self| refs.re.as_ref().map(Target::seq);
        re(again) == re(first)
            && again.reply_to == first.reply_to
            && again.mentions == first.mentions
            && (again.expires.is_none() || first.expires.is_some())
    }
}

/// Whether the sender may write a row of this kind with these references, with `role` in a room, without one in a direct
/// conversation: the author edits; the author, owners and moderators delete; everybody who may write may react.
///
/// # Errors
/// Why not.
pub fn may_refer(
    (kind, refs): (Kind, Option<&Refs>),
    (sender, service): (&UserId, bool),
    role: Option<Role>,
) -> Result<(), Denied> {
    let target = refs.and_then(|refs| refs.re.as_ref());
    if matches!(kind, Kind::Message | Kind::Event) {
        return if target.is_none() { Ok(()) } else { Err(Denied::NoTarget) };
    }
    let Target { author, service: by_service, gone, .. } = target.ok_or(Denied::NoTarget)?;
    let is_author = author == sender && *by_service == service;
    match kind {
        Kind::Edit if !is_author => return Err(Denied::NotAuthor),
        Kind::Delete if !is_author => match role {
            Some(Role::Owner | Role::Moderator) => {}
            Some(Role::Member) => return Err(Denied::Role(Role::Moderator)),
            None => return Err(Denied::NotAuthor),
        },
        _ => {}
    }
    gone.map_or(Ok(()), |gone| Err(Denied::Gone(gone)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Cid, Counts};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn row(kind: Kind, sender: &str) -> Row {
        let refs = Refs { expires: Some(100), ..Refs::default() }.boxed();
        let (sender, cid, body) = (user(sender), Cid::new("c").unwrap(), Body::text("hi"));
        Row { seq: 7, kind, sender, service: false, cid, ts: 1, body, counts: Counts::default(), refs }
    }

    #[test]
    fn only_a_message_is_a_target() {
        for kind in [Kind::Event, Kind::Edit, Kind::Delete, Kind::Reaction] {
            assert_eq!(Target::of(&row(kind, "alice"), None, 1), None);
        }
        let target = Target::of(&row(Kind::Message, "alice"), None, 99).unwrap();
        assert_eq!((target.seq(), target.gone), (7, None));
        assert_eq!(Target::of(&row(Kind::Message, "alice"), None, 100).unwrap().gone, Some(Gone::Expired));
    }

    #[test]
    fn who_may_write_about_a_message() {
        let refs = Refs::about(Target::of(&row(Kind::Message, "alice"), None, 1).unwrap());
        let may = |kind, sender: &str, service, role| may_refer((kind, Some(&refs)), (&user(sender), service), role);
        let less = Err(Denied::Role(Role::Moderator));
        for (role, deletes) in [
            (None, Err(Denied::NotAuthor)),
            (Some(Role::Member), less),
            (Some(Role::Moderator), Ok(())),
            (Some(Role::Owner), Ok(())),
        ] {
            assert_eq!(may(Kind::Edit, "alice", false, role), Ok(()));
            assert_eq!(may(Kind::Edit, "bob", false, role), Err(Denied::NotAuthor));
            assert_eq!(may(Kind::Edit, "alice", true, role), Err(Denied::NotAuthor), "a service of the same name");
            assert_eq!(may(Kind::Delete, "alice", false, role), Ok(()));
            assert_eq!(may(Kind::Delete, "bob", false, role), deletes);
            assert_eq!(may(Kind::Reaction, "bob", false, role), Ok(()));
            assert_eq!(may(Kind::Message, "alice", false, role), Err(Denied::NoTarget));
        }
        let gone = Refs::about(Target::of(&row(Kind::Message, "alice"), None, 100).unwrap());
        let answer = may_refer((Kind::Edit, Some(&gone)), (&user("alice"), false), None);
        assert_eq!(answer, Err(Denied::Gone(Gone::Expired)));
        assert_eq!(may_refer((Kind::Delete, None), (&user("alice"), false), None), Err(Denied::NoTarget));
    }
}
