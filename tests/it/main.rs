//! Integration tests on real servers. One target, one module per subject.

// The helpers of tests fail by panicking, too; clippy's own exception covers only the tests themselves.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod store_contract;

mod bus;
mod cli_config;
mod crash;
mod frame_errors;
mod golden;
mod mesh;
mod nats_down;
mod nats_server;
mod offline;
mod permissions;
mod slow_reader;
mod store_embedded;
mod walk;
