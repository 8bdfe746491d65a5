//! Integration tests on real servers. One target, one module per subject.

// The helpers of tests fail by panicking, too; clippy's own exception covers only the tests themselves.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod store_contract;

mod bus;
mod cassandra;
mod cli_config;
mod compose;
mod doctor;
mod frame_errors;
mod golden;
mod migrate;
mod nats_server;
mod permissions;
mod proxy;
mod running;
mod skip;
mod store_embedded;
mod store_scylla;
mod tls;
