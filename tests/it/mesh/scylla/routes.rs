//! Scenario 10 in small: NATS loses what it carries, once with everyone noticing and once with no one, for a user with
//! hundreds of conversations. Reconcile brings it all, and reads no more rows per second than it may.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::try_join_all, stream};
use natter::{
    model::{Cid, ConvId, NewMessage, UserId},
    nats_server::{NatsServer, Passwords, free_ports},
    protocol::Body,
    store::{Logs as _, scylla::ScyllaOptions},
};
use tokio::time::{Instant, sleep};

use super::{
    fleet::{Fleet, QUICK, Ways},
    people::{Person, check_logs, direct, patiently, send},
};
use crate::{
    harness::{
        cassandra::{Cassandra, Taking},
        http::metric,
        nats::Cluster,
        proxy::{Fault, Proxy},
        until,
    },
    mesh::ledger::Ledger,
};

const CONVERSATIONS: usize = 600;
const DEVICES: usize = 3;
const WRITERS: usize = 10;
const ROWS: &str = "natter_reconcile_rows_total";
/// What the nodes are allowed, in rows per second.
const BUDGET: u32 = 800;
/// One second's rows at once; and each session may have read its page, a head and a cursor of every conversation, that is
/// paid for afterwards.
const SLACK: f64 = BUDGET as f64 + (DEVICES * 2 * CONVERSATIONS) as f64;

/// Three NATS servers; the route between the first two goes through proxies, whichever of them opens it.
struct Routes {
    cluster: Cluster,
    between: [Proxy; 2],
}

impl Routes {
    async fn start() -> Self {
        let ports = free_ports(3).unwrap();
        let at = |i: usize| SocketAddr::from(([127, 0, 0, 1], ports[i]));
        let between = [Proxy::to(at(0)).await, Proxy::to(at(1)).await];
        let [to_first, to_second] = [between[0].addr().to_string(), between[1].addr().to_string()];
        let third = at(2).to_string();
        let named = [vec![to_second, third.clone()], vec![to_first, third], vec![at(0).to_string(), at(1).to_string()]];
        Self { cluster: Cluster::routed(&ports, named, Passwords::random()).await, between }
    }

    async fn cut_one(&self) {
        self.between.iter().for_each(|proxy| proxy.apply(Fault::Cut));
        for server in &self.cluster.servers[..2] {
            until("the route is gone", async || server.routes().await.len() == 1).await;
        }
    }

    async fn heal(&self) {
        self.between.iter().for_each(Proxy::heal);
        self.cluster.whole().await;
    }

    fn kill_all(&mut self) {
        self.cluster.servers.iter_mut().for_each(NatsServer::kill9);
    }

    async fn start_all(&mut self) {
        try_join_all(self.cluster.servers.iter_mut().map(NatsServer::restart)).await.unwrap();
        self.cluster.whole().await;
    }
}

/// A message to the hub from each of hundreds of users, before the nodes run.
async fn seed(options: &ScyllaOptions, ledger: &Ledger) -> BTreeSet<ConvId> {
    let store = &Taking::connect(options).await;
    let one = async |n: usize| {
        let (sender, cid) = (format!("u{n}"), "seed");
        let (id, body) = (UserId::new(&sender).unwrap(), Body::text(cid));
        let message = NewMessage::of_user(id, Cid::new(cid).unwrap(), 1_000, body);
        let conv = direct("hub", &sender);
        let seq = store.append(&conv, vec![message]).await.remove(0).unwrap().seq;
        ledger.answered(&sender, cid, conv.as_str(), seq);
        conv
    };
    let convs = stream::iter(0..CONVERSATIONS).map(one).buffer_unordered(32).collect().await;
    store.retire().await;
    convs
}

/// Watches a node's reconcile until told to stop: at no moment has it read more than its budget.
async fn within_budget(addr: SocketAddr, stop: Arc<AtomicBool>) {
    let rows = async || metric(addr, ROWS).await;
    let (begin, before) = (Instant::now(), rows().await);
    loop {
        let last = stop.load(Ordering::Acquire);
        let read = rows().await - before;
        let may = begin.elapsed().as_secs_f64() * f64::from(BUDGET) + SLACK;
        assert!(read <= may, "{read} rows after {:?}, {may} are allowed", begin.elapsed());
        if last {
            println!("reconcile read {read} rows in {:?}", begin.elapsed());
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The hub on its devices, and those who write to it from another node.
struct People {
    hub: Vec<Person>,
    writers: Vec<Person>,
    ledger: Ledger,
}

impl People {
    async fn join(fleet: &Fleet, ledger: Ledger) -> Self {
        let (one, two) = (vec![fleet.nodes[0].url()], vec![fleet.nodes[1].url()]);
        let (mut hub, mut writers) = (Vec::new(), Vec::new());
        for i in 0..DEVICES {
            hub.push(Person::join(two.clone(), "hub", &format!("d{i}")).await);
        }
        for i in 0..WRITERS {
            writers.push(Person::join(one.clone(), &format!("w{i}"), "d").await);
        }
        Self { hub, writers, ledger }
    }

    /// Two messages from every writer.
    async fn write(&self, what: &str) {
        for writer in &self.writers {
            for i in 0..2 {
                send(&writer.client, &writer.user, "hub", &format!("{what}{i}"), &self.ledger).await;
            }
        }
    }

    /// Waits until the hub has everything sent so far, on every device.
    async fn hub_has_all(&self) {
        for device in &self.hub {
            device.hears(self.ledger.len()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nats_loses_comes_by_reconcile_within_its_budget() {
    let options = Cassandra::shared().await.migrated().await;
    let mut nats = Routes::start().await;
    // Each node on its own server, as long as that lives.
    let ways = [0, 1].map(|i| Ways::straight(&nats.cluster.servers[i], &options));
    let more = format!("{QUICK}timing.reconcile_rows_per_sec = {BUDGET}\ntiming.full_reconcile_secs = 0\n");
    let ledger = Ledger::default();
    let mut convs = seed(&options, &ledger).await;
    let mut fleet = Fleet::start(&ways, &nats.cluster.servers[0].passwords().node, &options, &more).await;
    let people = People::join(&fleet, ledger).await;
    people.hub_has_all().await;
    // The recheck after the login is over, which on this budget takes seconds: what follows is found by sweeps.
    let swept = async || fleet.metric(1, "natter_reconciles_total{cause=\"sweep\"}").await >= DEVICES as f64;
    patiently("the slow comparison has begun", swept).await;
    let (stop, watched_from) = (Arc::new(AtomicBool::new(false)), fleet.metric(1, ROWS).await);
    let watch = tokio::spawn(within_budget(fleet.nodes[1].addr, stop.clone()));

    // No client notices a broken route: only the sweep finds what it lost.
    let lost = async || fleet.metric(1, "natter_gaps_found_total{cause=\"sweep\"}").await;
    let before = lost().await;
    nats.cut_one().await;
    people.write("cut").await;
    people.hub_has_all().await;
    let found = lost().await - before;
    println!("the slow comparison found {found} conversations behind");
    assert!(found > 0.0, "no message was lost: the route was not cut");
    nats.heal().await;

    nats.kill_all();
    for node in 0..2 {
        let apart = async || fleet.metric(node, "natter_nats_connected").await == 0.0;
        until("the nodes know that NATS is gone", apart).await;
        assert_eq!(fleet.ready(node).await, Some(true), "without NATS a node is degraded, not out of service");
    }
    people.write("down").await;
    nats.start_all().await;
    people.hub_has_all().await;

    // Once more, wherever the nodes are connected now.
    nats.cut_one().await;
    people.write("again").await;
    people.hub_has_all().await;
    nats.heal().await;

    // A row per conversation in the inbox and one among the device's cursors.
    let pass = (2 * CONVERSATIONS * DEVICES) as f64;
    let twice = async || fleet.metric(1, ROWS).await >= watched_from + 2.0 * pass;
    patiently("two comparisons of all devices were watched", twice).await;
    stop.store(true, Ordering::Release);
    watch.await.unwrap();
    convs.extend(people.writers.iter().map(|writer| direct("hub", &writer.user)));
    let all: Vec<_> = people.hub.iter().chain(&people.writers).collect();
    check_logs(&fleet.store, &people.ledger, &convs, &all).await;
    fleet.all_live();
}
