//! Kinds of messages, from socket to socket over two nodes, on the embedded store. `mesh::scylla` has the same on a CQL server.

use super::TestMesh;

pub mod scenarios;

/// Nodes that clients connect to.
pub trait Nodes {
    /// Where the sessions of one of them are.
    fn url(&self, node: usize) -> String;
}

impl Nodes for TestMesh {
    fn url(&self, node: usize) -> String {
        self.nodes[node].url()
    }
}

/// Makes a test of every scenario. `$start` is an async function that starts so many nodes.
macro_rules! kind_scenarios {
    ($start:path) => {
        kind_scenarios! { @tests $start; edits_deletions_and_reactions_come_in_their_place_and_are_shown_in_messages(2),
            a_folded_history_leads_over_any_number_of_reactions(1),
            a_page_of_large_edits_ends_early(1),
            a_moderator_deletes_what_others_wrote(2),
            mentions_are_counted_until_they_are_read_on_any_device(2),
            what_has_expired_is_in_no_answer(2),
            a_room_says_how_long_its_messages_last(2),
            a_member_may_ask_who_has_read(2) }
    };
    (@tests $start:path; $($scenario:ident($nodes:literal)),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                crate::mesh::kinds::scenarios::$scenario(&$start($nodes).await).await;
            }
        )+
    };
}
pub(super) use kind_scenarios;

kind_scenarios!(TestMesh::start);
