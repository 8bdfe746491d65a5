//! Integration tests on real servers. One target, one module per subject.

// Clippy knows `#[test]` functions as tests, but not the helpers around them.
#![allow(clippy::unwrap_used)]

mod cli_config;
