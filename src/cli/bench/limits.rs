//! How many descriptors a process may open: checked before a run, for a clear error instead of a failure halfway.

use anyhow::bail;

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
    soft_limit(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            20000     524288     files \n";
        assert_eq!(soft_limit(text), Some(20_000));
        assert_eq!(soft_limit("Max open files  unlimited unlimited files"), None);
        assert!(of("self").is_some_and(|limit| limit > 0));
        assert!(check_own(usize::MAX / 2).is_err());
    }
}
