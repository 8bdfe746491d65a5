//! Integration tests on real servers. One target, one module per subject.

// The helpers of tests fail by panicking, too; clippy's own exception covers only the tests themselves.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod store_contract;

mod browser;
mod bus;
mod cassandra;
mod churn;
mod cli_config;
mod close_codes;
mod commands;
mod compose;
mod crash;
mod dev_command;
mod docs;
mod doctor;
mod error_codes;
mod frame_errors;
mod fuzzed_bodies;
mod golden;
mod handshake;
mod import_rules;
mod mesh;
mod migrate;
mod nats_down;
mod nats_py;
mod nats_server;
mod offline;
mod permissions;
mod proxy;
mod replaced;
mod rules_alone;
mod running;
mod scenarios;
mod scylla_mesh;
mod services;
mod skip;
mod slow_reader;
mod store_embedded;
mod store_scylla;
mod tls;
mod walk;
