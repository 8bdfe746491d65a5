//! The way to the homes of conversations: over NATS, as a process that is no node and leaves already, or past them when all
//! nodes are stopped.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    bus::{self, Bus, NatsOptions, claim::Claim},
    cli::report::Hint,
    config::Config,
    homes::{Homes, Parts},
    metrics::Metrics,
    model::{ConvId, Seq},
    store::{
        Engine as _, Logs, StoreError, StoreResult,
        scylla::{Conversations, ScyllaError, ScyllaOptions, ScyllaStore},
        slots::{Slot, Slots as _, Take},
    },
};

/// Most characters of a name.
const NAME: usize = 64;
const SUFFIX: &str = "-repair";
/// Nodes announce themselves once a second: after this all that are there are heard, and none is taken for dead.
const LISTEN: Duration = Duration::from_millis(2_500);
/// Taking a slot ends one former home each time.
const ROUNDS: usize = 4;

/// The store, and the way to who may write it.
pub(super) struct Way {
    store: Arc<ScyllaStore>,
    mesh: Option<Mesh>,
}

/// What a process among nodes has.
struct Mesh {
    bus: Arc<dyn Bus>,
    homes: Homes,
    logs: Arc<dyn Logs>,
    _claim: Claim,
}

impl Way {
    /// Connects; past the nodes where they are `stopped`.
    ///
    /// # Errors
    /// When the cluster or NATS does not answer, or another repair runs under this name.
    pub(super) async fn open(config: &Config, stopped: bool) -> anyhow::Result<Self> {
        let name = name(config.node.name.as_str());
        let options = ScyllaOptions { node: name.clone(), ..ScyllaOptions::from(&config.store.scylla) };
        // Before it has a life in the store: another repair of this name would lose its own.
        let bus = if stopped { None } else { Some(connect(config, &name).await?) };
        let store = ScyllaStore::connect(options).await?;
        let mesh = match bus {
            Some((bus, claim)) => Some(Mesh::join(bus, claim, &name, &store).await),
            None => None,
        };
        Ok(Self { store, mesh })
    }

    pub(super) async fn all_conversations(&self) -> Result<Conversations, ScyllaError> {
        self.store.all_conversations().await
    }

    /// As [`Logs::mend`].
    pub(super) async fn mend(&self, conv: &ConvId) -> StoreResult<Seq> {
        match &self.mesh {
            Some(mesh) => mesh.logs.mend(conv).await,
            None => self.mend_alone(conv).await,
        }
    }

    async fn mend_alone(&self, conv: &ConvId) -> StoreResult<Seq> {
        let slot = Slot::of(conv);
        for _ in 0..ROUNDS {
            match self.store.mend(conv).await {
                Err(StoreError::NotHome) => {}
                other => return other,
            }
            if let Take::Held(by) = self.store.take(slot).await? {
                self.store.fence(&by).await?;
            }
        }
        Err(StoreError::unavailable("the conversation's home changes all the time: is a node running?"))
    }

    /// Gives back what it took, so that nodes need not wait until they find that this home is gone.
    pub(super) async fn close(self) {
        let Self { store, mesh } = self;
        if let Some(mesh) = &mesh {
            mesh.homes.leave().await;
        }
        let fenced = if store.held().is_empty() { Ok(()) } else { store.fence(&store.incarnation()).await };
        if let Err(error) = fenced {
            tracing::warn!(%error, "nodes take the conversations of this command only when they find it silent");
        }
        if let Some(Mesh { bus, homes, .. }) = mesh {
            drop(homes);
            bus.close().await;
        }
        // It has nothing to write any more.
        let _ = store.close().await;
    }
}

impl Mesh {
    async fn join(bus: Arc<dyn Bus>, claim: Claim, name: &str, store: &Arc<ScyllaStore>) -> Self {
        let mut homes = Homes::new(Parts {
            node: name.into(),
            bus: bus.clone(),
            logs: store.clone(),
            slots: store.clone(),
            metrics: Metrics::new(name),
        });
        homes.start_leaving();
        sleep(LISTEN).await;
        Self { bus, logs: homes.logs(), homes, _claim: claim }
    }
}

/// A name beside that of the node whose configuration this is.
fn name(node: &str) -> String {
    let kept: String = node.chars().take(NAME - SUFFIX.len()).collect();
    kept + SUFFIX
}

async fn connect(config: &Config, name: &str) -> anyhow::Result<(Arc<dyn Bus>, Claim)> {
    let options = NatsOptions::from_config(name, &config.nats);
    let bus = bus::connect(options, Metrics::new(name)).await?;
    if bus.connected().is_none() {
        let what = anyhow::anyhow!("NATS does not answer, and nodes are reached through it");
        return Err(Hint::on(what, "start it, or correct nats.urls; with all nodes stopped, use --stopped"));
    }
    let claim = Claim::new(&bus, name);
    if claim.is_taken(&*bus).await {
        let what = anyhow::anyhow!("another process named {name} runs: a repair from this machine");
        return Err(Hint::on(what, "let it end, or give this one another name: NATTER_NODE__NAME"));
    }
    Ok((bus, claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    #[test]
    fn its_name_is_that_of_a_node() {
        for node in ["n1".to_owned(), "x".repeat(NAME)] {
            let name = name(&node);
            assert!(UserId::new(&name).is_ok() && name.ends_with(SUFFIX) && name != node, "{name}");
        }
    }
}
