//! The session state machine: events in, effects out, no I/O.
