//! Integration tests on real servers. One target, one folder per subject; `harness` is what they share.

// Test helpers, too, fail by panicking; clippy's own exception covers only the tests themselves.
#![allow(clippy::unwrap_used)]
// A crate that nothing imports: what is public in it is public to its own modules.
#![allow(unreachable_pub)]

mod api;
mod browser;
mod bus;
mod cli;
mod clients;
mod deploy;
mod gateway;
mod harness;
mod homes;
mod mesh;
mod metrics;
mod operators;
mod rules;
mod store;
