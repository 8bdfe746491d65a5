//! Where an answer may go: reply subjects come from outside, and a node may publish what others may not (R13). Called by
//! both links.

use crate::{metrics::Metrics, subject::Subject};

/// Where to answer a service; any other subject than one of its own inbox is counted and logged.
pub(super) fn to_service(metrics: &Metrics, service: &str, to: &str) -> Option<Subject> {
    let subject = Subject::reply(service, to);
    if subject.is_none() {
        metrics.nats_dropped.inc();
        tracing::warn!(
            service,
            to,
            "not answering a request: its reply subject is not below _INBOX_<service>.; set that inbox prefix in the service's NATS client"
        );
    }
    subject
}

/// Where to answer a node; anything but a node's inbox for answers is counted and logged.
pub(super) fn to_node(metrics: &Metrics, to: &str) -> Option<Subject> {
    let subject = Subject::answer_to(to);
    if subject.is_none() {
        metrics.nats_dropped.inc();
        tracing::warn!(to, "not answering a request: its reply subject is not a node's");
    }
    subject
}
