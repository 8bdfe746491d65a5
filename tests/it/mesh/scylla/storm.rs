//! The whole mesh under random faults: three NATS servers, three nodes, a real CQL server, six users who all talk to
//! each other, and devices that come and go. Every process has its own faults, so that they overlap.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use natter::{nats_server::NatsServer, protocol::Encoding, store::scylla::ScyllaOptions};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use super::{
    fleet::{Fleet, QUICK, Ways},
    people::{LONG, Person, check, patiently},
    traffic::Traffic,
};
use crate::{
    harness::{cassandra::Cassandra, nats::Cluster},
    mesh::{Peer, serve::ServeProcess, token},
};

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const HOUR: i64 = 3_600;

/// What goes wrong with a process, for some milliseconds.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    /// Stops it in an orderly way.
    Drain,
    Freeze,
}

/// Milliseconds of peace, then a fault of so many milliseconds; enough for any run.
type Plan = Vec<(u64, Fault, u64)>;

/// Each process has a plan of its own, so that faults overlap in every way.
fn plan(rng: &mut StdRng, faults: &[Fault]) -> Plan {
    let one = |rng: &mut StdRng| {
        (rng.random_range(500..6_000), faults[rng.random_range(0..faults.len())], rng.random_range(0..1_500))
    };
    (0..40).map(|_| one(rng)).collect()
}

/// When the storm began, and how long it lasts.
#[derive(Clone, Copy)]
struct Storm {
    begin: Instant,
    lasts: Duration,
}

impl Storm {
    /// Waits for the next fault; false when the storm is over.
    async fn next(self, peace: u64, what: &str, fault: Fault) -> bool {
        sleep(Duration::from_millis(peace)).await;
        let goes_on = self.begin.elapsed() < self.lasts;
        if goes_on {
            println!("{:>6} ms {fault:?} {what}", self.begin.elapsed().as_millis());
        }
        goes_on
    }

    async fn over_node(self, number: usize, node: &mut ServeProcess, plan: Plan) -> usize {
        let mut struck = 0;
        for (peace, fault, down) in plan {
            if !self.next(peace, &format!("node {number}"), fault).await {
                break;
            }
            let down = Duration::from_millis(down);
            match fault {
                Fault::Kill => node.process.kill9(),
                Fault::Drain => {
                    node.process.terminate();
                    node.process.ended().await;
                }
                Fault::Freeze => node.process.pause(),
            }
            sleep(down).await;
            match fault {
                Fault::Freeze => node.process.resume(),
                _ => node.restart().await,
            }
            struck += 1;
        }
        struck
    }

    async fn over_nats(self, number: usize, server: &mut NatsServer, plan: Plan) -> usize {
        let mut struck = 0;
        for (peace, fault, down) in plan {
            if !self.next(peace, &format!("NATS server {number}"), fault).await {
                break;
            }
            match fault {
                Fault::Freeze => server.pause(),
                _ => server.kill9(),
            }
            sleep(Duration::from_millis(down)).await;
            match fault {
                Fault::Freeze => server.resume(),
                _ => server.restart().await.unwrap(),
            }
            struck += 1;
        }
        struck
    }

    /// One of three at a time: two replicas must answer. It is killed once, for that costs half of the storm.
    async fn over_cql(self, servers: &mut Cassandra, plan: Plan) -> usize {
        let mut struck = 0;
        for (peace, _, down) in plan {
            let (server, fault) = (struck % 3, if struck == 2 { Fault::Kill } else { Fault::Freeze });
            if !self.next(peace, &format!("CQL server {server}"), fault).await {
                break;
            }
            match fault {
                Fault::Freeze => servers.pause(server),
                _ => servers.kill9(server),
            }
            sleep(Duration::from_millis(down * 2)).await;
            match fault {
                Fault::Freeze => servers.resume(server),
                _ => servers.restart(server).await,
            }
            struck += 1;
        }
        struck
    }
}

/// A second device of a user: short sessions here and there until told to stop, then one that stays. Returns all of
/// them, dead ones too.
async fn come_and_go(urls: Vec<String>, user: &'static str, seed: u64, stop: Arc<AtomicBool>) -> Vec<Peer> {
    let (mut rng, token) = (StdRng::seed_from_u64(seed), token(user));
    let mut sessions = Vec::new();
    for attempt in 1.. {
        let last = stop.load(Ordering::Acquire);
        let url = &urls[rng.random_range(0..urls.len())];
        let encoding = if rng.random() { Encoding::Json } else { Encoding::MsgPack };
        let joining = Peer::join_as(url, &token, "guest", encoding, attempt);
        let Ok(Ok(peer)) = timeout(Duration::from_secs(5), joining).await else {
            // That node is down now.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if last {
            sessions.push(peer);
            break;
        }
        if rng.random_range(0..4) == 0 {
            peer.hold_acks();
        }
        sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
        peer.cut();
        sessions.push(peer);
    }
    sessions
}

/// `NATTER_SEED` replays a printed plan; its effects on the machine are not the same twice.
fn seed() -> u64 {
    env::var("NATTER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_talks_to_everybody_while_nodes_and_nats_die() {
    let options = Cassandra::shared().await.migrated().await;
    blow(&options, None, [0; 3], Duration::from_secs(30)).await;
}

/// The same, with a replica that is slow or gone, and with nodes whose clocks differ by two hours: nothing is ordered by
/// them (I5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_cql_servers_is_hurt_as_well_and_clocks_differ() {
    let mut servers = Cassandra::start(3).await;
    let options = servers.migrated().await;
    blow(&options, Some(&mut servers), [HOUR, 0, -HOUR], Duration::from_secs(60)).await;
}

/// A storm over three nodes with clocks so many seconds `ahead`, three NATS servers, and these `servers`.
async fn blow(options: &ScyllaOptions, servers: Option<&mut Cassandra>, ahead: [i64; 3], lasts: Duration) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    println!("NATTER_SEED={seed}");
    let mut nats = Cluster::start().await;
    let ways = ahead.map(|ahead| Ways { nats: nats.urls(), cql: options.contact_points.clone(), ahead });
    let mut fleet = Fleet::start(&ways, &nats.servers[0].passwords().node, options, QUICK).await;

    let mut people = Vec::new();
    for (i, user) in USERS.into_iter().enumerate() {
        people.push(Person::join(fleet.urls(i % 3), user, "home").await);
        // I2 counts from the first welcome on.
        Peer::join(&fleet.nodes[i % 3].url(), user, "guest", Encoding::Json).await.caught_up().await;
    }
    let mut traffic = Traffic::default();
    people.iter().for_each(|person| traffic.lane(person, &USERS, 0..60));
    let stop = Arc::new(AtomicBool::new(false));
    let guests = USERS.map(|user| tokio::spawn(come_and_go(fleet.urls(0), user, rng.random(), stop.clone())));

    let storm = Storm { begin: Instant::now(), lasts };
    let all = [Fault::Kill, Fault::Kill, Fault::Drain, Fault::Freeze];
    let over_nodes = fleet.nodes.iter_mut().enumerate().map(|(n, node)| storm.over_node(n, node, plan(&mut rng, &all)));
    let over_nodes: Vec<_> = over_nodes.collect();
    let over_nats = nats.servers.iter_mut().enumerate();
    let over_nats: Vec<_> = over_nats.map(|(n, it)| storm.over_nats(n, it, plan(&mut rng, &all[1..]))).collect();
    let calm = plan(&mut rng, &all);
    let over_cql = async { if let Some(servers) = servers { storm.over_cql(servers, calm).await } else { 0 } };
    let struck = tokio::join!(join_all(over_nodes), join_all(over_nats), over_cql);
    println!("faults of nodes, of NATS servers, of CQL servers: {struck:?}");
    assert!(struck.0.iter().chain(&struck.1).all(|struck| *struck >= 2), "too few faults: {struck:?}");
    // The senders and the guests go on to the end: nobody pauses for the checker.
    traffic.flows(100).await;
    nothing_is_missed_in_peace(&fleet, &mut traffic).await;
    stop.store(true, Ordering::Release);
    let ledger = traffic.stop().await;
    let people: Vec<_> = people.iter().collect();
    check(&fleet.store, &ledger, &people).await;
    for (user, guest) in USERS.into_iter().zip(guests) {
        let sessions = timeout(LONG, guest).await.expect("a guest never comes in").unwrap();
        println!("{user}/guest: {} sessions", sessions.len());
        ledger.reaches(user, &sessions.iter().collect::<Vec<_>>()).await;
    }
    fleet.all_live();
}

/// After the storm the sweeps have nothing to find: what was published is heard. A sweep that reads a head while its
/// message is on its way finds it, so one in a hundred messages may be.
async fn nothing_is_missed_in_peace(fleet: &Fleet, traffic: &mut Traffic) {
    let all = [0, 1, 2];
    for (round, what) in ["what the storm left", "in peace"].into_iter().enumerate() {
        let (sweeps, gaps) = ("natter_reconciles_total{cause=\"sweep\"}", "natter_gaps_found_total{cause=\"sweep\"}");
        let (swept, found) = (fleet.metric_of(&all, sweeps).await, fleet.metric_of(&all, gaps).await);
        let sent = traffic.ledger.len();
        let wanted = swept + 2.0 * USERS.len() as f64;
        patiently("all have swept", async || fleet.metric_of(&all, sweeps).await >= wanted).await;
        traffic.flows(200).await;
        let (found, sent) = (fleet.metric_of(&all, gaps).await - found, traffic.ledger.len() - sent);
        println!("{what}: sweeps found {found} conversations behind, of {sent} messages");
        assert!(round == 0 || found * 100.0 <= sent as f64, "{found} of {sent} were missed, and all was well");
    }
}
