//! Devices come and go on two nodes while messages flow and one node loses NATS again and again: whatever happens,
//! every device gets everything in the end (I2), each session in order (I3). Random, and printed so that a failure can
//! be analysed; the periodic reconcile is off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use natter::{
    client::{Client, ClientOptions},
    protocol::{Body, Encoding},
};
use tokio::time::sleep;

use crate::{
    harness::proxy::{Fault, Proxy},
    mesh::{Peer, TestMesh, TestNode, ledger::Ledger, token},
};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const FOR: Duration = Duration::from_secs(4);

/// Sends to everyone in turn until told to stop.
async fn send_all(urls: Vec<String>, user: &'static str, ledger: Ledger, stop: Arc<AtomicBool>) {
    let mut options = ClientOptions::new(urls[0].clone(), token(user), "sender");
    options.urls = urls;
    let client = Client::connect(options).await.unwrap();
    let reader = client.clone();
    let reading = tokio::spawn(async move { while reader.next().await.is_some() {} });
    for i in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let cid = format!("{user}-{i}");
        let to = format!("@{}", USERS[i % USERS.len()]);
        let sent = client.send_with_cid(&to, &cid, Body::text(&cid)).await.unwrap();
        ledger.answered(user, &cid, sent.conv.as_str(), sent.seq);
        sleep(Duration::from_millis(rand::random_range(0..4))).await;
    }
    client.close().await;
    reading.abort();
}

/// Connects here and there, for short times, until told to stop; then once more. Returns all sessions, the last one
/// alive.
async fn come_and_go(urls: Vec<String>, user: &'static str, device: String, stop: Arc<AtomicBool>) -> Vec<Peer> {
    let mut sessions = Vec::new();
    for attempt in 0.. {
        let ending = stop.load(Ordering::Acquire);
        let url = &urls[rand::random_range(0..urls.len())];
        let encoding = if rand::random() { Encoding::Json } else { Encoding::MsgPack };
        let peer = Peer::join_as(url, &token(user), &device, encoding, attempt).await.unwrap();
        if ending {
            sessions.push(peer);
            break;
        }
        if rand::random_range(0..4) == 0 {
            peer.hold_acks();
        }
        sleep(Duration::from_millis(rand::random_range(0..300))).await;
        peer.cut();
        sessions.push(peer);
    }
    sessions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_come_and_go_and_miss_nothing() {
    let mut mesh = TestMesh::tuned(1, |config| {
        config.limits.window = 24;
        config.timing.recheck_ms = 300;
        config.timing.reconcile_spread_secs = 0;
        config.timing.ack_coalesce_ms = 50;
    })
    .await;
    let link = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(link.nats_url()).await;
    let urls: Vec<_> = mesh.nodes.iter().map(TestNode::url).collect();
    let devices: Vec<_> = USERS.iter().flat_map(|user| ["d1", "d2"].map(|device| (*user, device.to_owned()))).collect();
    // I2 counts from the first welcome on.
    for (user, device) in &devices {
        mesh.json(0, user, device).await.caught_up().await;
    }
    let (ledger, stop) = (Ledger::default(), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> =
        USERS.map(|user| tokio::spawn(send_all(urls.clone(), user, ledger.clone(), stop.clone()))).into();
    let going: Vec<_> = devices
        .iter()
        .map(|(user, device)| tokio::spawn(come_and_go(urls.clone(), user, device.clone(), stop.clone())))
        .collect();
    let end = tokio::time::Instant::now() + FOR;
    while tokio::time::Instant::now() < end {
        sleep(Duration::from_millis(rand::random_range(100..500))).await;
        link.apply(Fault::Cut);
        sleep(Duration::from_millis(rand::random_range(0..300))).await;
        link.heal();
    }
    stop.store(true, Ordering::Release);
    for sender in senders {
        sender.await.unwrap();
    }
    for ((user, device), sessions) in devices.iter().zip(going) {
        let sessions = sessions.await.unwrap();
        println!("{user}/{device}: {} sessions, {} messages answered in all", sessions.len(), ledger.len());
        ledger.reaches(user, &sessions.iter().collect::<Vec<_>>()).await;
    }
}
