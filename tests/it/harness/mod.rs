//! What the tests of all folders share: waiting, processes, proxies, servers. No test of natter itself is in here.

pub mod cassandra;
pub mod certificates;
pub mod dev;
pub mod example;
pub mod haproxy;
pub mod http;
pub mod links;
pub mod listing;
pub mod nats;
pub mod nats_proxy;
pub mod natter;
pub mod node;
pub mod preload;
pub mod process;
pub mod proxy;
pub mod python;
pub mod skip;
pub mod terminator;
pub mod wait;

pub use self::wait::{PATIENCE, until};
