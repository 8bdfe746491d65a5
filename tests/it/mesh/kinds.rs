//! Kinds of messages, from socket to socket over two nodes: rows about messages come in their place to everybody, history
//! shows what they made, and nothing of it is unread.

use natter::{
    client::{Client, ClientOptions, Event, NewRoom},
    model::{ConvId, Kind, Reacting, RoomId, Seq, UserId, room::Role},
    protocol::{Body, HistoryFrom, Message},
};

use super::{TestMesh, token};
use crate::harness::until;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[node].url(), token(name), "c")).await.unwrap()
}

/// The next messages that a client hears, `count` of them.
async fn heard(client: &Client, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        if let Event::Message(message) = client.next().await.unwrap() {
            messages.push(message);
        }
    }
    messages
}

fn seqs(messages: &[Message]) -> Vec<Seq> {
    messages.iter().map(|message| message.seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_deletions_and_reactions_come_in_their_place_and_are_shown_in_messages() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    for text in ["one", "two"] {
        alice.send("@bob", Body::text(text)).await.unwrap();
    }
    assert_eq!(alice.edit(&conv, 1, Body::text("eins")).await.unwrap().seq, 3);
    assert_eq!(bob.react(&conv, 1, "👍".parse().unwrap()).await.unwrap().seq, 4);
    assert_eq!(bob.unreact(&conv, 1, "👍".parse().unwrap()).await.unwrap().seq, 5);
    assert_eq!(bob.react(&conv, 1, "+1".parse().unwrap()).await.unwrap().seq, 6);
    assert_eq!(alice.delete(&conv, 2).await.unwrap().seq, 7);
    for side in [&alice, &bob] {
        let rows = heard(side, 7).await;
        assert_eq!(seqs(&rows), [1, 2, 3, 4, 5, 6, 7]);
        let kinds: Vec<_> = rows.iter().map(|row| (row.kind, row.re)).collect();
        let reaction = (Kind::Reaction, Some(1));
        let message = (Kind::Message, None);
        assert_eq!(
            kinds,
            [message, message, (Kind::Edit, Some(1)), reaction, reaction, reaction, (Kind::Delete, Some(2))]
        );
        assert_eq!(rows[2].body, Some(Body::text("eins")));
        let reacting = Reacting::of_row(Kind::Reaction, rows[4].body.as_ref().unwrap()).unwrap();
        assert!(!reacting.set && reacting.reaction.as_str() == "👍");
        let page = side.history(&conv, HistoryFrom::Before(99), 9).await.unwrap();
        assert_eq!((seqs(&page.messages), page.more), (vec![1, 2], false));
        let (first, second) = (&page.messages[0], &page.messages[1]);
        assert_eq!((&first.body, first.edited.is_some()), (&Some(Body::text("eins")), true));
        let shown: Vec<_> = first.reactions.iter().map(|of| (of.reaction.as_str(), of.count, of.who.clone())).collect();
        assert_eq!(shown, [("+1", 1, vec![user("bob")])]);
        assert_eq!((&second.body, &second.deleted), (&None, &Some(user("alice"))));
        assert_eq!(
            seqs(&side.raw_history(&conv, HistoryFrom::After(0), 9).await.unwrap().messages),
            [1, 2, 3, 4, 5, 6, 7]
        );
        let listed = side.conversations(None, 9).await.unwrap().items.remove(0);
        let last = listed.last.unwrap();
        assert_eq!((listed.head, last.seq, last.deleted, last.body), (7, 2, Some(user("alice")), None));
    }
    let unread = bob.conversations(None, 9).await.unwrap().items[0].unread;
    assert_eq!(unread, 2, "nothing that is about a message is unread");
    let refused = bob.edit(&conv, 1, Body::text("mine")).await.unwrap_err().to_string();
    assert!(refused.contains("not_allowed") && refused.contains("re:"), "{refused}");
    let refused = alice.edit(&conv, 2, Body::text("again")).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref") && refused.contains("deleted"), "{refused}");
    let refused = alice.react(&conv, 3, "+1".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref"), "an edit is no message: {refused}");
}

/// Between messages stand more rows about them than a page has: pages are small, and lead on to everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folded_history_leads_over_any_number_of_reactions() {
    let mesh = TestMesh::start(1).await;
    let alice = client(&mesh, 0, "alice").await;
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    alice.send("@bob", Body::text("first")).await.unwrap();
    for n in 0..40 {
        alice.react(&conv, 1, format!("r{n:02}").parse().unwrap()).await.unwrap();
    }
    alice.send("@bob", Body::text("last")).await.unwrap();
    for limit in [1, 2, 3, 200] {
        let (mut found, mut before) = (Vec::new(), 99);
        loop {
            let page = alice.history(&conv, HistoryFrom::Before(before), limit).await.unwrap();
            assert_eq!(page.more, page.next.is_some());
            found.splice(0..0, seqs(&page.messages));
            let Some(next) = page.next else { break };
            assert!(next < before, "a page leads on");
            before = next;
        }
        assert_eq!(found, [1, 42], "backward, {limit} at a time");
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = alice.history(&conv, HistoryFrom::After(after), limit).await.unwrap();
            found.extend(seqs(&page.messages));
            let Some(next) = page.next else { break };
            assert!(next > after, "a page leads on");
            after = next;
        }
        assert_eq!(found, [1, 42], "forward, {limit} at a time");
    }
    let first = alice.history(&conv, HistoryFrom::Around(1), 9).await.unwrap().messages.remove(0);
    assert_eq!(first.reactions.len(), 40);
}

/// Texts that grow by edits do not make a page that grows without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_large_edits_ends_early() {
    let mesh = TestMesh::start(1).await;
    let alice = client(&mesh, 0, "alice").await;
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    for _ in 1..=12 {
        alice.send("@bob", Body::text("small")).await.unwrap();
    }
    for n in 1..=12 {
        alice.edit(&conv, n, Body::text(&"x".repeat(60_000))).await.unwrap();
    }
    let page = alice.history(&conv, HistoryFrom::After(0), 200).await.unwrap();
    assert_eq!((seqs(&page.messages), page.next), (vec![1, 2, 3, 4, 5], Some(5)));
    let page = alice.history(&conv, HistoryFrom::Before(13), 200).await.unwrap();
    assert_eq!((seqs(&page.messages), page.next), (vec![8, 9, 10, 11, 12], Some(8)));
}

/// A member's rights are those of the moment at which the row gets its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moderator_deletes_what_others_wrote() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    let room = RoomId::new("lobby").unwrap();
    alice.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    let conv = ConvId::room(&room);
    let before = alice.send("#lobby", Body::text("before")).await.unwrap().seq;
    bob.join_room(&room).await.unwrap();
    let re = alice.send("#lobby", Body::text("rude")).await.unwrap().seq;
    let refused = bob.delete(&conv, re).await.unwrap_err().to_string();
    assert!(refused.contains("not_allowed"), "{refused}");
    let refused = bob.react(&conv, before, "+1".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref"), "what bob may not read: {refused}");
    alice.set_role(&room, &user("bob"), Role::Moderator).await.unwrap();
    let deleted = bob.delete(&conv, re).await.unwrap().seq;
    until("alice has heard of it", async || {
        matches!(alice.next().await, Some(Event::Message(message)) if message.kind == Kind::Delete && message.seq == deleted)
    })
    .await;
    let page = alice.history(&conv, HistoryFrom::Around(re), 9).await.unwrap();
    let shown = page.messages.iter().find(|message| message.seq == re).unwrap();
    assert_eq!((&shown.deleted, &shown.body), (&Some(user("bob")), &None));
    let log = bob.room(&room).await.unwrap().log.unwrap();
    assert_eq!((log.head, log.unread), (deleted, 1));
}
