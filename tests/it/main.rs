//! Integration tests on real servers. One target, one module per subject.
// Clippy knows `#[test]` functions as tests, but not the helpers around them.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as loudly as tests")]

mod bus;
mod cli_config;
mod frame_errors;
mod golden;
mod nats_server;
mod permissions;
