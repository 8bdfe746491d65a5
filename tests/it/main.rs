//! Integration tests on real servers. One target, one module per subject.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as loudly as tests")]

mod bus;
mod nats_server;
mod permissions;
