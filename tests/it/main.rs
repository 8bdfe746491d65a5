//! Integration tests on real servers. One target, one module per subject.

mod frame_errors;
mod golden;
