//! What the kernel counts about this process, read from `/proc` at each scrape, under the names that every Prometheus
//! client uses. Registered by [`super::Metrics::new`].
//!
//! Not a dependency: five numbers of four small files. Where there is no `/proc` the series are absent, which is the
//! truth, and better than zeros that an alert would believe.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::proc::{self, Stat};

/// This process, in the words of `/proc`.
const SELF: &str = "self";

/// Shows `process_*`.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    #[rustfmt::skip] // One line per metric reads as the table it is.
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stat = Stat::of(SELF);
        let cpu = stat.as_ref().map(|stat| ConstCounter::new(stat.cpu().as_secs_f64()));
        show(&mut encoder, "process_cpu_seconds", "CPU time that the process has used, in seconds", cpu)?;
        let start = stat.and_then(|stat| Some(ConstGauge::new(proc::boot_time()? + stat.started().as_secs_f64())));
        show(&mut encoder, "process_start_time_seconds", "When the process started, in seconds since 1970", start)?;
        show(&mut encoder, "process_open_fds", "Open file descriptors of the process", open_files().map(gauge))?;
        let most = proc::most_files(SELF);
        show(&mut encoder, "process_max_fds", "The most file descriptors that the process may open", most.map(gauge))?;
        let memory = proc::resident_bytes(SELF);
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

/// Counts the entries; the descriptor that reads them is among them and not counted.
fn open_files() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(entries.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_seen() {
        let before = open_files().unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files meanwhile, so only the order of magnitude is certain.
        assert!(open_files().unwrap() >= held.len() as u64 && before > 0);
        assert!(proc::most_files(SELF).is_none_or(|most| most >= held.len() as u64));
        assert!(proc::resident_bytes(SELF).unwrap() > 1 << 20);
        let stat = Stat::of(SELF).unwrap();
        let now = crate::model::now_millis() as f64 / 1000.0;
        let started = proc::boot_time().unwrap() + stat.started().as_secs_f64();
        assert!(
            stat.cpu().as_secs_f64() >= 0.0 && started <= now + 2.0 && started > now - 86_400.0,
            "{started} and now {now}"
        );
    }
}
