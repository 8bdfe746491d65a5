//! The commands of natter as a shell runs them.

mod backup;
mod bench;
mod commands;
mod config;
mod dev;
pub mod doctor;
mod export;
mod nats;
mod nats_server;
mod readme;
mod scylla;
mod shell;
mod supervisor;
mod tokens_page;
mod verify;
mod wss;
