//! Integration tests on real servers. One target, one module per subject.

mod bus;
mod nats_server;
