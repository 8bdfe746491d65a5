//! The `natter` command.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Memory of connections that ended goes back to the system within a second or so, and not on the threads that
/// serve (measured: with the default it stays).
// SAFETY: jemalloc reads this one symbol at its start; it is a pointer to a constant that ends with 0.
#[allow(unsafe_code, non_upper_case_globals, reason = "the name is jemalloc's")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static malloc_conf: &[u8; 63] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000\0";

fn main() -> std::process::ExitCode {
    natter::cli::main()
}
