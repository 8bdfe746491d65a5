//! What every store engine promises: one rule per function, one test per rule and engine. An engine joins with
//! a [`Bed`] and one line, `store_contract!(name, factory)`.

use std::sync::Arc;

use natter::{
    model::{Body, Cid, ConvId, Counts, Device, DeviceId, Gap, Kind, NewMessage, ReadMark, Row, Seq, UserId},
    store::{Appended, Inbox, InboxRow, Logs, Marks, Span, Store, StoreResult},
};

pub mod appending;
pub mod counting;
pub mod keys;
pub mod kinds;
pub mod listing;
pub mod marks;
pub mod people;
pub mod reading;
pub mod refs;
pub mod retrying;
pub mod rooms;
pub mod rooms_listing;
pub mod rooms_random;
pub mod rooms_writing;

/// A store for one test, with nothing in it, and whatever must live as long as the store.
pub trait Bed: Send {
    /// What the store counts for a body besides its own bytes.
    const BESIDE_BODY: usize = 0;

    /// The store.
    fn store(&self) -> Store;

    /// Closes the store and opens it again, as a restart of the node does.
    fn reopen(&mut self) -> impl Future<Output = ()> + Send;
}

/// Makes a test of every rule of rooms for one engine, as [`store_contract`] does for the others.
macro_rules! room_contract {
    ($engine:ident, $factory:path) => {
        mod $engine {
            store_contract! { @tests $factory;
                rooms_writing: only_members_write, a_service_writes_as_a_member_only, nothing_but_messages_and_changes_yet,
                    a_room_is_created_once, a_batch_is_judged_row_by_row, a_room_says_how_long_its_messages_last, what_is_so_already_is_not_stored,
                    no_row_of_the_kicked_stands_above_the_kick, what_is_stored_is_answered_whoever_asks,
                    who_comes_and_goes_has_the_spans;
                rooms_listing: rooms_are_read_in_the_order_asked_for, members_are_paged_in_order,
                    rooms_of_a_user_are_paged_in_order, the_log_of_a_room_is_read_like_any,
                    lists_of_direct_conversations_show_no_rooms, marks_and_cursors_of_rooms_never_go_back,
                    cursors_in_rooms_are_paged_and_forgotten;
                rooms_random: one_after_the_other_as_the_model_says, many_at_once_are_some_order;
            }
        }
    };
}

/// Makes a test of every rule of edits, deletions, reactions, replies, mentions and expiry for one engine.
macro_rules! kind_contract {
    ($engine:ident, $factory:path) => {
        mod $engine {
            store_contract! { @tests $factory;
                kinds: rows_about_a_message_stand_in_the_log_and_beside_it, only_who_may_writes_about_a_message,
                    what_is_gone_takes_no_more, many_react_and_some_are_named, any_life_is_folded_as_by_hand;
                refs: a_reply_is_to_a_message_that_its_sender_sees, mentions_are_counted_behind_the_mark,
                    what_has_expired_is_counted_behind_the_mark;
            }
        }
    };
}

/// Makes a test of every rule for one engine. `$factory` is an async function that returns a fresh [`Bed`].
macro_rules! store_contract {
    ($engine:ident, $factory:path) => {
        mod $engine {
            store_contract! { @tests $factory;
                appending: each_message_gets_its_answer_in_order, seqs_are_dense_under_concurrent_appends,
                    heads_stand_when_an_append_is_answered, sending_moves_the_senders_read_mark_only, sending_marks_nothing_that_was_not_handed_out,
                    one_may_write_to_oneself, an_empty_batch_changes_nothing, large_bodies_fit,
                    batches_cross_the_bucket_edge, single_messages_cross_the_bucket_edge,
                    conversations_do_not_mix;
                retrying: a_retry_gets_the_first_place_and_time, a_cid_twice_in_a_batch_gets_one_seq,
                    a_cid_sent_twice_at_once_gets_one_seq, another_body_is_refused,
                    a_cid_belongs_to_its_sender_and_conversation, cids_may_look_alike,
                    overlapping_batches_store_each_message_once, a_retry_is_known_after_4096_other_messages,
                    a_retry_is_known_after_a_restart;
                reading: rows_come_back_as_they_were, pages_forward_follow_each_other, a_page_is_cut_by_bytes,
                    pages_backward_follow_each_other, reading_at_the_edges, the_longest_names_work,
                    readers_beside_writers_see_no_gap_and_no_row_above_a_head;
                listing: the_inbox_is_paged_in_order, the_inbox_knows_the_time_of_the_head,
                    gaps_are_what_a_device_has_not_acknowledged, gaps_are_paged_over_what_is_not_behind,
                    names_that_start_alike_keep_apart, stamps_change_with_every_message_of_the_user;
                counting: rows_count_the_messages_up_to_them, inbox_rows_show_the_last_message,
                    a_service_has_no_inbox_of_what_it_writes;
                marks: cursors_never_go_back, read_marks_never_go_back, delivered_is_the_furthest_device,
                    a_device_is_new_once, a_later_connection_has_the_larger_number, a_new_device_starts_at_the_read_marks,
                    a_known_device_keeps_its_cursors, marks_survive_a_restart, a_closed_store_says_so,
                    the_device_that_logged_in_longest_ago_is_retired, a_device_in_use_is_not_the_one_that_is_retired,
                    new_devices_at_once_keep_to_the_limit,
                    a_retired_device_is_not_known;
                people: last_seen_never_goes_back, a_block_shows_on_both_sides_until_it_is_taken_off, blocks_are_paged_in_order,
                    changes_at_once_leave_both_sides_alike;
                keys: a_key_is_kept_once_and_all_get_the_same, destroyed_keys_do_not_come_back,
                    keys_that_are_kept_while_others_are_destroyed_stand_or_do_not;
            }
        }
    };
    (@tests $factory:path; $($module:ident: $($rule:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let mut bed = $factory().await;
                crate::store::contract::$module::$rule(&mut bed).await;
            }
        )+)+
    };
}

/// A span that no test's log reaches.
pub const WHOLE: Span = Span { rows: 1_000_000, bytes: 1 << 40 };

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A device of a user, by their names.
pub fn device(owner: &str, name: &str) -> Device {
    Device::new(user(owner), DeviceId::new(name).unwrap())
}

/// Most devices of one user in the tests that are not about that.
pub const MOST: usize = 32;

/// The same, known to the store, in its life there.
pub async fn entered(marks: &(impl Marks + ?Sized), owner: &str, name: &str) -> Device {
    let mut device = device(owner, name);
    register(marks, &mut device).await.unwrap();
    device
}

/// Makes a device known; true when it is new.
pub async fn register(marks: &(impl Marks + ?Sized), device: &mut Device) -> StoreResult<bool> {
    let entered = marks.enter(device, MOST).await?;
    device.life = entered.life;
    Ok(entered.is_new)
}

/// The conversation of two users, by their names.
pub fn dm(one: &str, other: &str) -> ConvId {
    ConvId::direct(&user(one), &user(other))
}

/// A message whose body and time follow from its cid, so that making it again makes a retry. Its sender has been handed
/// all there is.
pub fn message(sender: &str, cid: &str) -> NewMessage {
    let ts = 1_000 + cid.bytes().map(u64::from).sum::<u64>();
    let (body, read_upto) = (Body::text(&format!("body of {cid}")), Seq::MAX);
    NewMessage { read_upto, ..NewMessage::of_user(user(sender), Cid::new(cid).unwrap(), ts, body) }
}

/// A read mark of which only the place matters.
pub fn mark_at(seq: Seq) -> ReadMark {
    ReadMark { seq, counts: Counts::default() }
}

/// `count` messages, `<prefix>0` and so on.
pub fn messages(sender: &str, prefix: &str, count: usize) -> Vec<NewMessage> {
    (0..count).map(|n| message(sender, &format!("{prefix}{n}"))).collect()
}

/// Appends one message.
pub async fn append(logs: &dyn Logs, conv: &ConvId, message: NewMessage) -> StoreResult<Appended> {
    let mut answers = logs.append(conv, vec![message]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Appends `count` messages in batches of 64 and returns the last seq.
pub async fn fill(logs: &dyn Logs, conv: &ConvId, sender: &str, prefix: &str, count: usize) -> Seq {
    let mut last = 0;
    for batch in messages(sender, prefix, count).chunks(64) {
        for answer in logs.append(conv, batch.to_vec()).await {
            last = answer.unwrap().seq;
        }
    }
    last
}

/// The whole log, after checking that it is dense and that top and backward reads agree with it.
pub async fn log(logs: &dyn Logs, conv: &ConvId) -> Vec<Row> {
    let rows = logs.read_after(conv, 0, WHOLE).await.unwrap();
    let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, (1..=rows.len() as Seq).collect::<Vec<_>>(), "the log must be dense");
    assert_eq!(logs.top(conv).await.unwrap(), rows.len() as Seq);
    assert_eq!(logs.read_before(conv, Seq::MAX, WHOLE).await.unwrap(), rows);
    rows
}

/// The whole inbox, read in pages of `limit`.
pub async fn inbox(inbox: &dyn Inbox, user: &UserId, limit: usize) -> Vec<InboxRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = inbox.conversations(user, after.as_ref(), limit).await.unwrap();
        assert!(page.items.len() <= limit && page.scanned >= page.items.len(), "{page:?}");
        rows.extend(page.items);
        let Some(next) = page.next else { return rows };
        assert!(after.is_none_or(|after| after < next), "a listing must move on");
        after = Some(next);
    }
}

/// The recorded head of one conversation; 0 if there is none.
pub async fn head(store: &dyn Inbox, user: &UserId, conv: &ConvId) -> Seq {
    inbox(store, user, 100).await.iter().find(|row| row.conv == *conv).map_or(0, |row| row.head)
}

/// All gaps, read in pages of `limit`.
pub async fn gaps(inbox: &dyn Inbox, device: &Device, limit: usize) -> Vec<Gap> {
    gaps_within(inbox, device, limit, limit).await
}

/// All gaps, read in pages of `limit` that look at `scan` conversations.
pub async fn gaps_within(inbox: &dyn Inbox, device: &Device, limit: usize, scan: usize) -> Vec<Gap> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = inbox.gaps(device, after.as_ref(), limit, scan).await.unwrap();
        assert!(page.items.len() <= limit && page.scanned >= page.items.len(), "{page:?}");
        found.extend(page.items);
        let Some(next) = page.next else { return found };
        assert!(after.is_none_or(|after| after < next), "a listing must move on");
        after = Some(next);
    }
}
