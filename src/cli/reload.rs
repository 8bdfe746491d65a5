//! SIGHUP: reads the configuration again and takes what a running node can take. All of it or nothing: with any fault,
//! everything stays as it was. Called by `natter serve`.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::Filter;
use crate::{
    config::{Config, Sources},
    node::Reload,
};

/// The signals, caught since the start of the process.
#[derive(Debug)]
pub(super) struct Hangups(Signal);

impl Hangups {
    /// From now on a SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub(super) fn catch() -> anyhow::Result<Self> {
        Ok(Self(signal(SignalKind::hangup()).context("cannot catch SIGHUP")?))
    }
}

/// What it takes to read the configuration again.
#[derive(Debug)]
pub(super) struct Again {
    /// Where the configuration comes from: the files are read again, variables and flags are those of the start.
    pub sources: Sources,
    /// As it was read last.
    pub running: Config,
    /// What is logged.
    pub filter: Filter,
    /// The node to change.
    pub node: Reload,
}

impl Again {
    /// Reads the configuration at each signal, for as long as it is polled.
    pub(super) async fn at_each(mut self, mut hangups: Hangups) {
        while hangups.0.recv().await.is_some() {
            match self.read().await {
                Ok(()) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "SIGHUP: the configuration was not taken, everything stays as it was");
                }
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let config = Config::load(&self.sources)?;
        let keys = self.node.apply(&config).await?;
        // Checked when it was loaded, so it cannot fail after the rest was taken.
        self.filter.replace(&config.log.filter)?;
        let services = config.services.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        tracing::info!(
            keys,
            services,
            log = config.log.filter,
            "SIGHUP: took the keys, the services and the log filter"
        );
        let changed = self.running.changed_for_restart(&config);
        if !changed.is_empty() {
            tracing::warn!(keys = changed.join(", "), "SIGHUP: these keys changed as well and need a restart");
        }
        // What needs a restart is still as it was at the start, and is told again next time.
        self.running.auth = config.auth;
        self.running.services = config.services;
        self.running.log.filter = config.log.filter;
        Ok(())
    }
}
