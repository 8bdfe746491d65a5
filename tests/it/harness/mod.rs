//! What the tests of all folders share: servers, processes, proxies. No tests of natter itself stand here.

pub mod cassandra;
pub mod http;
pub mod proxy;
pub mod running;
pub mod skip;
