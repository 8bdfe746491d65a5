//! A mesh on two NATS clusters: users and rooms are hashed over them, everything works across them, and one that dies is
//! missed only by its own users.

use natter::{
    bus::cells::place,
    client::{Client, ClientOptions, Event, NewRoom},
    config::{NatsLink, ServerUrl},
    model::{ConvId, RoomId, UserId},
    nats_server::{NatsServer, ServerOptions},
    protocol::Body,
    subject::Subject,
};

use super::{TestMesh, ledger::Ledger, token};
use crate::harness::{
    http,
    links::on_both_links,
    proxy::{Fault, Proxy},
    until,
};

/// Two nodes on two clusters of one server each.
struct Apart {
    mesh: TestMesh,
    second: NatsServer,
    _folder: tempfile::TempDir,
}

impl Apart {
    async fn start(link: NatsLink) -> Self {
        let mut apart = Self::bare(link).await;
        for _ in 0..2 {
            let second = apart.second.client_url();
            apart.add_node(second).await;
        }
        apart
    }

    /// No nodes yet.
    async fn bare(link: NatsLink) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mesh = TestMesh::bare(|config| {
            config.nats.link = link;
            config.presence.everybody = true;
            config.presence.quiet_ms = 50;
            config.presence.probe_ms = 3_600_000;
            config.timing.reconcile_spread_secs = 0;
        })
        .await;
        let options = ServerOptions { passwords: mesh.nats.passwords().clone(), ..ServerOptions::new(folder.path()) };
        let second = NatsServer::start(options).await.unwrap();
        Self { mesh, second, _folder: folder }
    }

    /// Starts a node that reaches the second cell at `second`.
    async fn add_node(&mut self, second: String) {
        let first = self.mesh.nats.client_url();
        self.mesh.config.nats.cells = [first, second].map(|url| vec![ServerUrl::new(url)]).into();
        self.mesh.add_node(String::new()).await;
    }

    async fn client(&self, node: usize, user: &UserId) -> Client {
        let url = self.mesh.nodes[node].url();
        Client::connect(ClientOptions::new(url, token(user.as_str()), format!("d{node}"))).await.unwrap()
    }

    /// Waits until a metric of both nodes has a value.
    async fn both(&self, metric: &str, value: f64) {
        until(metric, async || {
            let [one, other] = [0, 1].map(|node| http::metric(self.mesh.nodes[node].addr, metric));
            (one.await, other.await) == (value, value)
        })
        .await;
    }

    async fn reconciles(&self, node: usize) -> f64 {
        self.mesh.nodes[node].metric("natter_reconciles_total{cause=\"reconnect\"").await
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// The first of these names that is in a cell, the first of which is 1.
fn in_cell(cell: &str, subject: impl Fn(&str) -> Subject, prefix: &str) -> String {
    let mut names = (0..).map(|n| format!("{prefix}{n}"));
    names.find(|name| place(subject(name).as_str(), 2).to_string() == cell).unwrap()
}

fn user_in(cell: &str, prefix: &str) -> String {
    in_cell(cell, |name| Subject::user(&user(name)), prefix)
}

fn room_in(cell: &str) -> RoomId {
    RoomId::new(&in_cell(cell, |name| Subject::room(&RoomId::new(name).unwrap()), "room")).unwrap()
}

async fn message(client: &Client, text: &str) {
    until(text, async || match client.next().await {
        Some(Event::Message(message)) => message.body == Some(Body::text(text)),
        _ => false,
    })
    .await;
}

/// Nothing is repaired by time: whatever arrives came over one of the two.
async fn whatever_nodes_tell_each_other_is_told_in_both_cells(link: NatsLink) {
    let apart = Apart::start(link).await;
    apart.both("natter_nats_cells", 2.0).await;
    apart.both("natter_nats_connected", 2.0).await;
    for cell in ["1", "2"] {
        let (one, other) = (user(&user_in("1", "one")), user(&user_in(cell, "other")));
        let (near, far) = (apart.client(0, &one).await, apart.client(1, &other).await);
        let told = near.watch(vec![other.clone()]).await.unwrap();
        assert_eq!(told.items[0].online, Some(true), "asked over cell {cell}");
        near.send(&format!("@{other}"), Body::text("to")).await.unwrap();
        message(&far, "to").await;
        far.send(&format!("@{one}"), Body::text("back")).await.unwrap();
        message(&near, "back").await;
        let room = room_in(cell);
        near.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
        far.join_room(&room).await.unwrap();
        near.send(&format!("#{room}"), Body::text("all")).await.unwrap();
        message(&far, "all").await;
        far.close().await;
        until(
            "the watcher is told",
            async || matches!(near.next().await, Some(Event::Presence(seen)) if seen.online == Some(false)),
        )
        .await;
        // Sessions are listed, and ended, where they listen.
        let again = apart.client(1, &other).await;
        let here = apart.client(0, &other).await;
        until("both sessions are listed", async || here.sessions().await.unwrap().sessions.len() == 2).await;
        drop(again);
    }
}

async fn a_cell_that_dies_is_missed_by_its_own_users_only(link: NatsLink) {
    let mut apart = Apart::start(link).await;
    let names = [("1", "from"), ("1", "to"), ("2", "from"), ("2", "to")].map(|(cell, name)| user_in(cell, name));
    let mut peers = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let peer = apart.mesh.json(n % 2, name, "d").await;
        peer.caught_up().await;
        peers.push(peer);
    }
    let ledger = Ledger::default();
    let send = async |from: usize, to: usize, cid: &str| {
        let seq = ledger.send(&peers[from], &names[from], &format!("@{}", names[to]), cid).await;
        (ConvId::direct(&user(&names[from]), &user(&names[to])).to_string(), seq)
    };
    apart.second.kill9();
    apart.both("natter_nats_connected", 1.0).await;
    let ready = http::get(apart.mesh.nodes[0].addr, "/readyz").await.unwrap();
    assert!(ready.status == 200 && ready.body.contains("1 of 2 cells"), "{}", ready.body);
    for n in 0..20 {
        let (conv, seq) = send(0, 1, &format!("live{n}")).await;
        peers[1].message(&conv, seq).await;
        send(2, 3, &format!("later{n}")).await;
    }
    assert_eq!(peers[3].messages().len(), 0, "there was no way to it");
    // Across: the sender's cell lives, the recipient's does not, and the other way about.
    send(0, 3, "across").await;
    let (conv, seq) = send(2, 1, "across").await;
    peers[1].message(&conv, seq).await;
    apart.second.restart().await.unwrap();
    apart.both("natter_nats_connected", 2.0).await;
    for (name, peer) in names.iter().zip(&peers) {
        ledger.reaches(name, &[peer]).await;
        assert_eq!(peer.closed_now(), None);
    }
    let reconciles = async || (apart.reconciles(0).await, apart.reconciles(1).await);
    until("the sessions of that cell compare", async || reconciles().await == (1.0, 1.0)).await;
    let (conv, seq) = send(2, 3, "live again").await;
    peers[3].message(&conv, seq).await;
    let (conv, seq) = send(0, 1, "live still").await;
    peers[1].message(&conv, seq).await;
    for peer in &peers {
        peer.round_trip().await;
    }
    assert_eq!(reconciles().await, (1.0, 1.0), "one session of it on each node, and no other");
}

/// R12: the recipient's node was not cut off, and compares nothing.
async fn what_a_node_lost_on_its_way_to_a_cell_is_told_there_when_it_is_back(link: NatsLink) {
    let mut apart = Apart::bare(link).await;
    let proxy = Proxy::to(apart.second.client_addr()).await;
    apart.add_node(proxy.nats_url()).await;
    let second = apart.second.client_url();
    apart.add_node(second).await;
    let (from, to) = (user_in("1", "from"), user_in("2", "to"));
    let (alice, bob) = (apart.mesh.json(0, &from, "d").await, apart.mesh.json(1, &to, "d").await);
    bob.caught_up().await;
    let ledger = Ledger::default();
    proxy.apply_both(Fault::Hold);
    for n in 0..3 {
        ledger.send(&alice, &from, &format!("@{to}"), &format!("held{n}")).await;
    }
    proxy.apply(Fault::Cut);
    let node = apart.mesh.nodes[0].addr;
    until("the node noticed", async || http::metric(node, "natter_nats_connected").await == 1.0).await;
    assert_eq!(bob.messages().len(), 0, "there is no other way to it");
    proxy.heal();
    ledger.reaches(&to, &[&bob]).await;
}

on_both_links!(
    whatever_nodes_tell_each_other_is_told_in_both_cells,
    a_cell_that_dies_is_missed_by_its_own_users_only,
    what_a_node_lost_on_its_way_to_a_cell_is_told_there_when_it_is_back,
);
