//! How many files this process may open, and how they are shared out: the store's files and the connections to NATS
//! come first, clients get the rest.
//!
//! Called when `serve` and `dev` start, by the gateway (which turns connections away), by the embedded store (which
//! bounds the files it keeps open) and by `doctor`. A store that cannot open its next file fails as a whole, so no
//! number of clients may take its descriptors.

use std::io;

use crate::config::Config;

/// For all that is neither a client nor a file of the store: NATS, the CQL servers, epoll, logs, the probes' lane.
const OTHERS: usize = 64;
/// Files of the embedded store that stay open: more are only a little faster.
const STORE_FILES: std::ops::RangeInclusive<usize> = 16..=900;
/// With fewer the store could not be opened, let alone a client be served.
pub const LEAST: usize = 128;

/// Fewer descriptors than a node needs to start.
#[derive(Debug, thiserror::Error)]
#[error(
    "this process may open {allowed} files, at least {LEAST} are needed: raise the hard limit (ulimit -Hn, or LimitNOFILE= in the unit)"
)]
pub struct TooFew {
    /// What the process may open.
    pub allowed: usize,
}

/// The soft and the hard limit of open files.
///
/// # Errors
/// When the system does not tell.
pub fn limits() -> io::Result<(u64, u64)> {
    let limit = read()?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes only to the struct it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit to the hard one: the soft one is low for the sake of programs that use `select`.
///
/// # Errors
/// When the system refuses; the limit is then what it was.
pub fn raise() -> io::Result<()> {
    let mut limit = read()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit only reads the struct.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many files this process may open now. Where the system does not tell, as many as it has numbers for.
pub fn allowed() -> usize {
    let most = i32::MAX as usize;
    limits().map_or(most, |(soft, _)| usize::try_from(soft).unwrap_or(most).min(most))
}

/// How many files the embedded store may keep open, of so many `allowed`.
pub fn store_files(allowed: usize) -> usize {
    (allowed / 4).clamp(*STORE_FILES.start(), *STORE_FILES.end())
}

/// How many descriptors clients never get, of so many `allowed`.
pub fn reserve(allowed: usize) -> usize {
    store_files(allowed) + OTHERS
}

/// What was lowered so that everything fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lowered {
    /// What the process may open.
    pub allowed: usize,
    /// `limits.sessions_per_node` as it was configured.
    pub configured: u32,
    /// What it is now, on each node.
    pub sessions: u32,
}

/// Lowers the limits of a node of which there are `nodes` in this process to what the descriptors allow. `None`: they
/// fit as they are.
///
/// # Errors
/// When there are too few for any node.
pub fn fit(config: &mut Config, allowed: usize, nodes: usize) -> Result<Option<Lowered>, TooFew> {
    if allowed < LEAST {
        return Err(TooFew { allowed });
    }
    let free = allowed.saturating_sub(reserve(allowed)) / nodes.max(1);
    let free = u32::try_from(free).unwrap_or(u32::MAX);
    let (http, limits) = (&mut config.http, &mut config.limits);
    http.connections = http.connections.min(free / 2).max(1);
    http.connections_per_address = http.connections_per_address.min(http.connections / 2).max(1);
    let (configured, sessions) = (limits.sessions_per_node, free.saturating_sub(http.connections).max(1));
    if configured <= sessions {
        return Ok(None);
    }
    limits.sessions_per_node = sessions;
    Ok(Some(Lowered { allowed, configured, sessions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_what_the_store_needs() {
        for allowed in [LEAST, 200, 256, 1024, 20_000, 1 << 20] {
            for nodes in [1, 2, 64] {
                let mut config = Config::default();
                let lowered = fit(&mut config, allowed, nodes).unwrap();
                let each = (config.limits.sessions_per_node + config.http.connections) as usize;
                // One of each is the least: below that a node is of no use, and its connections are refused one by one.
                assert!(each * nodes + reserve(allowed) <= allowed || each <= 2, "{allowed} for {nodes}: {config:?}");
                assert_eq!(lowered.is_some(), config.limits.sessions_per_node < 100_000, "{allowed} for {nodes}");
                assert!(config.http.connections_per_address <= config.http.connections);
            }
        }
        assert!(fit(&mut Config::default(), LEAST - 1, 1).is_err());
    }

    #[test]
    fn what_fits_is_left_as_it_was_configured() {
        let mut config = Config::default();
        config.limits.sessions_per_node = 1_000;
        assert_eq!(fit(&mut config, 20_000, 1).unwrap(), None);
        assert_eq!((config.limits.sessions_per_node, config.http.connections), (1_000, 4_096));
    }

    #[test]
    fn the_limit_of_this_process_is_known() {
        let (soft, hard) = limits().unwrap();
        assert!(soft <= hard && allowed() > 0);
    }
}
