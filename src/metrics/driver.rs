//! The counts that a database driver keeps by itself, read from it at each scrape. A store whose driver counts
//! implements [`StoreDriver`]; whoever opens the store hands it over with [`super::Metrics::show_driver`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// What a driver has counted since it connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// Requests sent; a paged query counts once per page.
    pub requests: u64,
    /// Requests that failed after all retries.
    pub errors: u64,
    /// Requests that the driver sent again.
    pub retries: u64,
    /// Requests without an answer within their timeout.
    pub timeouts: u64,
    /// Connections open now.
    pub connections: u64,
    /// 99th percentile of the recent request latency in milliseconds; 0 while unknown.
    pub latency_p99_ms: u64,
}

/// A driver that keeps counts. Asked once per scrape, so it may take locks but must not wait for the network.
pub trait StoreDriver: fmt::Debug + Send + Sync + 'static {
    /// The counts now.
    fn counts(&self) -> DriverCounts;
}

/// Shows the driver that was handed over, and zeros without one: dashboards find every series on every node.
#[derive(Debug, Clone, Default)]
pub(super) struct DriverCollector(Arc<OnceLock<Arc<dyn StoreDriver>>>);

impl DriverCollector {
    pub(super) fn set(&self, driver: Arc<dyn StoreDriver>) {
        if self.0.set(driver).is_err() {
            tracing::error!("a second store driver was handed to the metrics; the first one stays");
        }
    }
}

impl Collector for DriverCollector {
    #[rustfmt::skip] // One line per metric reads as the table it is.
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counts = self.0.get().map(|driver| driver.counts()).unwrap_or_default();
        let counters = [
            ("store_requests", "Requests sent by the store's driver", counts.requests),
            ("store_request_errors", "Requests of the store's driver that failed after all retries", counts.errors),
            ("store_retries", "Requests that the store's driver sent again", counts.retries),
            ("store_timeouts", "Requests of the store's driver without an answer in time", counts.timeouts),
        ];
        let gauges = [
            ("store_connections", "Connections of the store's driver now", counts.connections),
            ("store_latency_ms", "99th percentile of the store driver's recent latency, in milliseconds", counts.latency_p99_ms),
        ];
        for (name, help, count) in counters {
            show(&mut encoder, name, help, &ConstCounter::new(count))?;
        }
        for (name, help, value) in gauges {
            show(&mut encoder, name, help, &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)))?;
        }
        Ok(())
    }
}

fn show(encoder: &mut DescriptorEncoder, name: &str, help: &str, metric: &impl EncodeMetric) -> Result<(), fmt::Error> {
    // What the driver counts is the store's, and the store is the process's: a process with several nodes shows it on
    // each of them. The full stop is what the library adds to the help of every other metric.
    let help = format!("{help} (the whole process; 0 on the embedded store).");
    metric.encode(encoder.encode_descriptor(name, &help, None, metric.metric_type())?)
}
