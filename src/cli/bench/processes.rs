//! CPU time and memory of the measured processes, read from `/proc`. Called before and after measuring.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::bail;

/// `USER_HZ`, the unit in which the kernel reports CPU time: 100 on every Linux that Rust's std supports.
const TICKS_PER_SEC: u64 = 100;

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
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (pid, name, ticks) = parse_stat(&stat)?;
    let rss_bytes = resident(&status)?;
    Some(Sample { pid, name, cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SEC), rss_bytes })
}

/// The pid, the name, and the user and system time in ticks.
fn parse_stat(stat: &str) -> Option<(u32, String, u64)> {
    // The name is in parentheses and may itself contain parentheses and spaces.
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let pid = stat.get(..open)?.trim().parse().ok()?;
    let fields: Vec<&str> = stat.get(close + 1..)?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((pid, stat.get(open + 1..close)?.to_owned(), ticks(11)? + ticks(12)?))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let of = |name: &str| -> Option<(u32, u32)> {
        let pid = name.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        let parent = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
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
    fn a_strange_name_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 8 20 0 3 0 100 1000 20";
        assert_eq!(parse_stat(stat), Some((42, "a) b (c".into(), 200)));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
    }

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
