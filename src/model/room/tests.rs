//! The rules of rooms, one by one, and random lives of a room against a plain reference.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::UserId;

const LIMITS: RoomLimits = RoomLimits { members: 4 };

/// A room with all of its members, as an engine keeps it.
#[derive(Default)]
struct Kept {
    room: Option<Room>,
    members: BTreeMap<UserId, Member>,
    seq: Seq,
}

impl Kept {
    fn member(&self, user: &UserId) -> Member {
        self.members.get(user).cloned().unwrap_or(Member::STRANGER)
    }

    fn change(&mut self, sender: &UserId, change: &Change) -> Result<(), Denied> {
        let (from, target) = (self.member(sender), change.concerns(sender));
        let about = target.map_or_else(|| from.clone(), |user| self.member(user));
        let view = View { room: self.room.as_ref(), sender: &from, target: &about };
        let changed = decide(view, change, self.seq + 1, 7, LIMITS)?;
        self.seq += 1;
        if let (Some(user), Some(member)) = (target, changed.target) {
            self.members.insert(user.clone(), member);
        }
        self.room = Some(changed.room);
        Ok(())
    }

    fn send(&mut self, sender: &UserId) -> Result<Seq, Denied> {
        may_send(self.room.as_ref(), &self.member(sender))?;
        self.seq += 1;
        Ok(self.seq)
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn created(public: bool) -> Change {
    Change::Created { topic: None, public, history: Reach::Join, lifetime: None }
}

/// owner, mod and member are in, guest is invited, kicked was put out, and stranger is unknown.
fn peopled(public: bool) -> Kept {
    let mut kept = Kept::default();
    let owner = user("owner");
    kept.change(&owner, &created(public)).unwrap();
    for name in ["mod", "member", "guest", "kicked"] {
        kept.change(&owner, &Change::Invited { user: user(name) }).unwrap();
    }
    for name in ["mod", "member", "kicked"] {
        kept.change(&user(name), &Change::Joined).unwrap();
    }
    kept.change(&owner, &Change::Role { user: user("mod"), role: Role::Moderator }).unwrap();
    kept.change(&owner, &Change::Kicked { user: user("kicked") }).unwrap();
    kept
}

const EVERYBODY: [&str; 6] = ["owner", "mod", "member", "guest", "kicked", "stranger"];

/// What everybody gets when they try: in the order of [`EVERYBODY`].
fn tried(public: bool, change: impl Fn() -> Change) -> [Result<(), Denied>; 6] {
    EVERYBODY.map(|name| peopled(public).change(&user(name), &change()))
}

#[test]
fn who_may_do_what() {
    use Denied::{Already, Exists, NoSuchMember, NoSuchRoom, NotMember};
    const MODS: Denied = Denied::Role(Role::Moderator);
    const OWNERS: Denied = Denied::Role(Role::Owner);
    let out = [Err(NotMember), Err(NotMember), Err(NoSuchRoom)];
    let rest = |first: [Result<(), Denied>; 3]| [first[0], first[1], first[2], out[0], out[1], out[2]];
    let new = || Change::Invited { user: user("new") };
    assert_eq!(tried(false, new), rest([Ok(()), Ok(()), Err(MODS)]));
    assert_eq!(tried(true, new)[2..], [Ok(()), Err(NotMember), Err(NotMember), Err(NotMember)]);
    let topic = || Change::Topic { topic: "x".parse().ok() };
    assert_eq!(tried(false, topic), rest([Ok(()), Ok(()), Err(MODS)]));
    let kick = |name: &'static str| move || Change::Kicked { user: user(name) };
    assert_eq!(tried(false, kick("member")), rest([Ok(()), Ok(()), Err(MODS)]));
    assert_eq!(tried(false, kick("mod")), rest([Ok(()), Err(OWNERS), Err(MODS)]));
    assert_eq!(tried(false, kick("owner"))[..2], [Err(Denied::LastOwner), Err(OWNERS)]);
    assert_eq!(tried(false, kick("guest"))[1], Ok(()));
    assert_eq!(tried(false, kick("stranger"))[0], Err(NoSuchMember));
    let promote = || Change::Role { user: user("member"), role: Role::Owner };
    assert_eq!(tried(false, promote), rest([Ok(()), Err(OWNERS), Err(OWNERS)]));
    let step_down = || Change::Role { user: user("owner"), role: Role::Member };
    assert_eq!(tried(false, step_down)[0], Err(Denied::LastOwner));
    let joined = || Change::Joined;
    let already = [Err(Already); 3];
    assert_eq!(tried(false, joined)[..3], already);
    assert_eq!(tried(false, joined)[3..], [Ok(()), Err(NotMember), Err(NoSuchRoom)]);
    assert_eq!(tried(true, joined)[3..], [Ok(()); 3]);
    let left = || Change::Left;
    assert_eq!(tried(false, left), [Err(Denied::LastOwner), Ok(()), Ok(()), Ok(()), Err(NotMember), Err(NoSuchRoom)]);
    assert_eq!(tried(false, || created(true)), [Err(Exists); 6]);
    let sends = EVERYBODY.map(|name| peopled(false).send(&user(name)).map(drop));
    assert_eq!(sends, rest([Ok(()); 3]));
}

#[test]
fn rooms_have_room_for_so_many() {
    let mut kept = peopled(true);
    kept.change(&user("d"), &Change::Joined).unwrap();
    assert_eq!(kept.change(&user("e"), &Change::Joined), Err(Denied::Full));
    kept.change(&user("d"), &Change::Left).unwrap();
    kept.change(&user("e"), &Change::Joined).unwrap();
}

#[test]
fn who_joins_a_room_that_everybody_left_owns_it() {
    let mut kept = Kept::default();
    kept.change(&user("a"), &created(true)).unwrap();
    kept.change(&user("a"), &Change::Left).unwrap();
    assert_eq!(kept.room.as_ref().map(|room| (room.members, room.owners)), Some((0, 0)));
    kept.change(&user("b"), &Change::Joined).unwrap();
    assert_eq!(kept.member(&user("b")).role(), Some(Role::Owner));
}

#[test]
fn members_read_what_the_room_lets_them() {
    let mut kept = peopled(true);
    let (all, join) = (Reach::All, Reach::Join);
    let member = kept.member(&user("member"));
    let since = member.spans.open().unwrap();
    assert_eq!((member.readable_after(0, all), member.readable_after(0, join)), (Some(1), Some(since + 1)));
    kept.change(&user("member"), &Change::Left).unwrap();
    let (left, last) = (kept.member(&user("member")), kept.seq);
    assert_eq!((left.readable_after(0, all), left.readable_after(last, all)), (Some(since + 1), None));
    assert_eq!(kept.member(&user("guest")).readable_after(0, all), None);
}

#[derive(Debug, Clone)]
enum Step {
    Change(UserId, Change),
    Send(UserId),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || (0..5_u8).prop_map(|n| user(&format!("u{n}")));
    let role = prop_oneof![Just(Role::Member), Just(Role::Moderator), Just(Role::Owner)];
    let change = prop_oneof![
        4 => Just(Change::Joined),
        2 => Just(Change::Left),
        2 => name().prop_map(|user| Change::Invited { user }),
        2 => name().prop_map(|user| Change::Kicked { user }),
        2 => (name(), role).prop_map(|(user, role)| Change::Role { user, role }),
        1 => Just(Change::Topic { topic: None }),
        1 => (0_u64..3).prop_map(|secs| Change::Lifetime { lifetime: secs.try_into().ok() }),
    ];
    let step = prop_oneof![
        (name(), change).prop_map(|(sender, change)| Step::Change(sender, change)),
        name().prop_map(Step::Send),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// The counts are those of the members, there is an owner, and what was written while somebody was in is theirs.
    #[test]
    fn a_rooms_life(public in any::<bool>(), steps in steps()) {
        let mut kept = Kept::default();
        kept.change(&user("u0"), &created(public)).unwrap();
        let mut theirs: BTreeMap<UserId, BTreeSet<Seq>> = BTreeMap::new();
        let mut leaves: BTreeMap<UserId, usize> = BTreeMap::new();
        for step in steps {
            let before = kept.seq;
            let members: BTreeSet<UserId> = in_it(&kept).collect();
            match step {
                Step::Change(sender, change) => drop(kept.change(&sender, &change)),
                Step::Send(sender) => {
                    let inside = members.contains(&sender);
                    prop_assert_eq!(kept.send(&sender).is_ok(), inside);
                }
            }
            for seq in before + 1..=kept.seq {
                for member in &members {
                    theirs.entry(member.clone()).or_default().insert(seq);
                }
            }
            let now: BTreeSet<UserId> = in_it(&kept).collect();
            for left in members.difference(&now) {
                *leaves.entry(left.clone()).or_default() += 1;
            }
            let room = kept.room.as_ref().unwrap();
            let owners = kept.members.values().filter(|member| member.role() == Some(Role::Owner)).count();
            prop_assert_eq!((room.members as usize, room.owners as usize), (now.len(), owners));
            prop_assert!(owners > 0 || now.is_empty());
            prop_assert!(now.len() <= LIMITS.members as usize);
        }
        for (name, member) in &kept.members {
            if leaves.get(name).is_some_and(|left| *left > Spans::PAST) {
                continue;
            }
            let expected = theirs.remove(name).unwrap_or_default();
            let held: BTreeSet<Seq> = (0..=kept.seq).filter(|seq| member.spans.hold(*seq)).collect();
            prop_assert_eq!(held, expected);
        }
    }
}

fn in_it(kept: &Kept) -> impl Iterator<Item = UserId> + '_ {
    kept.members.iter().filter(|(_, member)| member.role().is_some()).map(|(name, _)| name.clone())
}
