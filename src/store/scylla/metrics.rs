//! What the driver counts, for the node's metrics.

use std::{fmt, sync::Arc};

use crate::metrics::{DriverCounts, StoreDriver};

/// The counters of one driver session.
pub(super) struct ScyllaDriver(pub(super) Arc<scylla::observability::metrics::Metrics>);

impl fmt::Debug for ScyllaDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

impl StoreDriver for ScyllaDriver {
    fn counts(&self) -> DriverCounts {
        let Self(driver) = self;
        DriverCounts {
            requests: driver.get_requests_unpaged_num()
                + driver.get_requests_manually_paged_num()
                + driver.get_requests_automatically_paged_num(),
            errors: driver.get_errors_unpaged_num()
                + driver.get_errors_manually_paged_num()
                + driver.get_errors_automatically_paged_num(),
            retries: driver.get_retries_num(),
            timeouts: driver.get_request_timeouts(),
            connections: driver.get_total_connections(),
            latency_p99_ms: driver.get_latency_percentile_ms(99.0).unwrap_or(0),
        }
    }
}
