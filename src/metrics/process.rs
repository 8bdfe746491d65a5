//! What the kernel counts about this process, read from `/proc` at each scrape, under the names that every Prometheus
//! client uses. Registered by [`super::Metrics::new`].
//!
//! Not a dependency: five numbers of four small files. Where there is no `/proc` the series are absent, which is the
//! truth, and better than zeros that an alert would believe.

use std::{fmt, fs, num::NonZeroU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Shows `process_*`.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    #[rustfmt::skip] // One line per metric reads as the table it is.
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stat = read("stat").and_then(|text| Stat::parse(&text));
        let cpu = stat.as_ref().map(|stat| ConstCounter::new(stat.cpu_secs));
        show(&mut encoder, "process_cpu_seconds", "CPU time that the process has used, in seconds", cpu)?;
        let start = stat.and_then(|stat| Some(ConstGauge::new(boot_time()? + stat.started_secs)));
        show(&mut encoder, "process_start_time_seconds", "When the process started, in seconds since 1970", start)?;
        show(&mut encoder, "process_open_fds", "Open file descriptors of the process", open_files().map(gauge))?;
        let most = read("limits").and_then(|text| most_files(&text));
        show(&mut encoder, "process_max_fds", "The most file descriptors that the process may open", most.map(gauge))?;
        let memory = read("status").and_then(|text| resident_bytes(&text));
        show(&mut encoder, "process_resident_memory_bytes", "Memory of the process that is in RAM", memory.map(gauge))
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn show(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metric: Option<impl EncodeMetric>,
) -> Result<(), fmt::Error> {
    let Some(metric) = metric else { return Ok(()) };
    // The full stop is what the library adds to the help of every other metric.
    metric.encode(encoder.encode_descriptor(name, &format!("{help}."), None, metric.metric_type())?)
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// Counts the entries; the descriptor that reads them is among them and not counted.
fn open_files() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(entries.saturating_sub(1)).ok()
}

/// Of `/proc/self/stat`, in seconds.
#[derive(Debug, PartialEq)]
struct Stat {
    /// In user code and in the kernel.
    cpu_secs: f64,
    /// After the machine's start.
    started_secs: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and parentheses: fields are
        // counted after the last one. There the state is field 3 of proc(5); utime 14, stime 15, starttime 22.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let secs = |ticks: u64| ticks as f64 / ticks_per_sec().get() as f64;
        Some(Self { cpu_secs: secs(ticks(14)? + ticks(15)?), started_secs: secs(ticks(22)?) })
    }
}

fn ticks_per_sec() -> NonZeroU64 {
    const USUAL: NonZeroU64 = NonZeroU64::new(100).expect("not zero");
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().and_then(NonZeroU64::new).unwrap_or(USUAL)
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit: the one that counts. `unlimited` cannot be shown as a number.
fn most_files(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let numbers: Vec<String> = (4..=52).map(|field| (field * 100).to_string()).collect();
        let text = format!("17 (a) b) S {}", numbers.join(" "));
        let ticks = ticks_per_sec().get() as f64;
        let wanted = Stat { cpu_secs: 2_900.0 / ticks, started_secs: 2_200.0 / ticks };
        assert_eq!(Stat::parse(&text), Some(wanted));
        assert_eq!(Stat::parse("17 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn what_the_files_say_is_read_and_nonsense_is_left_out() {
        let limits =
            "Limit   Soft  Hard\nMax open files            1024                 524288               files     \n";
        assert_eq!(most_files(limits), Some(1024));
        assert_eq!(most_files("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(resident_bytes("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_bytes("VmRSS:\t many kB\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_seen() {
        let before = open_files().unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files meanwhile, so only the order of magnitude is certain.
        assert!(open_files().unwrap() >= held.len() as u64 && before > 0);
        assert!(most_files(&read("limits").unwrap()).is_none_or(|most| most >= held.len() as u64));
        assert!(resident_bytes(&read("status").unwrap()).unwrap() > 1 << 20);
        let stat = Stat::parse(&read("stat").unwrap()).unwrap();
        let now = crate::model::now_millis() as f64 / 1000.0;
        let started = boot_time().unwrap() + stat.started_secs;
        assert!(stat.cpu_secs >= 0.0 && started <= now + 2.0 && started > now - 86_400.0, "{started} and now {now}");
    }
}
