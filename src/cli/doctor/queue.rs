//! The durable queue as a node will find it, where the configuration wants one.

use super::finding::Finding;
use crate::{
    bus::{
        NatsOptions,
        queue::{DEAD_STREAM, QueueError, QueueLink, StreamState},
    },
    config::Config,
};

const PART: &str = "queue";
/// A queue that is so full, in percent, is soon full.
const NEARLY: u64 = 80;

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    if !config.queue.enabled {
        return Vec::new();
    }
    let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let looked = async { QueueLink::connect(&options).await?.examine(config).await };
    match looked.await {
        Ok(streams) => streams.iter().flat_map(|(name, state)| stream(name, state.as_ref(), config)).collect(),
        Err(error) => vec![lacking(&error)],
    }
}

fn lacking(error: &QueueError) -> Finding {
    let fix = match error {
        QueueError::NoJetStream => {
            "give the servers a jetstream block (nats/common.conf), or set queue.enabled = false"
        }
        QueueError::Away(_) => "start the servers, or correct nats.urls",
        QueueError::Refused(_) => "connect as the user `node` of nats/accounts.conf, which may use JetStream",
    };
    Finding::fail(PART, "jetstream", error.to_string(), fix)
}

fn stream(name: &str, state: Option<&StreamState>, config: &Config) -> Vec<Finding> {
    let Some(state) = state else {
        let says = format!("there is no stream {name}: what services publish is refused");
        return vec![Finding::warn(PART, "stream", says, "natter migrate makes it, and so does a node that starts")];
    };
    let mut findings = Vec::new();
    let says = format!("{name} holds {} messages, {} of {} bytes", state.messages, state.bytes, state.max_bytes);
    findings.push(if !state.differs.is_empty() {
        let says = format!("{name} is not what [queue] says: {}", state.differs.join(", "));
        Finding::warn(PART, "stream", says, "natter migrate changes it")
    } else if name == DEAD_STREAM && state.messages > 0 {
        let says = format!("{} messages of services were given up", state.messages);
        Finding::warn(PART, "dead letters", says, "natter dead shows them, with the reasons")
    } else if name != DEAD_STREAM && state.bytes.saturating_mul(100) > state.max_bytes.saturating_mul(NEARLY) {
        let fix = "when it is full, services are refused: do nodes take from it (natter_queue_parts)? Else raise queue.max_bytes";
        Finding::warn(PART, "stream", says, fix)
    } else {
        Finding::ok(PART, "stream", says)
    });
    let servers = config.nats.cells.first().unwrap_or(&config.nats.urls).len();
    if name != DEAD_STREAM && state.replicas < 3 && servers >= 3 {
        let says = format!("{name} has {} of 3 copies", state.replicas);
        let fix = "with the server that has it what waits is away: set queue.replicas = 3 and run natter migrate";
        findings.push(Finding::warn(PART, "copies", says, fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::queue::QUEUE_STREAM, cli::doctor::finding::State, config::ServerUrl};

    #[test]
    fn each_lack_is_told_with_what_helps() {
        let mut config = Config::default();
        let state = StreamState { messages: 0, bytes: 0, max_bytes: 100, replicas: 1, differs: Vec::new() };
        let states = |name, state: Option<&StreamState>, config: &Config| {
            stream(name, state, config).iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_eq!(states(QUEUE_STREAM, Some(&state), &config), [State::Ok]);
        assert_eq!(states(QUEUE_STREAM, None, &config), [State::Warn]);
        let full = StreamState { bytes: 81, messages: 1, ..state.clone() };
        assert_eq!(states(QUEUE_STREAM, Some(&full), &config), [State::Warn]);
        assert_eq!(states(DEAD_STREAM, Some(&full), &config), [State::Warn]);
        let other = StreamState { differs: vec!["retention"], ..state.clone() };
        assert_eq!(states(QUEUE_STREAM, Some(&other), &config), [State::Warn]);
        config.nats.urls = ["a", "b", "c"].map(|host| ServerUrl::new(format!("nats://{host}:4222"))).to_vec();
        assert_eq!(states(QUEUE_STREAM, Some(&state), &config), [State::Ok, State::Warn]);
        assert_eq!(lacking(&QueueError::NoJetStream).state, State::Fail);
    }
}
