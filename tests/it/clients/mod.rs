//! Clients in other languages than Rust, against a real mesh.

mod natter_js;
