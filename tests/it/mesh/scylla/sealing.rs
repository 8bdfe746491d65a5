//! The scenarios of `mesh::sealing` on nodes that share a CQL server.

use super::fleet::{Fleet, QUIET};
use crate::{
    harness::cassandra::Cassandra,
    mesh::sealing::{KNOWN_MS, an_erased_user_is_silent_everywhere, ask_to_erase},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_erased_user_has_said_is_gone_on_all_nodes() {
    let options = Cassandra::shared().await.lent().await;
    let more = format!(
        "sealing.on = true\nsealing.known_ms = {KNOWN_MS}\n\
         services.dpo = {{ may_act_for = \"*\", http = true, erases_users = true }}\n"
    );
    let (fleet, _nats, _folder) = Fleet::with(2, &options, &format!("{QUIET}{more}")).await;
    fleet.until_ready(true).await;
    let urls = [fleet.nodes[0].url(), fleet.nodes[1].url()];
    an_erased_user_is_silent_everywhere(urls, async || {
        let erased = ask_to_erase(fleet.nodes[0].addr, "dpo", "alice").await;
        assert_eq!(erased.json()["months"], 1, "{erased:?}");
    })
    .await;
}
