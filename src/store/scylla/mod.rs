//! The ScyllaDB store.
