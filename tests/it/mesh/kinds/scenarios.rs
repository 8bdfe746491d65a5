//! What people see of kinds of messages, whatever the store: rows about messages come in their place to everybody, history shows
//! what they made, and nothing of it is unread.

use natter::{
    client::{Client, ClientOptions, Event, NewRoom},
    model::{ConvId, Kind, Reacting, RoomId, Seq, UserId, room::Role},
    protocol::{Body, HistoryFrom, Message, ask::SendOptions},
};

use super::Nodes;
use crate::{
    harness::{PATIENCE, until},
    mesh::token,
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &impl Nodes, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.url(node), token(name), "c")).await.unwrap()
}

/// The next messages that a client hears, `count` of them.
async fn heard(client: &Client, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let event = tokio::time::timeout(PATIENCE, client.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{count} should come, and only these came: {messages:?}"));
        if let Event::Message(message) = event.unwrap() {
            messages.push(message);
        }
    }
    messages
}

fn seqs(messages: &[Message]) -> Vec<Seq> {
    messages.iter().map(|message| message.seq).collect()
}

pub async fn edits_deletions_and_reactions_come_in_their_place_and_are_shown_in_messages(mesh: &impl Nodes) {
    let (alice, bob) = (client(mesh, 0, "alice").await, client(mesh, 1, "bob").await);
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
    bob.block(&user("alice")).await.unwrap();
    let by_blocked =
        async || alice.edit(&conv, 1, Body::text("more")).await.is_err_and(|why| why.to_string().contains("blocked"));
    until("whoever is blocked edits nothing", by_blocked).await;
    bob.unblock(&user("alice")).await.unwrap();
    until("and is not any more", async || alice.edit(&conv, 1, Body::text("more")).await.is_ok()).await;
    let refused = alice.react(&conv, 3, "+1".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref"), "an edit is no message: {refused}");
}

/// Between messages stand more rows about them than a page has: pages are small, and lead on to everything.
pub async fn a_folded_history_leads_over_any_number_of_reactions(mesh: &impl Nodes) {
    let alice = client(mesh, 0, "alice").await;
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
pub async fn a_page_of_large_edits_ends_early(mesh: &impl Nodes) {
    let alice = client(mesh, 0, "alice").await;
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
pub async fn a_moderator_deletes_what_others_wrote(mesh: &impl Nodes) {
    let (alice, bob) = (client(mesh, 0, "alice").await, client(mesh, 1, "bob").await);
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

fn options(names: &[&str]) -> SendOptions {
    SendOptions { mentions: names.iter().map(|name| user(name)).collect(), ..SendOptions::default() }
}

pub async fn mentions_are_counted_until_they_are_read_on_any_device(mesh: &impl Nodes) {
    let (alice, bob) = (client(mesh, 0, "alice").await, client(mesh, 1, "bob").await);
    let phone = ClientOptions::new(mesh.url(0), token("bob"), "phone");
    let phone = Client::connect(phone).await.unwrap();
    let room = RoomId::new("lobby").unwrap();
    alice.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    bob.join_room(&room).await.unwrap();
    let conv = ConvId::room(&room);
    let first = alice.send("#lobby", Body::text("plain")).await.unwrap().seq;
    let reply = SendOptions { reply_to: Some(first), ..options(&["bob", "eve"]) };
    let second = alice.send_with("#lobby", "c2", Body::text("bob!"), reply).await.unwrap().seq;
    alice.send_with("#lobby", "c3", Body::text("bob?"), options(&["bob", "alice"])).await.unwrap();
    until("bob has heard of it", async || {
        let Some(Event::Message(message)) = bob.next().await else { return false };
        message.seq == second && message.reply_to == Some(first) && message.mentions == [user("bob"), user("eve")]
    })
    .await;
    let counts = async |client: &Client| {
        let log = client.rooms(None, 9).await.unwrap().items.remove(0).log.unwrap();
        (log.unread, log.mentions)
    };
    assert_eq!((counts(&bob).await, counts(&alice).await.1), ((3, 2), 0));
    phone.read(&conv, second).await.unwrap();
    until("it is read on the other device, too", async || counts(&bob).await == (1, 1)).await;
    let direct = alice.send_with("@bob", "d", Body::text("hi"), options(&["bob"])).await.unwrap();
    let listed = bob.conversations(None, 9).await.unwrap().items.remove(0);
    assert_eq!((&listed.conv, listed.unread, listed.mentions), (&direct.conv, 1, 1));
    let hidden = SendOptions { reply_to: Some(2), ..SendOptions::default() };
    let refused = alice.send_with("#lobby", "c4", Body::text("to nothing"), hidden).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref") && refused.contains("reply_to"), "an event is no message: {refused}");
}

pub async fn what_has_expired_is_in_no_answer(mesh: &impl Nodes) {
    let alice = client(mesh, 0, "alice").await;
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    alice.send("@bob", Body::text("stays")).await.unwrap();
    let soon = SendOptions { expires: "1".parse().ok(), ..SendOptions::default() };
    alice.send_with("@bob", "c2", Body::text("secret"), soon).await.unwrap();
    alice.edit(&conv, 2, Body::text("other secret")).await.unwrap();
    let is_gone = async || {
        let page = alice.history(&conv, HistoryFrom::After(1), 9).await.unwrap();
        page.messages[0].expired
    };
    until("it has expired", is_gone).await;
    // Only now: everything that bob gets comes from the store.
    let bob = client(mesh, 1, "bob").await;
    let rows = heard(&bob, 3).await;
    assert_eq!((rows[0].body.as_ref(), rows[0].expired), (Some(&Body::text("stays")), false));
    for row in &rows[1..] {
        assert!(row.expired && row.body.is_none() && row.expires.is_some(), "{row:?}");
    }
    for page in [
        bob.history(&conv, HistoryFrom::After(1), 9).await.unwrap(),
        bob.raw_history(&conv, HistoryFrom::Around(2), 2).await.unwrap(),
    ] {
        let shown = page.messages.iter().find(|message| message.seq == 2).unwrap();
        assert!(shown.expired && shown.body.is_none(), "{shown:?}");
    }
    let listed = bob.conversations(None, 9).await.unwrap().items.remove(0);
    let last = listed.last.unwrap();
    assert_eq!((last.seq, last.expired, last.body), (2, true, None));
    assert_eq!(listed.unread, 1, "nobody can read it any more");
    let refused = bob.react(&conv, 2, "+1".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref") && refused.contains("expired"), "{refused}");
}

/// A room says how long its messages last, from the change on, whoever sends: the order of the log decides.
pub async fn a_room_says_how_long_its_messages_last(mesh: &impl Nodes) {
    let (alice, bob) = (client(mesh, 0, "alice").await, client(mesh, 1, "bob").await);
    let carol = client(mesh, 0, "carol").await;
    let room = RoomId::new("lobby").unwrap();
    let new = NewRoom { room: Some(room.clone()), public: true, lifetime: "3600".parse().ok(), ..NewRoom::default() };
    let conv = alice.create_room(new).await.unwrap().conv;
    bob.join_room(&room).await.unwrap();
    carol.join_room(&room).await.unwrap();
    let sooner = SendOptions { expires: "60".parse().ok(), ..SendOptions::default() };
    let later = SendOptions { expires: "7200".parse().ok(), ..SendOptions::default() };
    bob.send_with("#lobby", "b1", Body::text("as the room says"), SendOptions::default()).await.unwrap();
    bob.send_with("#lobby", "b2", Body::text("sooner"), sooner).await.unwrap();
    bob.send_with("#lobby", "b3", Body::text("later"), later).await.unwrap();
    assert_eq!(alice.set_lifetime(&room, None).await.unwrap().seq, Some(7));
    bob.send("#lobby", Body::text("stays")).await.unwrap();
    // A second try is the first one, whatever the room says by now.
    let again = bob.send_with("#lobby", "b1", Body::text("as the room says"), SendOptions::default()).await.unwrap();
    assert_eq!(again.seq, 4);
    alice.set_lifetime(&room, "1".parse().ok()).await.unwrap();
    assert_eq!(alice.room(&room).await.unwrap().lifetime, "1".parse().ok());
    bob.send("#lobby", Body::text("gone soon")).await.unwrap();
    let live = heard(&carol, 7).await;
    let paged = alice.raw_history(&conv, HistoryFrom::After(3), 9).await.unwrap().messages;
    for rows in [&live, &paged] {
        let lasts: Vec<_> = rows.iter().map(|row| row.expires.map(|expires| (expires - row.ts) / 1_000)).collect();
        let expected = [Some(3_600), Some(60), Some(3_600), None, None, None, Some(1)];
        assert_eq!((seqs(rows), lasts), ((4..11).collect(), expected.to_vec()));
    }
    let is_gone = async || bob.history(&conv, HistoryFrom::After(9), 9).await.unwrap().messages[0].expired;
    until("the last one has expired", is_gone).await;
    let refused = bob.set_lifetime(&room, None).await.unwrap_err().to_string();
    assert!(refused.contains("not_allowed"), "{refused}");
}

pub async fn a_member_may_ask_who_has_read(mesh: &impl Nodes) {
    let (alice, bob) = (client(mesh, 0, "alice").await, client(mesh, 1, "bob").await);
    let (carol, eve) = (client(mesh, 0, "carol").await, client(mesh, 1, "eve").await);
    let room = RoomId::new("lobby").unwrap();
    alice.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    let conv = ConvId::room(&room);
    bob.join_room(&room).await.unwrap();
    carol.join_room(&room).await.unwrap();
    let seq = alice.send("#lobby", Body::text("hi")).await.unwrap().seq;
    let end = alice.send("#lobby", Body::text("ho")).await.unwrap().seq;
    let named = async |seq, limit| {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = alice.readers(&room, seq, after, limit).await.unwrap();
            names.extend(page.items.into_iter().map(|reader| (reader.user.to_string(), reader.read)));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    alice.read(&conv, end).await.unwrap();
    bob.read(&conv, seq).await.unwrap();
    let expected = vec![("alice".to_owned(), end), ("bob".to_owned(), seq)];
    until("both have read", async || named(seq, 100).await == expected).await;
    assert_eq!(named(seq, 1).await, expected, "page by page");
    assert_eq!(named(end, 9).await, [("alice".to_owned(), end)]);
    eve.join_room(&room).await.unwrap();
    let refused = eve.readers(&room, seq, None, 9).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref"), "what eve may not read: {refused}");
    let refused = alice.readers(&room, 99, None, 9).await.unwrap_err().to_string();
    assert!(refused.contains("bad_ref") && refused.contains("seq"), "{refused}");
    alice.kick(&room, &user("bob")).await.unwrap();
    assert_eq!(named(seq, 9).await, [("alice".to_owned(), end)], "those who are there");
}
