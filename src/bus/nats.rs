//! The bus on async-nats.
