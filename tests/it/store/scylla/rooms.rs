//! What is read of rooms from tables that somebody has written as a home does: in any order, and some of it large or lost.

use natter::{
    model::{
        Counts, RoomId,
        room::{Member, Reach, Role, Room, Spans, Standing},
    },
    store::{RoomRow, Rooms as _},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde::Serialize;

use super::*;
use crate::harness::cassandra::Cassandra;

/// Writes as a home does, each at the timestamp of its value.
struct Writer {
    session: Session,
    keyspace: String,
}

fn encoded(kept: &impl Serialize) -> Vec<u8> {
    let mut value = vec![1];
    rmp_serde::encode::write(&mut value, kept).unwrap();
    value
}

fn id(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn room(topic: &str, applied: Seq) -> Room {
    let topic = topic.parse().ok();
    Room { topic, public: true, reach: Reach::Join, created: 1, members: 1, owners: 1, applied, lifetime: None }
}

fn member(since: Seq) -> Member {
    Member { standing: Standing::Member(Role::Member), spans: Spans::since(since), changed: since }
}

impl Writer {
    async fn new(options: &ScyllaOptions) -> Self {
        let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
        Self { session, keyspace: options.keyspace.clone() }
    }

    async fn run(&self, cql: &str, values: impl scylla::serialize::row::SerializeRow) {
        self.session.query_unpaged(cql.replace('$', &self.keyspace), values).await.unwrap();
    }

    async fn state(&self, name: &str, room: &Room) {
        let values = (name, encoded(room), i64::try_from(room.applied).unwrap());
        self.run("INSERT INTO $.rooms (room, state) VALUES (?, ?) USING TIMESTAMP ?", values).await;
    }

    /// A head, with the last event at or below it.
    async fn head(&self, name: &str, head: i64, event: i64, preview: &Body) {
        let preview = preview.as_msgpack().to_vec();
        let values = (name, head, 10 * head, preview, head - 1, event, head);
        self.run(
            "INSERT INTO $.rooms (room, head, ts, sender, cid, row_kind, preview, head_count, event) \
             VALUES (?, ?, ?, 'bob', 'c', 0, ?, ?, ?) USING TIMESTAMP ?",
            values,
        )
        .await;
    }

    async fn member(&self, name: &str, user: &str, member: &Member) {
        let at = i64::try_from(member.changed).unwrap();
        let values = (name, user, encoded(member), at);
        self.run("INSERT INTO $.members (room, user, member) VALUES (?, ?, ?) USING TIMESTAMP ?", values).await;
        let of_user = (format!("room:{name}"), user, encoded(member), at);
        self.run("INSERT INTO $.inbox (conv, user, member) VALUES (?, ?, ?) USING TIMESTAMP ?", of_user).await;
    }
}

async fn written() -> (Arc<Taking>, Writer) {
    let options = Cassandra::shared().await.lent().await;
    (connect(&options).await, Writer::new(&options).await)
}

async fn row(store: &Taking, name: &str) -> Option<RoomRow> {
    store.rooms(&[id(name)]).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_later_stays_in_whatever_order_it_comes() {
    let (store, writer) = written().await;
    assert_eq!(row(&store, "bar").await, None);
    let text = Body::text("hi");
    writer.state("bar", &room("new", 3)).await;
    assert_eq!(row(&store, "bar").await, None, "no head shows it yet");
    writer.head("bar", 5, 4, &text).await;
    let shown = row(&store, "bar").await.unwrap();
    assert!(!shown.is_settled(), "an event at 4 is not in the tables");
    writer.state("bar", &room("newer", 4)).await;
    // Late.
    writer.state("bar", &room("old", 1)).await;
    writer.head("bar", 2, 1, &Body::text("old")).await;
    let shown = row(&store, "bar").await.unwrap();
    assert!(shown.is_settled());
    assert_eq!((shown.room.clone(), shown.head, shown.event, shown.ts), (room("newer", 4), 5, 4, 50));
    assert_eq!(shown.counts, Counts { first: 4, second: 0 });
    assert_eq!(shown.last.map(|last| (last.sender, last.body)), Some((user("bob"), text)));
    assert_eq!(store.top(&ConvId::room(&id("bar"))).await, Ok(5));
    writer.member("bar", "bob", &member(4)).await;
    writer.member("bar", "bob", &member(2)).await;
    assert_eq!(store.member(&id("bar"), &user("bob")).await, Ok(member(4)));
    assert_eq!(store.member(&id("bar"), &user("eve")).await, Ok(Member::STRANGER));
    // Nothing of all this is a direct conversation.
    assert_eq!(store.conversations(&user("bob"), None, 10).await.unwrap().items, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_members_are_listed_in_pages() {
    let (store, writer) = written().await;
    let names: Vec<String> = (0..70).map(|n| format!("r{n:02}")).collect();
    for name in names.iter().skip(1) {
        writer.state(name, &room(name, 1)).await;
        writer.head(name, 1, 1, &Body::text(name)).await;
        writer.member(name, "bob", &member(1)).await;
        writer.member("r05", name, &member(2)).await;
    }
    let asked: Vec<RoomId> = names.iter().rev().map(|name| id(name)).collect();
    let found = store.rooms(&asked).await.unwrap();
    let shown: Vec<_> = found.iter().map(|row| row.as_ref().map(|row| row.id.clone())).collect();
    let expected: Vec<_> = asked.iter().map(|room| (*room != id("r00")).then(|| room.clone())).collect();
    assert_eq!(shown, expected);
    for limit in [1, 30, 69, 100] {
        let (mut rooms, mut users) = (Vec::new(), Vec::new());
        while let page = store.rooms_of(&user("bob"), rooms.last(), limit).await.unwrap()
            && !page.is_empty()
        {
            assert!(page.len() <= limit);
            rooms.extend(page.into_iter().map(|(room, _)| room));
        }
        while let page = store.members(&id("r05"), users.last(), limit).await.unwrap()
            && !page.is_empty()
        {
            assert!(page.len() <= limit);
            users.extend(page.into_iter().map(|(user, _)| user));
        }
        assert_eq!(rooms, names[1..].iter().map(|name| id(name)).collect::<Vec<_>>());
        let expected: Vec<_> = std::iter::once("bob").chain(names[1..].iter().map(String::as_str)).map(user).collect();
        assert_eq!(users, expected);
    }
}

/// The row of the inbox that holds it has no head: it costs a comparison of direct conversations nothing, and a new device
/// begins nowhere in a room.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_in_a_room_is_in_no_list_of_direct_conversations() {
    let (store, _) = written().await;
    let (bar, bob) = (ConvId::room(&id("bar")), user("bob"));
    for (raised, expected) in [(5, 5), (3, 5), (6, 6)] {
        store.raise_read_mark(&bob, &bar, mark_at(raised)).await.unwrap();
        assert_eq!(store.read_mark(&bob, &bar).await, Ok(expected));
    }
    let page = store.conversations(&bob, None, 10).await.unwrap();
    assert_eq!((page.items.len(), page.scanned), (0, 0));
    let mut phone = phone();
    assert!(register(&***store, &mut phone).await.unwrap());
    assert_eq!(store.room_cursors(&phone, None, 10).await, Ok(vec![]));
    assert_eq!(store.rooms_of(&bob, None, 10).await, Ok(vec![]), "a mark makes nobody a member");
    assert!(!store.stamps(&phone).await.unwrap().in_rooms, "no room has heard of bob");
    store.raise_cursor(&phone, &bar, 6).await.unwrap();
    assert_eq!(store.room_cursors(&phone, None, 10).await, Ok(vec![(id("bar"), 6)]));
    assert_eq!(store.delivered(&bob, &bar).await, Ok(6));
}
