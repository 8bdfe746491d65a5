//! What each piece of a message's way costs, beside its floor: the same bytes through a bare loop, in the same run. Compare
//! as ratios; the machine and the day make the rest.
//!
//! `cargo bench --bench floors`, or one part: `cargo bench --bench floors append`. Whole messages between whole nodes are
//! `natter bench`.

mod append;
mod frames;
mod nats;
mod session;

/// As in the `natter` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}
