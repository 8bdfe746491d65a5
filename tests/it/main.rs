//! Integration tests on real servers. One target, one module per subject.

mod bus;
mod frame_errors;
mod golden;
mod nats_server;
mod permissions;

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as loudly as tests")]
