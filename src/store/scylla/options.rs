//! How to reach the cluster: the options, and the driver session they make. Called by the store's `connect`
//! and by `migrate`.

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileBuilder},
        session::Session,
        session_builder::SessionBuilder,
    },
    policies::speculative_execution::SimpleSpeculativeExecutionPolicy,
    policies::{
        load_balancing::{DefaultPolicy, LoadBalancingPolicy},
        retry::FallthroughRetryPolicy,
    },
    statement::{Consistency, SerialConsistency},
};

use super::ScyllaError;
use crate::{config, model::room::RoomLimits};

/// How long this process must have known that an incarnation is fenced before it removes what that left behind.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(3_600);

/// Where the cluster is and how to speak to it. Made from `[store.scylla]` of the configuration, which holds every
/// default.
#[derive(Clone)]
pub struct ScyllaOptions {
    /// `host:port` of some servers; the driver finds the others.
    pub contact_points: Vec<String>,
    /// The name of the node that writes: its lives are numbered under it.
    pub node: String,
    /// The keyspace: lower-case letters, digits and `_`, at most 48.
    pub keyspace: String,
    /// The one datacenter whose replicas count; `None` takes the contact points'.
    pub datacenter: Option<String>,
    /// The user to log in as, where the cluster asks for one.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<String>,
    /// TLS to every server.
    pub tls: Option<TlsOptions>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Requests with messages and heads under way at once, before what comes next gathers.
    pub writes_at_once: usize,
    /// Replicas per datacenter. Used only when `migrate` makes the keyspace.
    pub replication_factor: u8,
    /// How large rooms may become.
    pub rooms: RoomLimits,
    /// For tests: how long it must be known that an incarnation is fenced before its stamps are removed.
    #[doc(hidden)]
    pub gone_after: Duration,
    /// For tests: an append ends after this step, as if the node had died there.
    #[doc(hidden)]
    pub stop_after: Option<Step>,
}

/// The steps of an append after which a node may die and leave something behind.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The rows are at a quorum, nothing is validated.
    Written,
    /// What an earlier home left is adopted, and not validated.
    Adopted,
    /// What was written is validated, no head is raised.
    Validated,
    /// One of the two heads is raised.
    FirstHead,
    /// Of those whom a batch changes in a room, the first is written.
    FirstMember,
    /// Of what stands beside the log for a batch, the first is written.
    FirstBeside,
    /// All of it is and all of the members are, and the room is not.
    Applied,
}

/// PEM files for TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// The authorities that sign the servers' certificates.
    pub ca_file: PathBuf,
    /// The node's own certificate chain, where the cluster asks for one.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

impl From<&config::Scylla> for ScyllaOptions {
    fn from(scylla: &config::Scylla) -> Self {
        Self {
            contact_points: scylla.contact_points.clone(),
            node: "natter".to_owned(),
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
            writes_at_once: scylla.writes_at_once,
            // The configuration allows 15 at most.
            replication_factor: u8::try_from(scylla.replication_factor).unwrap_or(u8::MAX),
            rooms: RoomLimits { members: config::Limits::default().members_per_room },
            gone_after: GONE_AFTER,
            stop_after: None,
        }
    }
}

impl Default for ScyllaOptions {
    fn default() -> Self {
        Self::from(&config::Scylla::default())
    }
}

impl fmt::Debug for ScyllaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScyllaOptions")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("datacenter", &self.datacenter)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("request_timeout", &self.request_timeout)
            .field("writes_at_once", &self.writes_at_once)
            .field("replication_factor", &self.replication_factor)
            .finish_non_exhaustive()
    }
}

impl ScyllaOptions {
    /// Names become part of CQL text, so they are checked before anything is sent.
    fn check(&self) -> Result<(), ScyllaError> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let ks = self.keyspace.as_bytes();
        if !ks.first().is_some_and(u8::is_ascii_lowercase) || ks.len() > 48 || !ks.iter().all(|b| word(*b)) {
            return Err(ScyllaError::Option("keyspace must be 1 to 48 of a-z, 0-9 and '_', starting with a letter"));
        }
        let quoted = |dc: &String| dc.is_empty() || dc.contains(['\'', '\\']);
        if self.datacenter.as_ref().is_some_and(quoted) {
            return Err(ScyllaError::Option("datacenter must not be empty nor hold quotes"));
        }
        if self.contact_points.is_empty() {
            return Err(ScyllaError::Option("contact_points must name at least one server"));
        }
        if self.replication_factor == 0 {
            return Err(ScyllaError::Option("replication_factor must be at least 1"));
        }
        Ok(())
    }

    /// Connects. `timeout` bounds each request of the session's default profile.
    pub(super) async fn session(&self, timeout: Duration) -> Result<Session, ScyllaError> {
        // A server that stopped answering is dropped after a few seconds, not after a minute. One that makes tables may stop
        // for longer than that, and whoever waits for the tables waits for it.
        let silence = Duration::from_secs(3).max(timeout / 3);
        self.check()?;
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.contact_points)
            .default_execution_profile_handle(self.plain_profile(timeout).into_handle())
            .connection_timeout(self.request_timeout)
            .keepalive_interval(Duration::from_secs(2))
            .keepalive_timeout(silence)
            .keyspaces_to_fetch([&self.keyspace])
            .tls_context(self.tls.as_ref().map(tls_config).transpose()?);
        if let Some(user) = &self.user {
            builder = builder.user(user, self.password.clone().unwrap_or_default());
        }
        let session = builder.build().await.map_err(|e| ScyllaError::Connect(Box::new(e)))?;
        self.check_datacenter(&session)?;
        Ok(session)
    }

    /// With a misspelt datacenter the driver has no server to ask, and each request fails with an error that does not
    /// say so.
    fn check_datacenter(&self, session: &Session) -> Result<(), ScyllaError> {
        let Some(wanted) = &self.datacenter else { return Ok(()) };
        let state = session.get_cluster_state();
        let found: BTreeSet<&str> = state.get_nodes_info().iter().filter_map(|n| n.datacenter.as_deref()).collect();
        if found.contains(wanted.as_str()) {
            return Ok(());
        }
        let found = found.into_iter().collect::<Vec<_>>().join(", ");
        Err(ScyllaError::Datacenter { wanted: wanted.clone(), found })
    }

    /// For reads and max-register writes, all idempotent: the driver may try the next replica, after an error
    /// or when the first is slow.
    fn plain_profile(&self, timeout: Duration) -> ExecutionProfile {
        let speculative =
            SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: Duration::from_millis(200) };
        self.profile(timeout).speculative_execution_policy(Some(Arc::new(speculative))).build()
    }

    /// For conditional statements: the driver sends them once. What a time-out means is for the caller to find out.
    pub(super) fn lwt_profile(&self) -> ExecutionProfile {
        self.profile(self.request_timeout).retry_policy(Arc::new(FallthroughRetryPolicy::new())).build()
    }

    /// Replicas first, and only those of the datacenter.
    fn balancing(&self) -> Arc<dyn LoadBalancingPolicy> {
        let balancing = DefaultPolicy::builder().token_aware(true).permit_dc_failover(false);
        match &self.datacenter {
            Some(dc) => balancing.prefer_datacenter(dc.clone()).build(),
            None => balancing.build(),
        }
    }

    fn profile(&self, timeout: Duration) -> ExecutionProfileBuilder {
        ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(timeout))
            .load_balancing_policy(self.balancing())
    }
}

fn tls_config(options: &TlsOptions) -> Result<Arc<rustls::ClientConfig>, ScyllaError> {
    let fault = |e: &dyn fmt::Display| ScyllaError::Tls(e.to_string());
    let certs = |file: &PathBuf| -> Result<Vec<CertificateDer<'static>>, ScyllaError> {
        let named = |e: &dyn fmt::Display| ScyllaError::Tls(format!("{}: {e}", file.display()));
        CertificateDer::pem_file_iter(file).map_err(|e| named(&e))?.collect::<Result<_, _>>().map_err(|e| named(&e))
    };
    let mut roots = rustls::RootCertStore::empty();
    for cert in certs(&options.ca_file)? {
        roots.add(cert).map_err(|e| fault(&e))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fault(&e))?
        .with_root_certificates(roots);
    let config = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| fault(&e))?;
            builder.with_client_auth_cert(certs(cert)?, key).map_err(|e| fault(&e))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(ScyllaError::Option("tls needs cert_file and key_file together, or neither")),
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scylla, Secret};

    #[test]
    fn every_key_reaches_the_driver() {
        let scylla = Scylla {
            contact_points: vec!["db:9042".to_owned()],
            keyspace: "k".to_owned(),
            datacenter: "dc7".to_owned(),
            replication_factor: 5,
            user: Some("u".to_owned()),
            password: Some(Secret::new("p")),
            password_file: None,
            tls_ca_file: Some("ca".into()),
            tls_cert_file: Some("cert".into()),
            tls_key_file: Some("key".into()),
            request_timeout_ms: 1_234,
            writes_at_once: 7,
        };
        let options = ScyllaOptions::from(&scylla);
        assert_eq!(options.contact_points, scylla.contact_points);
        assert_eq!((options.keyspace.as_str(), options.datacenter.as_deref()), ("k", Some("dc7")));
        assert_eq!((options.user.as_deref(), options.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!((options.replication_factor, options.request_timeout), (5, Duration::from_millis(1_234)));
        assert_eq!(options.writes_at_once, 7);
        let tls = options.tls.unwrap();
        assert_eq!((Some(tls.ca_file), tls.cert_file), (scylla.tls_ca_file, scylla.tls_cert_file));
        assert_eq!(tls.key_file, scylla.tls_key_file);
        assert!(ScyllaOptions::from(&Scylla::default()).tls.is_none());
    }
}
