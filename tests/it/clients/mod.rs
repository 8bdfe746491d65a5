//! Clients in other languages than Rust, and the programs under `examples/`, against a real mesh.

mod conform;
mod examples;
mod natter_js;
