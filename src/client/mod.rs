//! The Rust client: reconnects, resends, acknowledges, drops duplicates. Called by send, tail, bench and the tests.
