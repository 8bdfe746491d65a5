//! What every bus promises, whichever engine carries it: one rule per function, one test per rule and engine. An engine
//! joins with one line, `bus_contract!(name, connect)`.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use natter::bus::Bus;

use super::site::Site;
use crate::harness::proxy::Proxy;

pub mod connection;
pub mod messages;
pub mod requests;

/// What an engine connects with. It must notice within a few seconds that a connection no longer carries anything.
pub struct Login {
    pub node: String,
    pub url: String,
    /// The password of the nodes' account.
    pub password: String,
}

/// An engine, as a function that connects a node.
pub type Connect = fn(Login) -> BoxFuture<'static, Arc<dyn Bus>>;

/// A server and an engine.
pub struct Bed {
    site: Site,
    connect: Connect,
}

impl Bed {
    pub async fn new(connect: Connect) -> Self {
        Self { site: Site::start().await, connect }
    }

    async fn node(&self, name: &str) -> Arc<dyn Bus> {
        self.node_at(name, self.site.server.client_addr()).await
    }

    async fn node_at(&self, name: &str, addr: SocketAddr) -> Arc<dyn Bus> {
        let password = self.site.server.passwords().node.clone();
        let login = Login { node: name.to_owned(), url: format!("nats://{addr}"), password };
        let bus = (self.connect)(login).await;
        assert_eq!(bus.connected(), Some(1));
        bus
    }

    /// A node whose connection to the server can be broken.
    async fn breakable(&self, name: &str) -> (Arc<dyn Bus>, Proxy) {
        let proxy = Proxy::to(self.site.server.client_addr()).await;
        (self.node_at(name, proxy.addr()).await, proxy)
    }
}

/// Makes a test of every rule for one engine. `$connect` is an async function from a [`Login`] to a bus.
macro_rules! bus_contract {
    ($engine:ident, $connect:path) => {
        mod $engine {
            bus_contract! { @tests $connect;
                messages: messages_come_in_the_order_in_which_they_were_published, of_a_queue_group_one_member_hears,
                    a_node_does_not_hear_itself, what_no_other_node_hears_is_told_with_its_tag,
                    a_request_is_answered_in_its_inbox_and_nowhere_else, a_subscription_ends_when_it_is_dropped,
                    closing_sends_what_waits;
                requests: each_request_gets_its_own_answer, that_nobody_hears_a_request_is_told_at_once,
                    a_late_answer_is_nobodys, a_request_ends_with_its_connection,
                    a_stalled_connection_holds_a_request_no_longer_than_its_time,
                    a_node_answers_into_the_inbox_of_a_node_and_nowhere_else;
                connection: a_fence_waits_for_the_server_in_both_directions,
                    a_fence_comes_after_every_subscription_before_it, fences_at_the_same_time_all_come_back,
                    a_fence_that_loses_its_connection_ends_at_once, a_lost_connection_and_the_next_are_told,
                    subscriptions_are_made_again_on_the_next_connection, without_a_connection_a_publish_is_dropped,
                    nothing_waits_while_the_connection_is_stalled;
            }
        }
    };
    (@tests $connect:path; $($module:ident: $($rule:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let bed = crate::bus::contract::Bed::new(|login| Box::pin($connect(login))).await;
                crate::bus::contract::$module::$rule(&bed).await;
            }
        )+)+
    };
}

fn text(number: usize) -> Bytes {
    number.to_string().into()
}
