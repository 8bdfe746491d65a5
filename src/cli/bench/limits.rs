//! How many descriptors a process may open: checked before a run, for a clear error instead of a failure halfway.

use anyhow::bail;

use crate::proc;

/// Descriptors that a process needs besides its connections.
const SPARE: usize = 64;

/// Fails when this process may not open `connections`.
pub(super) fn check_own(connections: usize) -> anyhow::Result<()> {
    match of("self") {
        Some(limit) if connections + SPARE > limit => bail!(
            "{connections} connections need {} descriptors, but this process may open {limit}: \
             ask for fewer, or raise the limit with ulimit -n",
            connections + SPARE
        ),
        _ => Ok(()),
    }
}

/// The same for a server that is to hold `connections`.
pub(super) fn check_server(pid: u32, connections: usize) -> anyhow::Result<()> {
    match of(&pid.to_string()) {
        Some(limit) if connections + SPARE > limit => bail!(
            "process {pid} may open {limit} descriptors, too few for {connections} connections: \
             ask for fewer, or start it with a higher ulimit -n"
        ),
        _ => Ok(()),
    }
}

/// `None` where it cannot be determined: then the run will show it.
fn of(pid: &str) -> Option<usize> {
    usize::try_from(proc::most_files(pid)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        assert!(of("self").is_some_and(|limit| limit > 0));
        assert!(check_own(usize::MAX / 2).is_err());
    }
}
