//! What every engine that keeps replies, mentions and expiry promises of them.

use natter::{model::Refs, store::Behind};

use super::{kinds::put, rooms::*, *};

fn refers(sender: &str, cid: &str, refs: Refs) -> NewMessage {
    NewMessage { refs: refs.boxed(), read_upto: 0, ..message(sender, cid) }
}

fn mentioning(sender: &str, cid: &str, names: &[&str]) -> NewMessage {
    refers(sender, cid, Refs { mentions: names.iter().map(|name| user(name)).collect(), ..Refs::default() })
}

fn replying(sender: &str, cid: &str, at: Seq) -> NewMessage {
    refers(sender, cid, Refs { reply_to: Some(at), ..Refs::default() })
}

fn expiring(sender: &str, cid: &str, at: u64) -> NewMessage {
    refers(sender, cid, Refs { expires: Some(at), ..Refs::default() })
}

async fn behind(store: &Store, name: &str, conv: &ConvId, after: Seq, now: u64) -> Behind {
    store.folds.behind(&user(name), conv, after, now).await.unwrap()
}

pub async fn a_reply_is_to_a_message_that_its_sender_sees(bed: &mut impl Bed) {
    let (store, conv, no) = (bed.store(), dm("alice", "bob"), denied(Denied::NoReply));
    assert_eq!(put(&store, &conv, replying("alice", "early", 1)).await, no, "itself");
    assert_eq!(put(&store, &conv, message("alice", "m")).await, Ok(1));
    assert_eq!(put(&store, &conv, replying("bob", "above", 9)).await, no);
    assert_eq!(put(&store, &conv, replying("bob", "r", 1)).await, Ok(2));
    assert_eq!(log(&*store.logs, &conv).await[1].refs.as_ref().unwrap().reply_to, Some(1));
    assert_eq!(put(&store, &conv, replying("bob", "r", 1)).await, Ok(2), "a second try");
    let other = put(&store, &conv, NewMessage { refs: None, ..replying("bob", "r", 1) }).await;
    assert_eq!(other, Err(StoreError::CidReused { seq: 2 }));
    let lobby = lobby(&store, &[]).await;
    let conv = ConvId::room(&lobby);
    assert_eq!(say(&store, &lobby, "alice", "before").await, Ok(2));
    assert_eq!(change(&store, &lobby, "bob", &Change::Joined).await, Ok(3));
    assert_eq!(put(&store, &conv, replying("bob", "hidden", 2)).await, no, "what bob may not read");
    assert_eq!(put(&store, &conv, replying("bob", "event", 3)).await, no);
    assert_eq!(put(&store, &conv, replying("alice", "own", 2)).await, Ok(4));
    checked(&store, &lobby).await;
}

pub async fn mentions_are_counted_behind_the_mark(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &["bob", "carol"]).await;
    let conv = ConvId::room(&lobby);
    let names = ["alice", "bob", "carol", "eve"];
    for (cid, mentioned) in [("1", &names[..]), ("2", &["bob"]), ("3", &["eve"])] {
        put(&store, &conv, mentioning("alice", cid, mentioned)).await.unwrap();
    }
    put(&store, &conv, mentioning("alice", "2", &["bob"])).await.unwrap();
    let count = async |store: &Store, name, after| behind(store, name, &conv, after, 0).await.mentions;
    for _ in 0..2 {
        let store = bed.store();
        let counted = [count(&store, "bob", 0).await, count(&store, "bob", 4).await, count(&store, "bob", 5).await];
        assert_eq!(counted, [2, 1, 0]);
        assert_eq!((count(&store, "carol", 0).await, count(&store, "alice", 0).await), (1, 0), "never one's own");
        assert_eq!(count(&store, "eve", 0).await, 0, "no member");
        bed.reopen().await;
    }
    let (store, direct) = (bed.store(), dm("alice", "bob"));
    put(&store, &direct, mentioning("alice", "m", &["bob", "carol"])).await.unwrap();
    let other = dm("alice", "bob-b");
    put(&store, &other, mentioning("alice", "m", &["bob-b"])).await.unwrap();
    assert_eq!(behind(&store, "bob", &direct, 0, 0).await.mentions, 1);
    assert_eq!(behind(&store, "carol", &direct, 0, 0).await.mentions, 0);
    assert_eq!(behind(&store, "bob", &conv, 0, 0).await.mentions, 2, "each conversation by itself");
}

pub async fn what_has_expired_is_counted_behind_the_mark(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    for (n, at) in [100, 200, 300].into_iter().enumerate() {
        put(&store, &conv, expiring("alice", &format!("a{n}"), at)).await.unwrap();
    }
    put(&store, &conv, expiring("bob", "b", 100)).await.unwrap();
    put(&store, &conv, message("alice", "for ever")).await.unwrap();
    let both = Refs { mentions: vec![user("bob")], expires: Some(250), ..Refs::default() };
    put(&store, &conv, refers("alice", "both", both)).await.unwrap();
    bed.reopen().await;
    let store = bed.store();
    let mut seen = Vec::new();
    for now in [99, 100, 200, 250, 300] {
        let Behind { mentions, expired } = behind(&store, "bob", &conv, 0, now).await;
        seen.push((mentions, expired));
    }
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2), (0, 3), (0, 4)], "bob's own is not among them");
    assert_eq!(behind(&store, "bob", &conv, 2, 300).await.expired, 2, "behind the mark only");
    assert_eq!(behind(&store, "alice", &conv, 0, 300).await.expired, 1);
}
