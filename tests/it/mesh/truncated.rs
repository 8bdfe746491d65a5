//! What cannot be handed out: a row that the store has lost, and a body that cannot be written in the client's encoding. The
//! client is told that its backlog was cut, and everything behind it comes (R14, R18).

use std::sync::Arc;

use async_nats::ConnectOptions;
use natter::{
    model::{ConvId, NewMessage, Row, Seq, UserId},
    protocol::{ServerFrame, client::Outgoing},
    store::{Appended, Logs, Span, Store, StoreFuture, StoreResult},
    subject::Subject,
};

use super::{Peer, TestMesh};

const CONV: &str = "dm:alice:bob";

/// Logs that have lost one row.
struct LostRow(Arc<dyn Logs>, Seq);

impl Logs for LostRow {
    fn append<'a>(
        &'a self,
        conv: &'a ConvId,
        batch: Vec<NewMessage>,
    ) -> futures_util::future::BoxFuture<'a, Vec<StoreResult<Appended>>> {
        self.0.append(conv, batch)
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move {
            let rows = self.0.read_after(conv, after, span).await?;
            Ok(rows.into_iter().take_while(|row| row.seq != self.1).collect())
        })
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.read_before(conv, before, span)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.top(conv)
    }
}

/// Waits until the peer was told that its backlog was cut.
async fn truncated(peer: &Peer) -> Seq {
    peer.wait("truncated", |frames| {
        frames.iter().find_map(|frame| match frame {
            ServerFrame::Truncated { conv, from } if conv.as_str() == CONV => Some(*from),
            _ => None,
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_past_a_row_that_is_lost() {
    let mut mesh = TestMesh::bare(|config| config.timing.hole_after_secs = 1).await;
    let store = Store::of(mesh.store.clone());
    let store = Store { logs: Arc::new(LostRow(store.logs.clone(), 3)), ..store };
    let nats = mesh.nats.client_url();
    mesh.add_node_on(nats, store).await;
    let alice = mesh.json(0, "alice", "d").await;
    for seq in 1..=9 {
        alice.send("@bob", &format!("c{seq}"), "x").await;
    }
    let bob = mesh.json(0, "bob", "d").await;
    assert_eq!(truncated(&bob).await, 4);
    bob.message(CONV, 9).await;
    assert_eq!(bob.seqs(CONV), [1, 2, 4, 5, 6, 7, 8, 9]);
    bob.caught_up().await;
    assert_eq!(mesh.nodes[0].metric("natter_truncated_total").await, 1.0, "bob was told, alice had it live");
    // What was acknowledged behind it is a cursor: the next session does not meet the hole.
    alice.receipt("it is stored", |r| r.delivered == Some(9)).await;
    let again = mesh.json(0, "bob", "d").await;
    again.caught_up().await;
    assert_eq!(again.seqs(CONV), Vec::<Seq>::new());
}

/// Only damage brings such a body into a log, so here a node's notice brings it.
#[tokio::test]
async fn a_body_that_cannot_be_written_is_left_out_and_not_an_empty_frame() {
    let mesh = TestMesh::start(1).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    alice.send("@bob", "c1", "x").await;
    bob.message(CONV, 1).await;
    let node = ConnectOptions::with_user_and_password("node".into(), mesh.nats.passwords().node.clone())
        .custom_inbox_prefix("_INBOX_node")
        .connect(mesh.nats.client_url())
        .await
        .unwrap();
    let mut payload = b"\x86\xa2op\xa7message\xa4conv\xacdm:alice:bob\xa3seq\x02\xa4from\xa5alice\xa2ts\x01".to_vec();
    payload.extend(b"\xa4body\xcb\x7f\xf8\0\0\0\0\0\0"); // not a number
    node.publish(Subject::user(&UserId::new("bob").unwrap()).to_string(), payload.into()).await.unwrap();
    node.flush().await.unwrap();
    assert_eq!(truncated(&bob).await, 3);
    assert_eq!(mesh.nodes[0].metric("natter_unwritable_bodies_total").await, 1.0);
    bob.say(&Outgoing::Ping { reference: Some(bob.fresh_ref()) });
    bob.round_trip().await;
    assert_eq!(bob.seqs(CONV), [1]);
}
