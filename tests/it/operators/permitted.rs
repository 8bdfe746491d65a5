//! Who may do what operators do: the account of operators and no other, and what a command says that may not.

use natter::config::NatsLink;

use super::Site;
use crate::harness::{links::on_both_links, process::output, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_account_of_operators_may() {
    let site = Site::start(NatsLink::Own, 1).await;
    let alice = site.mesh.json(0, "alice", "d").await;
    let url = site.mesh.nats.client_url();
    let passwords = site.mesh.nats.passwords();
    for (user, password, words) in [
        ("operator", "wrong", "refuses the account"),
        ("billing", &passwords.billing, "NATS does not permit this account"),
    ] {
        for args in [
            &["disconnect", "alice"][..],
            &["nodes"],
            &["why", "dm:alice:bob", "1", "bob"],
            &["drain", "n1", "--last"],
            &["trace", "alice"],
        ] {
            let mut command = crate::harness::natter::natter(site.folder.path());
            command
                .args(args)
                .args(["--nats", &url, "--nats-user", user, "--wait", "300"])
                .env("NATTER_OPERATOR_PASSWORD", password);
            let refused = output(command).await;
            let errors = String::from_utf8_lossy(&refused.stderr);
            assert!(refused.status.code() == Some(1) && errors.contains(words), "{user} {args:?}: {refused:?}");
            assert!(errors.contains("hint: "), "{errors}");
        }
    }
    let mut command = crate::harness::natter::natter(site.folder.path());
    command.args(["nodes", "--nats", &url]);
    let errors = output(command).await.stderr;
    assert!(String::from_utf8_lossy(&errors).contains("set NATTER_OPERATOR_PASSWORD"), "{errors:?}");
    alice.round_trip().await;
    assert_eq!(alice.closed_now(), None);
}

/// R13: a node publishes for an operator nowhere but in an operator's inbox.
async fn answers_go_to_operators_inboxes_only(link: NatsLink) {
    let site = Site::start(link, 1).await;
    let (node, password) = (&site.mesh.nodes[0], site.mesh.nats.passwords().operator.clone());
    let operator = async_nats::ConnectOptions::with_user_and_password("operator".into(), password);
    let operator = operator.connect(site.mesh.nats.client_url()).await.unwrap();
    let bob = site.mesh.json(0, "bob", "d").await;
    let dropped = "natter_nats_dropped_total ";
    let before = node.metric(dropped).await;
    let subjects = ["natter.nodes.status", "natter.node.n1.cmd.status", "natter.nodes.rubbish", "$SRV.PING"];
    for (number, subject) in subjects.into_iter().enumerate() {
        operator.publish_with_reply(subject, "natter.user.bob", "{}".into()).await.unwrap();
        until("the node refused", async || (node.metric(dropped).await - before) as usize == number + 1).await;
    }
    bob.round_trip().await;
    assert_eq!(bob.closed_now(), None);
}

on_both_links!(answers_go_to_operators_inboxes_only);
