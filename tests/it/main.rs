//! Integration tests on real servers. One target, one folder per subject; `harness` is what they share.

// The helpers of tests fail by panicking, too; clippy's own exception covers only the tests themselves.
#![allow(clippy::unwrap_used)]
// One crate that nobody imports: what is public in it is public to its own modules.
#![allow(unreachable_pub)]

mod browser;
mod bus;
mod cli;
mod deploy;
mod gateway;
mod harness;
mod mesh;
mod metrics;
mod rules;
mod store;
