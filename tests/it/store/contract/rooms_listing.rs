//! What is shown of rooms, and what the lists of direct conversations do not show.

use natter::store::CountsAt;

use super::{rooms::*, *};

pub async fn rooms_are_read_in_the_order_asked_for(bed: &mut impl Bed) {
    let store = bed.store();
    let names: Vec<_> = (0..64).map(|n| room(&format!("r{n}"))).collect();
    for (n, room) in names.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        let topic = (n % 2 == 0).then(|| format!("topic {n}").parse().unwrap());
        let new = Change::Created { topic, public: n % 2 == 0, history: Reach::All, lifetime: None };
        change(&store, room, "alice", &new).await.unwrap();
        for m in 0..n % 4 {
            say(&store, room, "alice", &format!("m{m}")).await.unwrap();
        }
    }
    let found = store.rooms.rooms(&names).await.unwrap();
    assert_eq!(found.len(), names.len());
    for (n, (found, id)) in found.iter().zip(&names).enumerate() {
        assert_eq!(found.is_none(), n % 3 == 0, "{id}");
        let Some(found) = found else { continue };
        assert_eq!((&found.id, found.head as usize, found.event), (id, 1 + n % 4, 1));
        assert_eq!((found.room.public, found.room.topic.is_some()), (n % 2 == 0, n % 2 == 0));
        assert_eq!(found.counts, Counts { first: n as u64 % 4, second: 0 });
        checked(&store, id).await;
    }
    assert_eq!(store.rooms.rooms(&[]).await, Ok(vec![]));
}

pub async fn members_are_paged_in_order(bed: &mut impl Bed) {
    let (store, lobby, other) = (bed.store(), room("r"), room("r-r"));
    let names = ["a", "a-b", "ab", "b", "b-", "b_"];
    for room in [&lobby, &other] {
        change(&store, room, "a", &created(true)).await.unwrap();
    }
    for name in &names[1..] {
        change(&store, &lobby, name, &Change::Joined).await.unwrap();
    }
    change(&store, &lobby, "ab", &Change::Left).await.unwrap();
    for limit in 1..=7 {
        let found = members(&store, &lobby, limit).await;
        assert_eq!(found.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), names, "pages of {limit}");
        let out: Vec<_> = found.iter().filter(|(_, member)| member.role().is_none()).map(|(user, _)| user).collect();
        assert_eq!(out, [&user("ab")], "former members are shown as such");
    }
    assert_eq!(members(&store, &other, 9).await.len(), 1);
    assert_eq!(store.rooms.member(&lobby, &user("zed")).await, Ok(Member::STRANGER));
}

pub async fn rooms_of_a_user_are_paged_in_order(bed: &mut impl Bed) {
    let store = bed.store();
    let names = ["a", "a-b", "ab", "b", "b-", "b_"].map(room);
    for (n, name) in names.iter().enumerate() {
        change(&store, name, "alice", &created(true)).await.unwrap();
        match n % 3 {
            0 => drop(change(&store, name, "bob", &Change::Joined).await.unwrap()),
            1 => drop(change(&store, name, "alice", &invited("bob")).await.unwrap()),
            _ => drop(change(&store, name, "bob-2", &Change::Joined).await.unwrap()),
        }
    }
    for limit in 1..=5 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.rooms.rooms_of(&user("bob"), after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page);
        }
        let expected: Vec<_> = names.iter().enumerate().filter(|(n, _)| n % 3 != 2).map(|(_, name)| name).collect();
        assert_eq!(found.iter().map(|(room, _)| room).collect::<Vec<_>>(), expected, "pages of {limit}");
        assert_eq!(found.iter().filter(|(_, member)| member.standing == Standing::Invited).count(), 2);
    }
}

pub async fn the_log_of_a_room_is_read_like_any(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &["bob"]).await;
    let conv = ConvId::room(&lobby);
    for n in 0..9 {
        say(&store, &lobby, if n % 2 == 0 { "alice" } else { "bob" }, &format!("m{n}")).await.unwrap();
    }
    let rows = checked(&store, &lobby).await;
    let seqs = |rows: Vec<Row>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    let some = Span { rows: 3, bytes: 1 << 20 };
    assert_eq!(seqs(store.logs.read_after(&conv, 1, some).await.unwrap()), [2, 3, 4]);
    assert_eq!(seqs(store.logs.read_before(&conv, 6, some).await.unwrap()), [3, 4, 5]);
    assert_eq!(store.logs.top(&conv).await, Ok(11));
    assert!(store.logs.reaches(&conv, 7).await.unwrap() >= 7);
    assert_eq!(store.logs.reaches(&conv, 12).await, Ok(11));
    assert_eq!(store.logs.mend(&conv).await, Ok(11));
    assert_eq!(store.logs.next_row(&conv, 4, 11).await, Ok(Some(5)));
    for row in &rows {
        let counted = store.logs.counts_at(&conv, row.seq, row.seq).await;
        assert_eq!(counted, Ok(CountsAt::Known(row.counts)));
    }
    assert_eq!(rows.last().unwrap().counts, Counts { first: 9, second: 0 }, "events are not counted");
    assert_eq!(store.logs.counts_at(&conv, 12, 0).await, Ok(CountsAt::AboveTop(11)));
    let nowhere = ConvId::room(&room("nowhere"));
    assert_eq!(store.logs.top(&nowhere).await, Ok(0));
    assert_eq!(store.logs.read_after(&nowhere, 0, WHOLE).await, Ok(vec![]));
}

pub async fn lists_of_direct_conversations_show_no_rooms(bed: &mut impl Bed) {
    let store = bed.store();
    let (conv, bob) = (dm("alice", "bob"), user("bob"));
    let phone = entered(&*store.marks, "bob", "phone").await;
    append(&*store.logs, &conv, message("alice", "m")).await.unwrap();
    let stamps = store.inbox.stamps(&phone).await.unwrap();
    let lobby = lobby(&store, &["bob"]).await;
    let of_lobby = ConvId::room(&lobby);
    say(&store, &lobby, "alice", "hi").await.unwrap();
    say(&store, &lobby, "bob", "hi").await.unwrap();
    store.marks.raise_cursor(&phone, &of_lobby, 2).await.unwrap();
    for limit in 1..4 {
        let found = inbox(&*store.inbox, &bob, limit).await;
        assert_eq!(found.iter().map(|row| &row.conv).collect::<Vec<_>>(), [&conv]);
        let behind = gaps(&*store.inbox, &phone, limit).await;
        assert_eq!(behind, [Gap { conv: conv.clone(), head: 1, cursor: 0 }]);
    }
    let details = store.inbox.details(&bob, &[conv.clone(), of_lobby.clone()]).await.unwrap();
    assert_eq!(details.iter().map(|row| &row.conv).collect::<Vec<_>>(), [&conv]);
    let after = store.inbox.stamps(&phone).await.unwrap();
    assert_eq!((after.value, after.clean), (stamps.value, stamps.clean), "a message to a room changes no inbox");
    assert!(after.in_rooms, "a room has heard of the user");
    store.marks.raise_cursor(&phone, &conv, 1).await.unwrap();
    let page = store.inbox.gaps(&phone, None, 9, 9).await.unwrap();
    assert_eq!((page.items.len(), page.level.len(), page.next), (0, 1, None));
    // Nor does a new device begin anywhere in a room.
    let tablet = entered(&*store.marks, "bob", "tablet").await;
    assert_eq!(store.rooms.room_cursors(&tablet, None, 9).await, Ok(vec![]));
}

pub async fn marks_and_cursors_of_rooms_never_go_back(bed: &mut impl Bed) {
    let mut store = bed.store();
    let lobby = lobby(&store, &["bob"]).await;
    let (conv, alice, bob) = (ConvId::room(&lobby), user("alice"), user("bob"));
    let phone = entered(&*store.marks, "bob", "phone").await;
    for n in 0..4 {
        say(&store, &lobby, "alice", &format!("m{n}")).await.unwrap();
    }
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(6), "sending moves the sender's");
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(2), "and nobody else's");
    let kept = NewMessage { read_upto: 3, ..message("bob", "not seen all") };
    assert_eq!(append(&*store.logs, &conv, kept).await.unwrap().seq, 7);
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(2), "something below it was kept from bob");
    for (raised, expected) in [(5, 5), (3, 5), (6, 6)] {
        store.marks.raise_cursor(&phone, &conv, raised).await.unwrap();
        store.marks.raise_read_mark(&bob, &conv, mark_at(raised)).await.unwrap();
        assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(expected));
        assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(expected));
        assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(expected));
    }
    bed.reopen().await;
    store = bed.store();
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(6));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(6));
    checked(&store, &lobby).await;
}

pub async fn cursors_in_rooms_are_paged_and_forgotten(bed: &mut impl Bed) {
    let store = bed.store();
    let phone = entered(&*store.marks, "bob", "phone").await;
    let laptop = entered(&*store.marks, "bob", "phone-2").await;
    let names = ["a", "a-b", "ab", "b"].map(room);
    for (name, seq) in names.iter().zip(1..) {
        store.marks.raise_cursor(&phone, &ConvId::room(name), seq).await.unwrap();
        store.marks.raise_cursor(&laptop, &ConvId::room(name), 9).await.unwrap();
    }
    store.marks.raise_cursor(&phone, &dm("alice", "bob"), 7).await.unwrap();
    store.marks.raise_cursor(&phone, &dm("bob", "zed"), 7).await.unwrap();
    for limit in 1..=5 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.rooms.room_cursors(&phone, after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page);
        }
        assert_eq!(found, names.clone().into_iter().zip(1..).collect::<Vec<_>>(), "pages of {limit}");
    }
    assert_eq!(store.marks.retire(&phone.user, &phone.device).await, Ok(true));
    assert_eq!(store.rooms.room_cursors(&phone, None, 9).await, Ok(vec![]));
    assert_eq!(store.rooms.room_cursors(&laptop, None, 9).await.unwrap().len(), 4);
}
