//! CPU time and memory of the measured processes, read from `/proc`. Called before and after measuring.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::bail;

use crate::proc::{self, Stat};

/// Which processes to look at.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    pids: Vec<u32>,
}

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) cpu: Duration,
    pub(super) rss_bytes: u64,
}

impl Processes {
    /// `pids`, and `root` with everything it has started.
    pub(super) fn new(pids: &[u32], root: Option<u32>) -> anyhow::Result<Self> {
        let mut all: BTreeSet<u32> = pids.iter().copied().collect();
        if let Some(root) = root {
            all.extend(descendants(root, &parents()));
        }
        if let Some(pid) = all.iter().find(|pid| sample(&pid.to_string()).is_none()) {
            bail!("there is no process {pid}");
        }
        Ok(Self { pids: all.into_iter().collect() })
    }

    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Samples all of them. One that has ended in the meantime is left out.
    pub(super) fn sample(&self) -> Vec<Sample> {
        self.pids.iter().filter_map(|pid| sample(&pid.to_string())).collect()
    }
}

/// This process.
pub(super) fn own() -> Option<Sample> {
    sample("self")
}

fn sample(pid: &str) -> Option<Sample> {
    let stat = Stat::of(pid)?;
    Some(Sample { cpu: stat.cpu(), rss_bytes: proc::resident_bytes(pid)?, pid: stat.pid, name: stat.name })
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let of = |name: &str| {
        name.parse::<u32>().ok()?;
        Stat::of(name).map(|stat| (stat.pid, stat.parent))
    };
    entries.flatten().filter_map(|entry| of(entry.file_name().to_str()?)).collect()
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_measured() {
        let own = own().unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.rss_bytes > 100_000);
        assert!(Processes::new(&[u32::MAX], None).is_err());
    }

    #[test]
    fn children_of_children_are_found() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 9)];
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4]);
    }
}
