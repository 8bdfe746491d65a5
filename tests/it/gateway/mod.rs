//! One connection and its contract: the handshake, what is refused and how, and which code closes it.

mod autobahn;
mod close_codes;
mod crowds;
mod error_codes;
mod frame_errors;
mod fuzzed_bodies;
mod handshake;
mod logins;
mod raw;
mod repeaters;
mod slow_way;
mod stopping;
