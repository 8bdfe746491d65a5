//! `natter why`: a table of causes, each brought about in a mesh and judged right.

use natter::{
    bus::cells::place,
    client::{Client, ClientOptions, Event, NewRoom},
    config::ServerUrl,
    model::{Cid, ConvId, NewMessage, RoomId, UserId, now_millis},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ask::SendOptions},
    store::Logs as _,
    subject::Subject,
};
use serde_json::Value;

use super::{Site, objects};
use crate::{
    harness::{PATIENCE, until, wait::until_ok},
    mesh::{Peer, TestMesh, token},
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

impl Site {
    async fn client(&self, node: usize, name: &str, device: &str) -> Client {
        Client::connect(ClientOptions::new(self.mesh.nodes[node].url(), token(name), device)).await.unwrap()
    }

    /// Asks until the verdict is the one that is wanted: what was done is known on all nodes a moment later.
    async fn judges(&self, conv: &str, seq: u64, whom: &str, wanted: &str) -> Value {
        until_ok(PATIENCE, &format!("why {conv} {seq} {whom} is {wanted}"), async || {
            let output = self.run(&["why", conv, &seq.to_string(), whom, "--json", "--wait", "300"]).await;
            let Some(report) = objects(&output.stdout).pop() else { return Err(format!("{output:?}")) };
            assert_eq!(output.status.success(), report["verdict"] == "acknowledged", "{output:?}");
            if report["verdict"] == wanted { Ok(report) } else { Err(format!("{report:#}")) }
        })
        .await
    }

    /// A device that is known and not connected.
    async fn was_here(&self, name: &str) {
        let peer = self.mesh.json(1, name, "phone").await;
        peer.caught_up().await;
        drop(peer);
    }

    async fn quiet(&self, node: usize, name: &str, device: &str) -> Peer {
        let peer = Peer::join_quiet(&self.mesh.nodes[node].url(), name, device, Encoding::Json).await;
        peer.caught_up().await;
        peer
    }
}

fn text(report: &Value) -> &str {
    report["text"].as_str().unwrap()
}

/// Alice writes on one node, whoever should get it is on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_have_it_and_devices_that_have_not() {
    let site = Site::tuned(2, |config| config.limits.window = 64).await;
    let alice = site.mesh.json(0, "alice", "d").await;
    let bob = site.mesh.json(1, "bob", "phone").await;
    bob.caught_up().await;
    alice.send("@bob", "c", "hi").await;
    let report = site.judges("dm:alice:bob", 1, "bob", "acknowledged").await;
    assert!(text(&report).contains("delivered: phone of bob acknowledged it"), "{report}");
    // For a person: the verdict first, then the hops, and nothing of what was said.
    let shown = site.good(&["why", "dm:alice:bob", "1", "bob"]).await;
    assert!(
        shown.starts_with("delivered: ") && shown.contains("\n  appended: message 1 of dm:alice:bob from alice"),
        "{shown}"
    );
    assert!(shown.contains("interest: n2") && shown.contains("cursor of phone") && !shown.contains("hi\n"), "{shown}");

    let carol = site.quiet(1, "carol", "phone").await;
    for n in 1..=65 {
        alice.send("@carol", &format!("c{n}"), "hi").await;
    }
    carol.message("dm:alice:carol", 64).await;
    let report = site.judges("dm:alice:carol", 64, "carol", "handed_out").await;
    assert_eq!(report["devices"][0]["node"], "n2", "{report}");
    site.judges("dm:alice:carol", 65, "carol", "window_full").await;

    let (_phone, _tablet) = (site.mesh.json(0, "ivan", "phone").await, site.quiet(1, "ivan", "tablet").await);
    alice.send("@ivan", "c", "hi").await;
    let report = site.judges("dm:alice:ivan", 1, "ivan", "partly").await;
    assert!(text(&report).starts_with("phone acknowledged it and tablet did not"), "{report}");
}

/// More is written than the system takes, and less than may be handed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_does_not_read_its_socket() {
    let site = Site::tuned(2, |config| config.limits.window = 65_536).await;
    let alice = site.mesh.msgpack(0, "alice", "d").await;
    let gina = site.quiet(1, "gina", "phone").await;
    gina.stop_reading();
    let (large, mut seq) = (Body::text(&"x".repeat(60_000)), 0);
    until_ok(PATIENCE, "gina's socket is full", async || {
        let sent: Vec<_> = (seq + 1..=seq + 100).map(|n| alice.begin_send("@gina", &format!("c{n}"), &large)).collect();
        for reference in sent {
            alice.answer(reference).await;
        }
        seq += 100;
        let output = site.run(&["why", "dm:alice:gina", &seq.to_string(), "gina", "--json", "--wait", "300"]).await;
        let report = objects(&output.stdout).pop().ok_or_else(|| format!("{output:?}"))?;
        if report["verdict"] == "not_reading" { Ok(()) } else { Err(report["text"].to_string()) }
    })
    .await;
}

/// Who was away for too long is handed the newest part, and acknowledges what it was handed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_away_for_too_long() {
    let site = Site::tuned(2, |config| config.limits.backlog_per_conversation = 3).await;
    let alice = site.mesh.json(0, "alice", "d").await;
    site.was_here("jane").await;
    for n in 1..=8 {
        alice.send("@jane", &format!("c{n}"), "hi").await;
    }
    let jane = site.quiet(1, "jane", "phone").await;
    assert_eq!(jane.seqs("dm:alice:jane"), [6, 7, 8]);
    let report = site.judges("dm:alice:jane", 5, "jane", "left_to_history").await;
    assert!(text(&report).contains("began behind 5"), "{report}");
    site.judges("dm:alice:jane", 6, "jane", "handed_out").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_or_never_there_and_what_was_never_said() {
    let site = Site::tuned(2, |config| config.timing.blocks_known_ms = 100).await;
    let alice = site.client(0, "alice", "d").await;
    site.was_here("dave").await;
    alice.send("@dave", Body::text("hi")).await.unwrap();
    let report = site.judges("dm:alice:dave", 1, "dave", "offline").await;
    assert!(text(&report).contains("it gets it when it connects"), "{report}");
    let report = site.judges("dm:alice:dave", 2, "dave", "never_appended").await;
    assert!(text(&report).contains("ends at 1"), "{report}");
    alice.send("@erin", Body::text("hi")).await.unwrap();
    site.judges("dm:alice:erin", 1, "erin", "no_device").await;
    site.judges("dm:alice:erin", 1, "mallory", "not_theirs").await;

    let mallory = site.client(1, "mallory", "d").await;
    mallory.block(&user("alice")).await.unwrap();
    assert!(alice.send("@mallory", Body::text("hi")).await.is_err());
    let report = site.judges("dm:alice:mallory", 1, "mallory", "blocked").await;
    assert!(text(&report).contains("mallory and alice"), "{report}");

    // Blocked only afterwards: the message was delivered by then.
    let conv = ConvId::direct(&user("alice"), &user("dave"));
    let second = alice.send("@dave", Body::text("gone soon")).await.unwrap();
    alice.delete(&conv, second.seq).await.unwrap();
    let report = site.judges("dm:alice:dave", second.seq, "dave", "deleted").await;
    assert!(text(&report).contains("deleted by alice"), "{report}");
    let brief = SendOptions { expires: Some("1".parse().unwrap()), ..SendOptions::default() };
    let third = alice.send_with("@dave", "brief", Body::text("brief"), brief).await.unwrap();
    site.judges("dm:alice:dave", third.seq, "dave", "expired").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_now_and_members_of_then() {
    let site = Site::tuned(2, |_| ()).await;
    let (alice, frank) = (site.client(0, "alice", "d").await, site.client(1, "frank", "phone").await);
    let room = RoomId::new("lobby").unwrap();
    let new = NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() };
    alice.create_room(new).await.unwrap();
    let before = alice.send("#lobby", Body::text("before")).await.unwrap().seq;
    frank.join_room(&room).await.unwrap();
    let during = alice.send("#lobby", Body::text("during")).await.unwrap().seq;
    until(
        "frank has it",
        async || matches!(frank.next().await, Some(Event::Message(message)) if message.seq == during),
    )
    .await;
    frank.leave_room(&room).await.unwrap();
    let after = alice.send("#lobby", Body::text("after")).await.unwrap().seq;
    let report = site.judges("room:lobby", before, "frank", "not_member").await;
    assert!(text(&report).contains("left room:lobby") || text(&report).contains("no member"), "{report}");
    site.judges("room:lobby", after, "frank", "not_member").await;
    site.judges("room:lobby", during, "frank", "acknowledged").await;
    let report = site.judges("room:lobby", during, "grace", "not_member").await;
    assert!(text(&report).contains("never a member"), "{report}");
    site.judges("room:nowhere", 1, "frank", "not_theirs").await;
}

/// It is in the log, and nothing of it came over NATS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notice_is_told_from_a_lost_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = TestMesh::bare(|_| ()).await;
    let options = ServerOptions { passwords: mesh.nats.passwords().clone(), ..ServerOptions::new(folder.path()) };
    let mut second = NatsServer::start(options).await.unwrap();
    mesh.config.nats.cells = [mesh.nats.client_url(), second.client_url()].map(|url| vec![ServerUrl::new(url)]).into();
    mesh.add_node(String::new()).await;
    let site = Site::of(mesh);
    let in_cell = |cell: &str| {
        let mut names = (0..).map(|n| format!("user{n}"));
        names.find(|name| place(Subject::user(&user(name)).as_str(), 2).to_string() == cell).unwrap()
    };
    for (cell, wanted) in [("1", "unheard"), ("2", "cut_off")] {
        let name = in_cell(cell);
        let peer = site.mesh.json(0, &name, "phone").await;
        peer.caught_up().await;
        if cell == "2" {
            second.kill9();
        }
        let conv = ConvId::direct(&user("alice"), &user(&name));
        let message = NewMessage::of_user(user("alice"), Cid::new("c").unwrap(), now_millis(), Body::text("hi"));
        // Not through a node: whoever should have published it died before.
        site.mesh.store.append(&conv, vec![message]).await.pop().unwrap().unwrap();
        let report = site.judges(conv.as_str(), 1, &name, wanted).await;
        assert!(text(&report).contains("phone: its "), "{report}");
    }
}
