//! HAProxy, if it is installed.

use std::path::PathBuf;

/// The HAProxy program: `NATTER_HAPROXY`, or where Debian puts it.
pub fn haproxy() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("NATTER_HAPROXY").filter(|value| !value.is_empty()) {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin".into(), "/usr/local/sbin".into()];
    std::env::split_paths(&folders).chain(sbin).map(|folder| folder.join("haproxy")).find(|program| program.is_file())
}
