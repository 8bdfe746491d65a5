//! The commands of natter as a shell runs them.

mod backup;
mod commands;
mod config;
mod dev;
mod doctor;
mod nats_server;
mod readme;
mod scylla;
mod tokens_page;
mod verify;
mod wss;
