//! What the driver counts, in plain numbers for the node's metrics.

use scylla::client::session::Session;

/// Counters of the driver since the store connected; latencies cover the recent past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverMetrics {
    /// Requests sent, paged ones per page.
    pub requests: u64,
    /// Requests that failed in the end.
    pub errors: u64,
    /// Requests that the driver sent again.
    pub retries: u64,
    /// Requests that got no answer within their time-out.
    pub timeouts: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Median latency of a request in milliseconds, 0 while unknown.
    pub latency_p50_ms: u64,
    /// 99th percentile of the same.
    pub latency_p99_ms: u64,
}

impl DriverMetrics {
    pub(super) fn of(session: &Session) -> Self {
        let driver = session.get_metrics();
        let latency = |percentile| driver.get_latency_percentile_ms(percentile).unwrap_or(0);
        Self {
            requests: driver.get_requests_unpaged_num()
                + driver.get_requests_manually_paged_num()
                + driver.get_requests_automatically_paged_num(),
            errors: driver.get_errors_unpaged_num()
                + driver.get_errors_manually_paged_num()
                + driver.get_errors_automatically_paged_num(),
            retries: driver.get_retries_num(),
            timeouts: driver.get_request_timeouts(),
            connections: driver.get_total_connections(),
            latency_p50_ms: latency(50.0),
            latency_p99_ms: latency(99.0),
        }
    }
}
