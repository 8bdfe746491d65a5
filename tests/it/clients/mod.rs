//! Clients in other languages than Rust, against a real mesh.

mod conform;
mod natter_js;
