//! The sections, one per concern. A doc comment here is what `natter config --default` prints, so it speaks to
//! an operator; a unit stands in the key's name.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    secret::{Secret, ServerUrl},
    section::section,
};
use crate::model::UserId;

section!(
    /// This node.
    Node {
        /// The node's name, unique in the mesh: letters, digits, `_` and `-`. Without it, the host's name;
        /// set it where several nodes share a host.
        name: UserId = super::host_name()
    }
);

section!(
    /// Where clients, the service API and scrapers connect.
    Http {
        /// Address and port. Port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// The origins whose pages may open a WebSocket, such as `https://chat.example.org`. Empty: any;
        /// a token is asked for in any case.
        allowed_origins: Vec<String> = Vec::new(),
    }
);

impl Http {
    /// Where clients of a node that listens here open their WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/v1/ws", self.listen)
    }
}

section!(
    /// The NATS servers that carry notices between nodes.
    Nats {
        /// One or more servers of one cluster: `nats://host:port`, or `tls://host:port`.
        urls: Vec<ServerUrl> = vec![ServerUrl::new("nats://127.0.0.1:4222")],
        /// User name; needs `password`.
        user: Option<String> = None,
        /// Password of `user`.
        password: Option<Secret> = None,
        /// A token, where the server asks for one.
        token: Option<Secret> = None,
        /// A file with an NKey seed.
        nkey_file: Option<PathBuf> = None,
        /// A credentials file (a JWT and its seed).
        creds_file: Option<PathBuf> = None,
        /// A PEM file with the authorities to trust, for a private one. Asks for TLS.
        tls_ca_file: Option<PathBuf> = None,
        /// A PEM file with this node's certificate; needs `tls_key_file`.
        tls_cert_file: Option<PathBuf> = None,
        /// A PEM file with the key of `tls_cert_file`.
        tls_key_file: Option<PathBuf> = None,
        /// How long one attempt to connect may take.
        connect_timeout_ms: u64 = 2_000,
        /// What this node's inboxes start with; the node's account needs the permission for it.
        inbox_prefix: String = "_INBOX_node".to_owned(),
    }
);

/// Which engine keeps the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In this process, on this machine's disk.
    Embedded,
    /// ScyllaDB, or another database that speaks CQL.
    Scylla,
}

section!(
    /// Where messages are kept.
    Store {
        /// `embedded` (one process, one machine) or `scylla` (a mesh).
        kind: StoreKind = StoreKind::Embedded,
        /// The engine of `kind = "embedded"`.
        embedded: Embedded = Embedded::default(),
        /// The engine of `kind = "scylla"`.
        scylla: Scylla = Scylla::default(),
    }
);

section!(
    /// The embedded store.
    Embedded {
        /// The folder; made if it is not there. One process at a time.
        data_dir: PathBuf = PathBuf::from("natter-data"),
        /// Memory for cached blocks.
        cache_bytes: u64 = 64 << 20,
    }
);

impl Embedded {
    /// The folder within the data folder that is the store's own.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }
}

section!(
    /// ScyllaDB, or another database that speaks CQL.
    Scylla {
        /// Where to ask for the cluster: `host:port`.
        contact_points: Vec<String> = vec!["127.0.0.1:9042".to_owned()],
        /// The keyspace; `natter migrate` makes it.
        keyspace: String = "natter".to_owned(),
        /// The datacenter that the node talks to. There is one for now.
        datacenter: String = "datacenter1".to_owned(),
        /// Copies of each row, used when the keyspace is made. 3 survives the loss of one machine.
        replication_factor: u32 = 3,
        /// User name; needs `password`.
        user: Option<String> = None,
        /// Password of `user`.
        password: Option<Secret> = None,
        /// A PEM file with the authorities to trust. Asks for TLS.
        tls_ca_file: Option<PathBuf> = None,
        /// A PEM file with this node's certificate; needs `tls_ca_file` and `tls_key_file`.
        tls_cert_file: Option<PathBuf> = None,
        /// A PEM file with the key of `tls_cert_file`.
        tls_key_file: Option<PathBuf> = None,
        /// How long one request may take.
        request_timeout_ms: u64 = 3_000,
    }
);

section!(
    /// Whose tokens are taken. One or several kinds of key at once; several keys allow changing them without
    /// a gap.
    Auth {
        /// A shared secret for HS256 tokens, at least 32 bytes.
        hs256_secret: Option<Secret> = None,
        /// A file that holds such a secret.
        hs256_secret_file: Option<PathBuf> = None,
        /// PEM files, each with one public key: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
        public_key_files: Vec<PathBuf> = Vec::new(),
        /// A file with a JSON Web Key Set.
        jwks_file: Option<PathBuf> = None,
        /// If set, a token must name one of these in `aud`.
        audience: Vec<String> = Vec::new(),
        /// If set, a token must name one of these in `iss`.
        issuer: Vec<String> = Vec::new(),
        /// How far the issuer's clock may be off.
        leeway_secs: u64 = 5,
    }
);

section!(
    /// How much one peer may ask for, and how much memory that may take.
    Limits {
        /// The largest body of a message, in either encoding.
        body_bytes: usize = 64 << 10,
        /// The largest frame from a client; more than a body. 0: twice a body and 4096.
        frame_bytes: usize = 0,
        /// Messages a session may be handed before it acknowledges.
        window: u32 = 256,
        /// Messages and requests per second and session, on average. 0: not limited.
        sends_per_sec: u32 = 200,
        /// How many of them at once. 0: not limited.
        send_burst: u32 = 400,
        /// Sessions of one user on this node.
        sessions_per_user: u32 = 16,
        /// Sessions on this node; above it, clients are told to go elsewhere.
        sessions_per_node: u32 = 100_000,
        /// Sends of one session that wait for the store at once.
        appends_in_flight_per_session: u32 = 64,
        /// Bytes that wait for one socket; above it, the session reads from the store when the socket is ready.
        out_buffer_bytes: usize = 64 << 10,
    }
);

impl Limits {
    /// The largest frame in force: [`Limits::frame_bytes`], or what follows from the body where that is 0.
    pub fn max_frame_bytes(&self) -> usize {
        if self.frame_bytes == 0 { self.body_bytes.saturating_mul(2).saturating_add(4096) } else { self.frame_bytes }
    }
}

section!(
    /// How long things may take, and how often they happen.
    Timing {
        /// From the upgrade to `hello`.
        hello_timeout_ms: u64 = 5_000,
        /// A ping to each socket that is silent this long.
        ping_secs: u64 = 25,
        /// A socket that is silent this long is closed; more than two pings.
        idle_secs: u64 = 60,
        /// A socket that takes no byte for this long is closed.
        stall_secs: u64 = 300,
        /// Acknowledgements gather this long before the cursor is written.
        ack_coalesce_ms: u64 = 1_000,
        /// A message unacknowledged this long counts as not reached, and push services are told.
        offline_after_secs: u64 = 30,
        /// Heads are compared once more this long after a subscription is known to one NATS server: others in
        /// the cluster learn of it a little later.
        recheck_ms: u64 = 1_000,
        /// Each session's heads are compared this often, for what NATS lost without a sign. 0: never (tests).
        reconcile_secs: u64 = 60,
        /// After a reconnect to NATS, the comparisons spread over this long.
        reconcile_spread_secs: u64 = 30,
        /// Rows per second that all comparisons of this node may read.
        reconcile_rows_per_sec: u32 = 50_000,
        /// How long sessions are told to go, one after the other, before the node ends.
        drain_secs: u64 = 10,
    }
);

/// As whom a service may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SendAs {
    /// As the users listed.
    Users(Vec<UserId>),
    /// As anybody.
    Anyone(Star),
}

/// The text `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// Everybody.
    #[serde(rename = "*")]
    Star,
}

impl SendAs {
    /// Whether it covers `user`.
    pub fn allows(&self, user: &UserId) -> bool {
        match self {
            Self::Users(users) => users.contains(user),
            Self::Anyone(Star::Star) => true,
        }
    }
}

impl Default for SendAs {
    fn default() -> Self {
        Self::Users(Vec::new())
    }
}

section!(
    /// A service that speaks over NATS. Its name stands in its subjects, so the NATS server holds it to it.
    Service {
        /// The users it may send as, or "*" for anybody. It may always send under its own name.
        may_send_as: SendAs = SendAs::default()
    }
);

/// The services with more than the right to send under their own name, by name.
pub type Services = BTreeMap<UserId, Service>;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

section!(
    /// What the node says on standard error.
    Log {
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// What is logged, such as `info` or `info,natter::session=debug`.
        filter: String = "info".to_owned(),
    }
);
