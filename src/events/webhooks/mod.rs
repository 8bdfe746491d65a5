//! Webhooks: events posted over HTTP, signed as Standard Webhooks has it. Each target has a queue of its own, so a dead one
//! costs nobody anything but its own events. Called by [`super::Events`].

mod breaker;
mod queue;
mod signing;
mod target;

use std::{sync::Arc, time::Duration};

use compact_str::CompactString;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use self::target::Target;
use super::{BadWebhook, Kinds};
use crate::{config, metrics::Metrics, protocol::event::EventKind};

/// How long the end of a node may be held up by posts.
pub(crate) const ENDING: Duration = Duration::from_secs(3);

/// The targets of one node.
pub(super) struct Webhooks {
    targets: Vec<(Kinds, Arc<Target>)>,
    /// They post, and end with this.
    _workers: Vec<AbortOnDropHandle<()>>,
}

impl Webhooks {
    pub(super) fn start(configured: &config::Webhooks, metrics: &Arc<Metrics>) -> Result<Self, BadWebhook> {
        let (mut targets, mut workers) = (Vec::new(), Vec::new());
        for (name, of) in configured {
            let bad = |reason| BadWebhook { name: name.to_string(), reason };
            let target = Arc::new(Target::new(name, of, metrics.clone()).map_err(bad)?);
            let worker = |_| AbortOnDropHandle::new(tokio::spawn(target.clone().work()));
            workers.extend((0..of.at_once).map(worker));
            targets.push((Kinds::of(&of.kinds), target));
        }
        Ok(Self { targets, _workers: workers })
    }

    pub(super) fn count(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.targets.iter().any(|(kinds, _)| kinds.has(kind))
    }

    /// Has an event posted to whoever wants it; returns at once.
    pub(super) fn post(&self, kind: EventKind, id: &CompactString, payload: &bytes::Bytes) {
        for (_, target) in self.targets.iter().filter(|(kinds, _)| kinds.has(kind)) {
            target.post(id.clone(), payload.clone());
        }
    }

    pub(super) async fn finish(&self) {
        let all = async {
            for (_, target) in &self.targets {
                target.idle().await;
            }
        };
        // What is left then is dropped, and said.
        let _ = timeout(ENDING, all).await;
        self.targets.iter().for_each(|(_, target)| target.abandon());
    }
}
