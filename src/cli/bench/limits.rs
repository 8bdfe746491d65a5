//! Whether there are enough file descriptors for the connections: better a clear error instead of a failure halfway. Called
//! before anything else is done.

use anyhow::bail;

use super::processes::Processes;
use crate::{descriptors, proc};

/// Descriptors that a process needs besides its connections.
const SPARE: usize = 64;
/// The program of a node.
const NODE: &str = "natter";

/// Fails when this process may not open `connections`, however far it raises its limit.
pub(super) fn check_own(connections: usize) -> anyhow::Result<()> {
    if enough(of("self"), connections) {
        return Ok(());
    }
    // Where that is refused, the limit stands as it was, and the next lines say so.
    let _ = descriptors::raise();
    match of("self") {
        Some(limit) if !enough(Some(limit), connections) => bail!(
            "{connections} connections need {} descriptors, but this process may open {limit}: \
             ask for fewer, or raise the limit with ulimit -n",
            connections.saturating_add(SPARE)
        ),
        _ => Ok(()),
    }
}

/// The same for the nodes among the measured processes, which share the connections.
pub(super) fn check_servers(processes: &Processes, connections: usize) -> anyhow::Result<()> {
    let nodes: Vec<u32> =
        processes.sample().into_iter().filter(|sample| sample.name == NODE).map(|sample| sample.pid).collect();
    let each = connections.div_ceil(nodes.len().max(1));
    for pid in nodes {
        match of(&pid.to_string()) {
            Some(limit) if !enough(Some(limit), each) => bail!(
                "process {pid} may open {limit} descriptors, too few for {each} connections: \
                 ask for fewer, or start it with a higher ulimit -n"
            ),
            _ => {}
        }
    }
    Ok(())
}

/// Unknown is enough: then the run will show it.
fn enough(limit: Option<usize>, connections: usize) -> bool {
    limit.is_none_or(|limit| connections.saturating_add(SPARE) <= limit)
}

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
        assert!(check_own(1).is_ok());
    }
}
