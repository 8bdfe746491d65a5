//! `natter migrate`: brings the schema of a cluster to the version of this build, creating it if there is none; and makes the
//! streams of the durable queue, where that is on, or changes them to what the configuration says.

use std::process::ExitCode;

use serde::Serialize;

use super::{Global, logging, print, report::Hint};
use crate::{
    bus::{
        NatsOptions,
        queue::{Made, QueueError, QueueLink},
    },
    config::{Config, StoreKind},
    store::scylla::{Migrated, Replicated, ScyllaOptions, migrate, replication},
};

/// Arguments of `natter migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Servers of the cluster, comma-separated
    #[arg(long, value_name = "HOST:PORT,…")]
    contact_points: Option<String>,
    /// The keyspace; created if it does not exist
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// The datacenter that keeps the rows
    #[arg(long, value_name = "NAME")]
    datacenter: Option<String>,
    /// Copies of each row, used when the keyspace is created
    #[arg(long, value_name = "N")]
    replication_factor: Option<u32>,
    /// The keyspace's replication was changed and its copies are repaired since: record it
    #[arg(long)]
    repaired: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter migrate --config /etc/natter.toml
  natter migrate --contact-points db-1:9042,db-2:9042 --datacenter datacenter1 --replication-factor 3
  natter migrate --json | jq .to
  NATTER_QUEUE__ENABLED=true natter migrate     the streams of the durable queue as well
  natter migrate --repaired     after ALTER KEYSPACE and nodetool repair -full on each server

Safe to run again, and from several machines at once: one does the work, the others wait for it.";

impl Args {
    /// Whether a flag names a cluster: then one is meant, whatever store.kind says.
    fn names_a_cluster(&self) -> bool {
        self.contact_points.is_some()
            || self.keyspace.is_some()
            || self.datacenter.is_some()
            || self.replication_factor.is_some()
    }
}

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty, the cluster does not answer or refuses, or its schema is newer.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let kind = args.names_a_cluster().then_some("scylla");
    let sources = global
        .sources()
        .flag("--contact-points", "store.kind", kind)
        .flag("--contact-points", "store.scylla.contact_points", args.contact_points.as_ref())
        .flag("--keyspace", "store.scylla.keyspace", args.keyspace.as_ref())
        .flag("--datacenter", "store.scylla.datacenter", args.datacenter.as_ref())
        .flag("--replication-factor", "store.scylla.replication_factor", args.replication_factor);
    let config = Config::load(&sources)?;
    logging::start(&config.log)?;
    if config.store.kind == StoreKind::Embedded && config.queue.enabled {
        let streams = streams(&config).await?;
        print(&if args.json { serde_json::to_string(&Streams { streams })? } else { words(&streams) })?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.store.kind == StoreKind::Embedded {
        let what = anyhow::anyhow!("store.kind is embedded, which has no schema to migrate");
        return Err(Hint::on(what, "set store.kind = \"scylla\", or name a cluster with --contact-points"));
    }
    let options = ScyllaOptions::from(&config.store.scylla);
    let done = migrate(&options).await?;
    let replicated = replication(&options, args.repaired).await?;
    let report = Report::of(&config.store.scylla.keyspace, done, &replicated);
    // Told before the streams are made: what is done is done.
    if !args.json {
        print(&report.text())?;
    }
    let streams = if config.queue.enabled { streams(&config).await? } else { Vec::new() };
    if args.json {
        print(&serde_json::to_string(&Report { streams, ..report })?)?;
    } else if !streams.is_empty() {
        print(&words(&streams))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The streams of the durable queue, made or changed.
async fn streams(config: &Config) -> anyhow::Result<Vec<Made>> {
    let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let made = async { QueueLink::connect(&options).await?.migrate(config).await };
    made.await.map_err(|error| {
        let hint = match &error {
            QueueError::NoJetStream => "give the NATS servers a jetstream block, or set queue.enabled = false",
            _ => "start the NATS servers, or correct [nats] and [queue]; natter doctor says more",
        };
        Hint::on(error, hint)
    })
}

fn words(streams: &[Made]) -> String {
    let line = |made: &Made| {
        let what = match (made.created, made.changed) {
            (true, _) => "made it",
            (false, true) => "changed it to what [queue] says",
            (false, false) => "is as it should be, nothing to do",
        };
        format!("stream {}: {what}", made.stream)
    };
    streams.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
struct Streams {
    streams: Vec<Made>,
}

#[derive(Serialize)]
struct Report<'a> {
    keyspace: &'a str,
    from: i32,
    to: i32,
    changed: bool,
    /// The keyspace's replication.
    replication: String,
    /// It is not what an earlier run recorded.
    replication_differs: bool,
    /// Those of the durable queue, where that is on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    streams: Vec<Made>,
}

impl<'a> Report<'a> {
    fn of(keyspace: &'a str, Migrated { from, to }: Migrated, replicated: &Replicated) -> Self {
        let (replication, replication_differs) = (replicated.now.to_string(), replicated.differs());
        Self { keyspace, from, to, changed: from != to, replication, replication_differs, streams: Vec::new() }
    }

    fn text(&self) -> String {
        let Self { keyspace, from, to, .. } = self;
        match from {
            0 => format!("keyspace {keyspace}: created the schema, version {to}"),
            from if from == to => format!("keyspace {keyspace}: the schema already has version {to}, nothing to do"),
            from => format!("keyspace {keyspace}: migrated the schema from version {from} to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scylla::Replication;

    #[test]
    fn it_says_what_it_did() {
        let now = Replication::of(&[("class".to_owned(), "SimpleStrategy".to_owned())].into());
        let replicated = Replicated { now, recorded: None };
        let text = |from, to| Report::of("k", Migrated { from, to }, &replicated).text();
        assert_eq!(text(0, 2), "keyspace k: created the schema, version 2");
        assert_eq!(text(2, 2), "keyspace k: the schema already has version 2, nothing to do");
        assert_eq!(text(1, 2), "keyspace k: migrated the schema from version 1 to 2");
        let report = Report::of("k", Migrated { from: 2, to: 2 }, &replicated);
        assert!(!report.changed && !report.replication_differs && report.replication == "SimpleStrategy");
    }
}
