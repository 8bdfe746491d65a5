//! When users were last seen, and who blocks whom.

use futures_util::future::join_all;
use natter::{
    model::UserId,
    store::{People, Store, Tie},
};

use super::{Bed, user};

fn tie(other: &str, blocks: bool, blocked: bool) -> Tie {
    Tie { other: user(other), blocks, blocked }
}

/// Those ties of a user that say anything.
async fn ties(store: &Store, of: &str) -> Vec<Tie> {
    let mut all = Vec::new();
    let mut after: Option<UserId> = None;
    loop {
        let page = store.people.ties(&user(of), after.as_ref(), 2).await.unwrap();
        let is_last = page.len() < 2;
        after = page.last().map(|tie| tie.other.clone());
        all.extend(page.into_iter().filter(|tie| tie.blocks || tie.blocked));
        if is_last {
            return all;
        }
    }
}

pub async fn last_seen_never_goes_back(bed: &mut impl Bed) {
    let store = bed.store();
    let (ann, ben, cem) = (user("ann"), user("ben"), user("cem"));
    let seen = async |people: &dyn People| people.last_seen(&[cem.clone(), ann.clone(), ben.clone()]).await.unwrap();
    assert_eq!(seen(&*store.people).await, [None, None, None]);
    store.people.see(&[(ann.clone(), 70), (ben.clone(), 5)]).await.unwrap();
    store.people.see(&[(ann.clone(), 60), (ben.clone(), 6)]).await.unwrap();
    assert_eq!(seen(&*store.people).await, [None, Some(70), Some(6)]);
    store.people.see(&[]).await.unwrap();
    bed.reopen().await;
    assert_eq!(seen(&*bed.store().people).await, [None, Some(70), Some(6)]);
}

pub async fn a_block_shows_on_both_sides_until_it_is_taken_off(bed: &mut impl Bed) {
    let store = bed.store();
    let (ann, ben) = (user("ann"), user("ben"));
    assert_eq!(ties(&store, "ann").await, []);
    store.people.block(&ann, &ben, false).await.unwrap();
    assert_eq!((ties(&store, "ann").await, ties(&store, "ben").await), (vec![], vec![]), "there was none");
    store.people.block(&ann, &ben, true).await.unwrap();
    store.people.block(&ann, &ben, true).await.unwrap();
    assert_eq!(ties(&store, "ann").await, [tie("ben", true, false)]);
    assert_eq!(ties(&store, "ben").await, [tie("ann", false, true)]);
    assert_eq!(store.people.tie(&ben, &ann).await.unwrap(), tie("ann", false, true));
    store.people.block(&ben, &ann, true).await.unwrap();
    assert_eq!(store.people.tie(&ann, &ben).await.unwrap(), tie("ben", true, true));
    bed.reopen().await;
    let store = bed.store();
    store.people.block(&ann, &ben, false).await.unwrap();
    assert_eq!(ties(&store, "ann").await, [tie("ben", false, true)]);
    assert_eq!(ties(&store, "ben").await, [tie("ann", true, false)]);
    store.people.block(&ben, &ann, false).await.unwrap();
    store.people.block(&ann, &ben, true).await.unwrap();
    assert_eq!(ties(&store, "ben").await, [tie("ann", false, true)]);
}

pub async fn blocks_are_paged_in_order(bed: &mut impl Bed) {
    let store = bed.store();
    let ann = user("ann");
    for name in ["d", "b-b", "e", "b", "c", "ann-b"] {
        store.people.block(&ann, &user(name), true).await.unwrap();
    }
    store.people.block(&user("a"), &user("x"), true).await.unwrap();
    store.people.block(&user("ann-b"), &user("y"), true).await.unwrap();
    store.people.block(&ann, &user("c"), false).await.unwrap();
    let found: Vec<_> = ties(&store, "ann").await.into_iter().map(|tie| tie.other.to_string()).collect();
    assert_eq!(found, ["ann-b", "b", "b-b", "d", "e"]);
}

/// Whoever wins, the two sides say the same in the end.
pub async fn changes_at_once_leave_both_sides_alike(bed: &mut impl Bed) {
    let store = bed.store();
    let (ann, ben) = (user("ann"), user("ben"));
    let changes = (0..8).map(|n| {
        let (store, ann, ben) = (store.clone(), ann.clone(), ben.clone());
        async move {
            // One that lost too often says so, and is said again.
            while store.people.block(&ann, &ben, n % 2 == 0).await.is_err() {}
        }
    });
    join_all(changes).await;
    let (one, other) = (store.people.tie(&ann, &ben).await.unwrap(), store.people.tie(&ben, &ann).await.unwrap());
    assert_eq!((one.blocks, one.blocked), (other.blocked, other.blocks));
}
