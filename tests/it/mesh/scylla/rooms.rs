//! Rooms on several nodes and one CQL server: kicks that race sends, homes that die under a busy room, and what a room costs.

use natter::{
    client::{NewRoom, RequestError},
    model::{Body, ConvId, Kind, RoomId, Row, Seq},
    protocol::ErrorCode,
    store::Store,
};
use tokio::{task::JoinSet, time::timeout};

use super::{
    fleet::{Fleet, QUIET},
    homes::placed,
    people::{LONG, Person, patiently},
};
use crate::{
    harness::cassandra::Cassandra,
    mesh::ledger::Ledger,
    store::contract::{
        rooms::{self, Folded},
        user,
    },
};

fn open_room(name: &str) -> NewRoom {
    NewRoom { room: RoomId::new(name).ok(), public: true, ..NewRoom::default() }
}

fn code(refused: Result<Seq, RequestError>) -> Result<Seq, ErrorCode> {
    refused.map_err(|error| match error {
        RequestError::Refused { code, .. } => code,
        other => panic!("{other}"),
    })
}

/// What a member sends, until it is answered.
async fn say(person: &Person, room: &RoomId, cid: &str) -> Result<Seq, ErrorCode> {
    let to = format!("#{room}");
    let sent = timeout(LONG, person.client.send_with_cid(&to, cid, Body::text(cid))).await;
    code(sent.unwrap_or_else(|_| panic!("{cid} of {} was never answered", person.name())).map(|sent| sent.seq))
}

/// What the log and the tables say of a room, each by the other.
async fn checked(fleet: &Fleet, room: &RoomId) -> Vec<Row> {
    rooms::checked(&Store::shared(fleet.store.clone()), room).await
}

/// What a user was there for, by the log.
fn held(name: &str, rows: &[Row]) -> Vec<Seq> {
    let (who, mut folded, mut held) = (user(name), Folded::default(), Vec::new());
    for row in rows {
        if folded.member(&who).role().is_some() {
            held.push(row.seq);
        }
        folded.take(row.seq, row.kind, &row.sender, row.ts, &row.body).unwrap();
    }
    held
}

const ROOMS: usize = 20;
const KICKS: usize = 50;
/// What the victim has under way when it is put out.
const RACING: usize = 3;

/// One room: its victim, on one node, writes while the owner, on the other, puts it out, again and again.
async fn kicks(owner: Person, victim: Person, room: RoomId) -> (usize, usize) {
    owner.client.create_room(open_room(room.as_str())).await.unwrap();
    let (mut sent, mut refused) = (0, 0);
    for round in 0..KICKS {
        victim.client.join_room(&room).await.unwrap();
        let cids: Vec<String> = (0..RACING).map(|n| format!("{round}.{n}")).collect();
        let racing = futures_util::future::join_all(cids.iter().map(|cid| say(&victim, &room, cid)));
        let name = user(&victim.user);
        let (answers, kicked) = tokio::join!(racing, owner.client.kick(&room, &name));
        let kicked = kicked.unwrap().seq.expect("nobody else kicks");
        for answer in answers {
            match answer {
                Ok(seq) => assert!(seq < kicked, "{room}, round {round}: {seq} was sent after the kick at {kicked}"),
                Err(ErrorCode::NotMember) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            sent += usize::from(answer.is_ok());
        }
    }
    (sent, refused)
}

/// A thousand times: a send stands before the kick or is refused, whichever node it came to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_kicks_race_sends_on_two_nodes() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::with(2, &options, QUIET).await;
    let rooms: Vec<RoomId> = (0..ROOMS).map(|n| RoomId::new(&format!("r{n}")).unwrap()).collect();
    let mut running = JoinSet::new();
    for (n, room) in rooms.iter().enumerate() {
        let owner = Person::join(vec![fleet.nodes[n % 2].url()], &format!("o{n}"), "d").await;
        let victim = Person::join(vec![fleet.nodes[(n + 1) % 2].url()], &format!("v{n}"), "d").await;
        running.spawn(kicks(owner, victim, room.clone()));
    }
    let (mut sent, mut refused) = (0, 0);
    while let Some(done) = running.join_next().await {
        let (more, less) = done.unwrap();
        (sent, refused) = (sent + more, refused + less);
    }
    let mut stored = 0;
    for room in &rooms {
        stored += checked(&fleet, room).await.iter().filter(|row| row.kind == Kind::Message).count();
    }
    assert_eq!(stored, sent, "what was answered is what is stored");
    println!("{} kicks: {sent} messages before them, {refused} refused", ROOMS * KICKS);
    assert!(sent > KICKS && refused > KICKS, "no race: {sent} before, {refused} after");
    fleet.all_live();
}

/// Everybody writes all the time, somebody comes and goes, and the home of the room is killed again and again: everything
/// that was answered stands, each member got all of it in order, and who came and went has what was for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn homes_that_are_killed_under_a_busy_room_lose_nothing() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let room = RoomId::new("hall").unwrap();
    let ledger = Ledger::default();
    let mut members = Vec::new();
    for n in 0..6 {
        members.push(std::sync::Arc::new(Person::join(fleet.urls(n % 3), &format!("m{n}"), "d").await));
    }
    members[0].client.create_room(open_room("hall")).await.unwrap();
    for member in &members[1..] {
        member.client.join_room(&room).await.unwrap();
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = JoinSet::new();
    for member in &members {
        let (member, room, ledger, stopped) = (member.clone(), room.clone(), ledger.clone(), stopped.clone());
        running.spawn(async move {
            for n in 0.. {
                if *stopped.borrow() {
                    break;
                }
                let cid = format!("c{n}");
                let seq = say(&member, &room, &cid).await.expect("a member may send");
                ledger.answered(&member.user, &cid, "room:hall", seq);
            }
        });
    }
    let guest = Person::join(fleet.urls(1), "guest", "d").await;
    let come_and_go = async {
        for _ in 0..6 {
            guest.client.join_room(&room).await.unwrap();
            say(&guest, &room, &format!("g{}", rand::random::<u32>())).await.unwrap();
            guest.client.leave_room(&room).await.unwrap();
        }
    };
    let kills = async {
        for _ in 0..4 {
            let wanted = ledger.len() + 60;
            patiently("the room goes on", async || ledger.len() >= wanted).await;
            let home = fleet.home_of(&ConvId::room(&room)).await.unwrap().node;
            let node = (0..3).find(|n| *home == format!("p{}", n + 1)).unwrap();
            fleet.nodes[node].process.kill9();
            fleet.nodes[node].restart().await;
        }
    };
    tokio::join!(come_and_go, kills);
    let wanted = ledger.len() + 60;
    patiently("the room goes on", async || ledger.len() >= wanted).await;
    stop.send_replace(true);
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    fleet.all_live();
    let rows = checked(&fleet, &room).await;
    for row in rows.iter().filter(|row| row.kind == Kind::Message && row.sender.as_str() != "guest") {
        ledger.answered(row.sender.as_str(), row.cid.as_str(), "room:hall", row.seq);
    }
    let stored = rows.iter().filter(|row| row.kind == Kind::Message && row.sender.as_str() != "guest").count();
    assert_eq!(ledger.len(), stored, "what was answered is what is stored");
    println!("{} rows", rows.len());
    for person in members.iter().map(|member| &**member).chain([&guest]) {
        person.hears_in("room:hall", &held(&person.user, &rows)).await;
    }
}

const MEMBERS: usize = 40;

/// Rows and cid in one write, one look at the fence, the room's row, the sender's mark: whoever else is in the room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_costs_the_same_however_many_are_in_the_room() {
    let options = Cassandra::shared().await.migrated().await;
    let (fleet, _nats, _folder) = Fleet::with(1, &options, QUIET).await;
    placed(&fleet, &[0]).await;
    let room = RoomId::new("hall").unwrap();
    let owner = Person::join(fleet.urls(0), "owner", "d").await;
    owner.client.create_room(open_room("hall")).await.unwrap();
    let mut members = Vec::new();
    let cost = async |name: &str| {
        let mut least = f64::MAX;
        for n in 0..10 {
            let before = fleet.metric(0, "natter_store_requests_total").await;
            say(&owner, &room, &format!("{name}.{n}")).await.unwrap();
            least = least.min(fleet.metric(0, "natter_store_requests_total").await - before);
        }
        least
    };
    let alone = cost("alone").await;
    for n in 0..MEMBERS {
        members.push(Person::join(fleet.urls(0), &format!("m{n}"), "d").await);
        members[n].client.join_room(&room).await.unwrap();
    }
    let together = cost("together").await;
    println!("{alone} requests for a message in a room of one, {together} in one of {}", MEMBERS + 1);
    assert!(alone <= 4.0 && together <= 4.0, "{alone} alone, {together} together");
}
