//! CPU time and memory of the measured processes, read from `/proc`. Called before and after measuring.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

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

    /// Samples all of them. One that has ended in the meantime is left out.
    pub(super) fn sample(&self) -> Vec<Sample> {
        self.pids.iter().filter_map(|pid| sample(&pid.to_string())).collect()
    }
}

/// All of them and the bench itself, at one moment.
#[derive(Debug)]
pub(super) struct Usage {
    at: Instant,
    processes: Vec<Sample>,
    own: Option<Sample>,
}

/// What was used between two moments.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) time: Duration,
    pub(super) processes: Vec<Spending>,
    pub(super) own: Option<Spending>,
}

/// What one process used.
#[derive(Debug)]
pub(super) struct Spending {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) cpu: Duration,
    pub(super) rss_bytes: u64,
}

impl Usage {
    pub(super) fn now(processes: &Processes) -> Self {
        Self { at: Instant::now(), processes: processes.sample(), own: own() }
    }

    /// What was used from `before` to this moment. A process that has ended is left out.
    pub(super) fn since(&self, before: &Self) -> Spent {
        let spent = |before: &Sample, after: &Sample| Spending {
            pid: after.pid,
            name: after.name.clone(),
            cpu: after.cpu.saturating_sub(before.cpu),
            rss_bytes: after.rss_bytes,
        };
        let both = |before: &Sample| {
            self.processes.iter().find(|after| after.pid == before.pid).map(|after| spent(before, after))
        };
        Spent {
            time: self.at.saturating_duration_since(before.at),
            processes: before.processes.iter().filter_map(both).collect(),
            own: before.own.as_ref().zip(self.own.as_ref()).map(|(before, after)| spent(before, after)),
        }
    }
}

impl Spent {
    /// The CPU time of all measured processes; the bench is none of them.
    pub(super) fn cpu(&self) -> Duration {
        self.processes.iter().map(|spending| spending.cpu).sum()
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
