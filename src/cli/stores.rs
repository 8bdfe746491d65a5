//! Opens the store that the configuration names. Called by `serve`, `dev`, `migrate` and `doctor`, so that all of
//! them mean the same store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    config::{self, Config, StoreKind},
    metrics::Metrics,
    node::Refresh,
    store::{
        Store,
        embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
        scylla::{DriverMetrics, ScyllaOptions, ScyllaStore, TlsOptions, migrate},
    },
};

/// A store, and what it counts by itself.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Carries the driver's counts into the metrics; `None` where no driver counts.
    pub refresh: Option<Refresh>,
}

/// Opens the store of the configuration. `migrating` brings a cluster's schema to this build first.
///
/// # Errors
/// The folder is in use, foreign or of another format; the cluster does not answer, or its schema is not this
/// build's.
pub async fn open(config: &Config, migrating: bool) -> anyhow::Result<Opened> {
    match config.store.kind {
        StoreKind::Embedded => Ok(Opened { store: Store::of(open_embedded(config).await?), refresh: None }),
        StoreKind::Scylla => open_scylla(&config.store.scylla, migrating).await,
    }
}

async fn open_scylla(scylla: &config::Scylla, migrating: bool) -> anyhow::Result<Opened> {
    let options = scylla_options(scylla);
    if migrating {
        migrate(&options).await?;
    }
    let store = ScyllaStore::connect(options).await?;
    warn_of_few_copies(&store, scylla);
    let counting = store.clone();
    let refresh: Refresh = Arc::new(move |metrics| show(&counting.driver_metrics(), metrics));
    Ok(Opened { store: Store::of(store), refresh: Some(refresh) })
}

fn show(driver: &DriverMetrics, metrics: &Metrics) {
    for (shown, counted) in [
        (&metrics.store_requests, driver.requests),
        (&metrics.store_request_errors, driver.errors),
        (&metrics.store_retries, driver.retries),
        (&metrics.store_timeouts, driver.timeouts),
    ] {
        // A counter only grows: by the difference.
        shown.inc_by(counted.saturating_sub(shown.get()));
    }
    let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
    metrics.store_connections.set(gauge(driver.connections));
    metrics.store_latency_ms.set(gauge(driver.latency_p99_ms));
}

/// What the keyspace has counts, not the key of the configuration: that is used only when the keyspace is made.
fn warn_of_few_copies(store: &ScyllaStore, scylla: &config::Scylla) {
    match store.replication_factor(&scylla.datacenter) {
        Some(copies @ ..=1) => tracing::warn!(
            keyspace = %scylla.keyspace,
            copies,
            "the keyspace keeps one copy of each row: a lost disk loses messages; use three copies outside development"
        ),
        Some(copies) if copies != scylla.replication_factor as usize => tracing::warn!(
            keyspace = %scylla.keyspace,
            copies,
            configured = scylla.replication_factor,
            "store.scylla.replication_factor is used only when the keyspace is made; change it with ALTER KEYSPACE"
        ),
        _ => {}
    }
}

/// The configuration's keys as the store takes them.
pub fn scylla_options(scylla: &config::Scylla) -> ScyllaOptions {
    ScyllaOptions {
        contact_points: scylla.contact_points.clone(),
        keyspace: scylla.keyspace.clone(),
        datacenter: Some(scylla.datacenter.clone()),
        user: scylla.user.clone(),
        password: scylla.password.as_ref().map(|password| password.expose().to_owned()),
        tls: scylla.tls_ca_file.clone().map(|ca_file| TlsOptions {
            ca_file,
            cert_file: scylla.tls_cert_file.clone(),
            key_file: scylla.tls_key_file.clone(),
        }),
        request_timeout: Duration::from_millis(scylla.request_timeout_ms),
        // The configuration allows 15 at most.
        replication_factor: u8::try_from(scylla.replication_factor).unwrap_or(u8::MAX),
        ..ScyllaOptions::default()
    }
}

/// Opens the embedded store of the configuration's data folder.
///
/// # Errors
/// When the folder is in use, foreign, or of another format.
pub async fn open_embedded(config: &Config) -> anyhow::Result<Arc<EmbeddedStore>> {
    let embedded = &config.store.embedded;
    let dir = embedded.store_dir();
    let options = EmbeddedOptions { cache_bytes: embedded.cache_bytes, ..EmbeddedOptions::default() };
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        open_when_free(&dir, options)
    });
    opened.await.context("opening the store")?
}

/// A process that was killed holds its folder for some milliseconds more; whoever starts the next one at once should
/// not have to try twice.
fn open_when_free(dir: &std::path::Path, options: EmbeddedOptions) -> anyhow::Result<Arc<EmbeddedStore>> {
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        match EmbeddedStore::open(dir, options) {
            Err(OpenError::InUse { .. }) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(50)),
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scylla, Secret};

    #[test]
    fn what_the_driver_counts_is_taken_over_and_not_added_up() {
        let metrics = Metrics::new("n1");
        let driver = DriverMetrics { requests: 7, connections: 3, latency_p99_ms: 12, ..DriverMetrics::default() };
        show(&driver, &metrics);
        show(&DriverMetrics { requests: 9, connections: 2, ..driver }, &metrics);
        assert_eq!((metrics.store_requests.get(), metrics.store_connections.get()), (9, 2));
        assert_eq!((metrics.store_retries.get(), metrics.store_latency_ms.get()), (0, 12));
    }

    #[test]
    fn every_key_reaches_the_driver() {
        let scylla = Scylla {
            contact_points: vec!["db:9042".to_owned()],
            keyspace: "k".to_owned(),
            datacenter: "dc7".to_owned(),
            replication_factor: 5,
            user: Some("u".to_owned()),
            password: Some(Secret::new("p")),
            tls_ca_file: Some("ca".into()),
            tls_cert_file: Some("cert".into()),
            tls_key_file: Some("key".into()),
            request_timeout_ms: 1_234,
        };
        let options = scylla_options(&scylla);
        assert_eq!(options.contact_points, scylla.contact_points);
        assert_eq!((options.keyspace.as_str(), options.datacenter.as_deref()), ("k", Some("dc7")));
        assert_eq!((options.user.as_deref(), options.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!((options.replication_factor, options.request_timeout), (5, Duration::from_millis(1_234)));
        let tls = options.tls.unwrap();
        assert_eq!((Some(tls.ca_file), tls.cert_file), (scylla.tls_ca_file, scylla.tls_cert_file));
        assert_eq!(tls.key_file, scylla.tls_key_file);
        assert!(scylla_options(&Scylla::default()).tls.is_none());
    }
}
