//! The bus on real NATS servers: what it promises to natter, and what the servers let whom do.

mod nats;
mod permissions;
mod tls;
