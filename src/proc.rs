//! What the kernel tells of a process in `/proc`. Read by the metrics, of this process, and by `natter bench`, of those
//! that it measures. Where there is no `/proc`, or no such process, nothing comes back.

use std::{fs, num::NonZeroU64, time::Duration};

/// Of `/proc/<pid>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The process.
    pub(crate) pid: u32,
    /// Its program, as the kernel shortens it.
    pub(crate) name: String,
    /// Who started it.
    pub(crate) parent: u32,
    /// In user code and in the kernel.
    pub(crate) cpu_ticks: u64,
    started_ticks: u64,
}

impl Stat {
    /// Of the process with this pid, or of `self`.
    pub(crate) fn of(pid: &str) -> Option<Self> {
        Self::parse(&read(pid, "stat")?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and parentheses: fields are
        // counted after the last one. There the state is field 3 of proc(5); ppid 4, utime 14, stime 15, starttime 22.
        let (before, after) = text.rsplit_once(')')?;
        let (pid, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            cpu_ticks: ticks(14)? + ticks(15)?,
            started_ticks: ticks(22)?,
        })
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Duration {
        time(self.cpu_ticks)
    }

    /// When it started, after the machine's start.
    pub(crate) fn started(&self) -> Duration {
        time(self.started_ticks)
    }
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / ticks_per_sec().get() as f64)
}

fn ticks_per_sec() -> NonZeroU64 {
    const USUAL: NonZeroU64 = NonZeroU64::new(100).expect("not zero");
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().and_then(NonZeroU64::new).unwrap_or(USUAL)
}

/// When the machine started, in seconds since 1970.
pub(crate) fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The process's memory that is in RAM.
pub(crate) fn resident_bytes(pid: &str) -> Option<u64> {
    resident(&read(pid, "status")?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The most files that the process may open: the soft limit, the one that counts. `unlimited` is no number.
pub(crate) fn most_files(pid: &str) -> Option<u64> {
    soft_limit(&read(pid, "limits")?)
}

fn soft_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

fn read(pid: &str, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let numbers: Vec<String> = (4..=52).map(|field| (field * 100).to_string()).collect();
        let text = format!("17 (a) b) S {}", numbers.join(" "));
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.cpu_ticks, stat.started_ticks, stat.parent), (2_900, 2_200, 400));
        let ticks = ticks_per_sec().get() as f64;
        let secs = (stat.cpu().as_secs_f64(), stat.started().as_secs_f64());
        assert_eq!(secs, (2_900.0 / ticks, 2_200.0 / ticks));
        assert_eq!(Stat::parse("17 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 8 20 0 3 0 100 1000 20";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.cpu_ticks), (42, "a) b (c", 200));
    }

    #[test]
    fn what_the_files_say_is_read_and_nonsense_is_left_out() {
        let limits =
            "Limit   Soft  Hard\nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(resident("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident("VmRSS:\t many kB\n"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
    }
}
