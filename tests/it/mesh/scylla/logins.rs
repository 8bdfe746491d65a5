//! What a login costs the CQL server: a read of stamps and devices, a write of the device, a page of heads and a page of
//! cursors, however many conversations there are; the first two alone where nothing changed. Requests are counted by the driver; a paged query counts once per page.

use futures_util::{StreamExt as _, stream};
use natter::{
    model::room::Change,
    protocol::Encoding,
    store::{Inbox as _, Store},
};

use super::{fleet::Fleet, homes::placed, people::patiently};
use crate::{
    harness::cassandra::{Cassandra, Taking},
    mesh::{
        Peer,
        peer::messages,
        resumed::{device, fill, told},
    },
    store::contract::rooms,
};

const CONVS: usize = 5_000;
const BEHIND: usize = 3;
/// The nodes ask the server for this and that by themselves: of so many logins the one that met the least of it counts.
const LOGINS: usize = 8;

/// Stamps and devices, read; the device and the connection's number, written: what comes before `welcome`.
const WELCOME: u64 = 2;
/// Heads, cursors, and a page of each log that is behind.
const COMPARED: u64 = 2 + BEHIND as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_reads_what_changed() {
    let options = Cassandra::shared().await.migrated().await;
    let store = Taking::connect(&options).await;
    let reader = device("reader", "d");
    fill(&store.parts(), &reader, CONVS, BEHIND).await;
    patiently("the stamps are settled", async || store.stamps(&reader).await.unwrap().clean).await;
    store.retire().await;
    let (fleet, _nats, _folder) = Fleet::simple(1, &options).await;
    // Until then the node takes up its slots.
    placed(&fleet, &[0]).await;
    let url = fleet.nodes[0].url();
    let behind = least(&fleet, None, true, BEHIND).await;
    let since = told(&url, "reader", "d").await;
    let nothing = least(&fleet, None, false, 0).await;
    let resumed = least(&fleet, Some(&since), false, 0).await;
    println!("{CONVS} conversations: {behind} requests with {BEHIND} behind, {nothing} with none, {resumed} resumed");
    assert_eq!(behind, WELCOME + COMPARED);
    assert_eq!(nothing, WELCOME + COMPARED - BEHIND as u64);
    assert_eq!(resumed, WELCOME);
}

/// Of a member of many rooms.
const ROOMS: usize = 50;
const SOME: usize = 500;
/// The memberships, the heads of their rooms, the cursors there, and the memberships as of these heads.
const ROOMS_COMPARED: u64 = 4;

/// The rooms are compared page by page, like the conversations: what a login costs does not follow their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_a_member_of_many_rooms_reads_pages() {
    let options = Cassandra::shared().await.migrated().await;
    let store = Taking::connect(&options).await;
    let (reader, parts) = (device("reader", "d"), store.parts());
    fill(&parts, &reader, SOME, 0).await;
    stream::iter((0..ROOMS).map(|number| enter(&parts, number))).buffer_unordered(8).collect::<()>().await;
    patiently("the stamps are settled", async || store.stamps(&reader).await.unwrap().clean).await;
    store.retire().await;
    let (fleet, _nats, _folder) = Fleet::simple(1, &options).await;
    placed(&fleet, &[0]).await;
    let url = fleet.nodes[0].url();
    let since = told(&url, "reader", "d").await;
    let nothing = least(&fleet, None, false, 0).await;
    let resumed = least(&fleet, Some(&since), false, 0).await;
    println!("{ROOMS} rooms and {SOME} conversations: {nothing} requests with nothing behind, {resumed} resumed");
    assert_eq!(nothing, WELCOME + COMPARED - BEHIND as u64 + ROOMS_COMPARED);
    assert_eq!(resumed, WELCOME + ROOMS_COMPARED);
}

/// Makes a room that the reader is a member of.
async fn enter(store: &Store, number: usize) {
    let room = rooms::room(&format!("room{number}"));
    for (who, change) in [("alice", rooms::created(true)), ("reader", Change::Joined)] {
        rooms::change(store, &room, who, &change).await.unwrap();
    }
}

/// What such logins cost at least, in requests.
async fn least(fleet: &Fleet, since: Option<&str>, quiet: bool, missed: usize) -> u64 {
    let requests = async || fleet.metric(0, "natter_store_requests_total").await as u64;
    let (url, mut least) = (fleet.nodes[0].url(), u64::MAX);
    for _ in 0..LOGINS {
        let before = requests().await;
        let peer = match quiet {
            true => Peer::join_quiet(&url, "reader", "d", Encoding::Json).await,
            false => Peer::resume(&url, "reader", "d", Encoding::Json, since).await,
        };
        peer.caught_up().await;
        least = least.min(requests().await - before);
        assert_eq!(messages(&peer.frames()).count(), missed);
    }
    least
}
