//! I1 where no kill can show it: what reached only the operating system survives a kill, and not a power failure. So the
//! syncs themselves are counted.

use std::{fs, path::Path};

use natter::{
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ServerFrame, ask},
};

use crate::{
    harness::{preload, skip::skip},
    mesh::{
        Peer,
        serve::{Around, ServeProcess},
    },
};

/// How often a journal was synced.
fn syncs(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().filter(|file| file.ends_with(".jnl")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_answered_before_the_journal_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("syncs");
    let Some(variables) = preload::noting_syncs(&log) else { return skip("counted syncs", "there is no cc") };
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let around = Around { variables, ..Around::default() };
    let serve = ServeProcess::start_with(folder.path(), &nats, "", around).await;
    let alice = Peer::join(&serve.url(), "alice", "d", Encoding::Json).await;
    for n in 0..50 {
        let before = syncs(&log);
        alice.send("@bob", &format!("one{n}"), "hi").await;
        assert!(syncs(&log) > before, "message {n} was answered, and no journal was synced since it was sent");
    }
    // Those that are sent together share syncs; the last answer has one of its own all the same.
    for round in 0..10 {
        let before = syncs(&log);
        let begin = |n: usize| alice.begin_send("@bob", &format!("many{round}-{n}"), &Body::text("hi"));
        let begun: Vec<_> = (0..20).map(begin).collect();
        for reference in begun {
            let answer = alice.answer(reference).await;
            assert!(matches!(answer, ServerFrame::Sent(ask::Sent { .. })), "{answer:?}");
        }
        assert!(syncs(&log) > before, "round {round}");
    }
}
