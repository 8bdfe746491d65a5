//! The whole mesh under random faults: three NATS servers, three nodes, a real CQL server, six users who all talk to
//! each other, and devices that come and go.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use natter::{nats_server::NatsServer, protocol::Encoding};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use super::{
    fleet::{Fleet, QUICK, Ways},
    people::{LONG, Person, check},
    traffic::Traffic,
};
use crate::{
    harness::{cassandra::Cassandra, nats::Cluster},
    mesh::{Peer, token},
};

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const FOR: Duration = Duration::from_secs(30);

/// One thing that goes wrong, for this many milliseconds.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillNode(usize, u64),
    DrainNode(usize, u64),
    KillNats(usize, u64),
    FreezeNats(usize, u64),
}

/// Milliseconds of peace, then a fault; enough for any run.
fn plan(rng: &mut StdRng) -> Vec<(u64, Fault)> {
    let fault = |rng: &mut StdRng| {
        let (which, down) = (rng.random_range(0..3), rng.random_range(0..1_500));
        match rng.random_range(0..7) {
            0..3 => Fault::KillNode(which, down),
            3 => Fault::DrainNode(which, down),
            4..6 => Fault::KillNats(which, down),
            _ => Fault::FreezeNats(which, down),
        }
    };
    (0..40).map(|_| (rng.random_range(200..2_000), fault(rng))).collect()
}

async fn strike(fault: Fault, fleet: &mut Fleet, nats: &mut [NatsServer]) {
    match fault {
        Fault::KillNode(node, down) => {
            fleet.nodes[node].process.kill9();
            sleep(Duration::from_millis(down)).await;
            fleet.nodes[node].restart().await;
        }
        Fault::DrainNode(node, down) => {
            let process = &mut fleet.nodes[node].process;
            process.signal(libc::SIGTERM);
            process.ended().await;
            sleep(Duration::from_millis(down)).await;
            fleet.nodes[node].restart().await;
        }
        Fault::KillNats(server, down) => {
            nats[server].kill9();
            sleep(Duration::from_millis(down)).await;
            nats[server].restart().await.unwrap();
        }
        Fault::FreezeNats(server, down) => {
            nats[server].pause();
            sleep(Duration::from_millis(down)).await;
            nats[server].resume();
        }
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
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = plan(&mut rng);
    println!("NATTER_SEED={seed}");
    let options = Cassandra::shared().await.migrated().await;
    let mut nats = Cluster::start().await;
    let ways = Ways { nats: nats.urls(), cql: options.contact_points.clone() };
    let mut fleet = Fleet::start(&vec![ways; 3], &nats.servers[0].passwords().node, &options, QUICK).await;

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

    let (begin, mut struck) = (Instant::now(), 0);
    for (peace, fault) in plan {
        if begin.elapsed() > FOR {
            break;
        }
        sleep(Duration::from_millis(peace)).await;
        println!("{:>6} ms {fault:?}", begin.elapsed().as_millis());
        strike(fault, &mut fleet, &mut nats.servers).await;
        struck += 1;
    }
    // The senders and the guests go on to the end: nobody pauses for the checker.
    traffic.flows(100).await;
    stop.store(true, Ordering::Release);
    let ledger = traffic.stop().await;
    let people: Vec<_> = people.iter().collect();
    check(&fleet.store, &ledger, &people).await;
    for (user, guest) in USERS.into_iter().zip(guests) {
        let sessions = timeout(LONG, guest).await.expect("a guest never comes in").unwrap();
        println!("{user}/guest: {} sessions", sessions.len());
        ledger.reaches(user, &sessions.iter().collect::<Vec<_>>()).await;
    }
    for cause in ["recheck", "reconnect", "sweep"] {
        let mut found = 0.0;
        for node in 0..3 {
            found += fleet.metric(node, &format!("natter_gaps_found_total{{cause=\"{cause}\"}}")).await;
        }
        println!("{found} conversations found behind by {cause}, since the last restarts");
    }
    fleet.all_live();
    assert!(struck >= 6, "only {struck} faults");
}
