//! The stores: the contract of every engine, and what only one of them promises.

#[macro_use]
pub mod contract;

mod embedded;
mod scylla;
