//! The bus on real NATS servers: what every bus promises, what only this one does, and what the servers allow to whom.

#[macro_use]
mod contract;

mod nats;
mod own;
mod permissions;
mod sign_in;
mod site;
mod tls;
