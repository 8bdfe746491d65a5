//! Integration tests on real servers. One target, one module per subject.

mod cassandra;
mod proxy;
mod store_scylla;
