//! The sections, one per concern: the only place where a key, its default and its help are written. `natter config
//! --default` prints the doc comments, so they speak to an operator; the unit is part of the key's name. Engine options
//! and session rules are made from these sections.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    network::Network,
    secret::{Secret, ServerUrl},
    section::section,
};
use crate::{model::UserId, protocol::event::EventKind};

section!(
    /// This node.
    Node {
        /// The node's name, unique in the mesh: letters, digits, `_` and `-`. Default: the host's name; set it
        /// when several nodes share a host.
        name: UserId = super::host_name(),
        /// After how many seconds a node that is told to stop is killed: `TimeoutStopSec=` of its unit,
        /// `terminationGracePeriodSeconds` of its pod, `stop_grace_period` of compose. natter cannot ask, so say it here: the
        /// log at the start and `natter doctor` tell when a drain may take longer. 0: not said.
        killed_after_secs: u64 = 0,
    }
);

section!(
    /// Where clients, the service API and scrapers connect.
    Http {
        /// Address and port. Port 0 picks a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// The origins whose pages may open a WebSocket, such as `https://chat.example.org`. Empty: any. A token
        /// is required in any case.
        allowed_origins: Vec<String> = Vec::new(),
        /// The origins whose pages may call the HTTP API of services, such as `https://admin.example.org`, or `*`. Empty:
        /// none, so browsers let no page call it. A service's token is required in any case.
        cors_origins: Vec<String> = Vec::new(),
        /// Who may show the chat page in a frame: origins such as `https://intranet.example.org`, or `self` for pages
        /// of this node. Empty: nobody, so that no other page can lay itself over this one and steal clicks.
        frame_ancestors: Vec<String> = Vec::new(),
        /// Connections that have no session: requests over HTTP, and sockets before their `hello`. Beyond that only
        /// `/healthz`, `/readyz` and `/metrics` are answered. Sessions are counted apart.
        connections: u32 = 4_096,
        /// How many of those one address may hold; for IPv6, one /64 network.
        connections_per_address: u32 = 1_024,
        /// The proxies before this node, as addresses or networks such as `10.0.0.0/8`. Clients behind them are
        /// counted by the address in `X-Forwarded-For`; from anybody else that header is not believed.
        trusted_proxies: Vec<Network> = Vec::new(),
        /// A request must have come whole, a service must have its answer, and some of it must have been read, each within
        /// this time.
        request_timeout_secs: u64 = 10,
        /// A connection that is no WebSocket gets no further request once it is so old.
        connection_secs: u64 = 60,
    }
);

impl Http {
    /// Where clients of a node that listens here open their WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/v1/ws", self.listen)
    }
}

/// Whose code speaks to the NATS servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatsLink {
    /// natter's own.
    Own,
    /// The library async-nats.
    AsyncNats,
}

section!(
    /// The NATS servers that carry notices between nodes.
    Nats {
        /// One or more servers of one cluster: `nats://host:port`, or `tls://host:port`.
        urls: Vec<ServerUrl> = vec![ServerUrl::new("nats://127.0.0.1:4222")],
        /// Several clusters instead of `urls`, each a list of its servers: users and rooms are hashed over them. The same
        /// list in the same order on every node; services and commands connect to the first.
        cells: Vec<Vec<ServerUrl>> = Vec::new(),
        /// User name; needs `password`.
        user: Option<String> = None,
        /// Password of `user`.
        password: Option<Secret> = None,
        /// A file that holds it: its text without the line end.
        password_file: Option<PathBuf> = None,
        /// A token, if the servers ask for one.
        token: Option<Secret> = None,
        /// A file that holds it: its text without the line end.
        token_file: Option<PathBuf> = None,
        /// A file with an NKey seed.
        nkey_file: Option<PathBuf> = None,
        /// A credentials file (a JWT and its seed).
        creds_file: Option<PathBuf> = None,
        /// A PEM file with the certificate authorities to trust instead of the system's. Turns TLS on.
        tls_ca_file: Option<PathBuf> = None,
        /// A PEM file with this node's certificate; needs `tls_key_file`.
        tls_cert_file: Option<PathBuf> = None,
        /// A PEM file with the key of `tls_cert_file`.
        tls_key_file: Option<PathBuf> = None,
        /// TLS before the server says anything: for servers with `handshake_first`. Turns TLS on.
        tls_first: bool = false,
        /// `own`: natter's own connection, which costs a hundred bytes for each user that is connected. `async-nats`: the
        /// library's, which costs 5 KB.
        link: NatsLink = NatsLink::Own,
        /// How long one attempt to connect may take.
        connect_timeout_ms: u64 = 2_000,
        /// The prefix of this node's inboxes; its account needs the permission to use it.
        inbox_prefix: String = "_INBOX_node".to_owned(),
    }
);

impl Nats {
    /// Most clusters.
    pub const CELLS: usize = 64;
}

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
        /// The folder, created if missing. Only one process may use it at a time.
        data_dir: PathBuf = PathBuf::from("natter-data"),
        /// Memory for blocks read from the disk.
        cache_bytes: u64 = 64 << 20,
    }
);

impl Embedded {
    /// The store's own folder within the data folder.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }
}

section!(
    /// ScyllaDB, or another database that speaks CQL.
    Scylla {
        /// Some servers of the cluster, `host:port`; the others are found through them.
        contact_points: Vec<String> = vec!["127.0.0.1:9042".to_owned()],
        /// The keyspace; `natter migrate` creates it.
        keyspace: String = "natter".to_owned(),
        /// The datacenter that the node talks to. Only one is supported for now.
        datacenter: String = "datacenter1".to_owned(),
        /// Copies of each row; used only when the keyspace is created. 3 survives the loss of one machine.
        replication_factor: u32 = 3,
        /// User name; needs `password`.
        user: Option<String> = None,
        /// Password of `user`.
        password: Option<Secret> = None,
        /// A file that holds it: its text without the line end.
        password_file: Option<PathBuf> = None,
        /// A PEM file with the certificate authorities to trust. Turns TLS on.
        tls_ca_file: Option<PathBuf> = None,
        /// A PEM file with this node's certificate; needs `tls_ca_file` and `tls_key_file`.
        tls_cert_file: Option<PathBuf> = None,
        /// A PEM file with the key of `tls_cert_file`.
        tls_key_file: Option<PathBuf> = None,
        /// How long one request may take.
        request_timeout_ms: u64 = 3_000,
        /// Requests with messages and heads under way at once; what comes meanwhile goes together with the next one. Fewer
        /// cost the servers less under load, more use a larger cluster.
        writes_at_once: usize = 4,
    }
);

section!(
    /// Bodies at rest.
    Sealing {
        /// What users say is sealed in the store, each user's with keys of its own, which `erase` destroys. Counts for what is
        /// written from then on; what is sealed stays readable when it is off again.
        on: bool = false,
        /// A key with which those keys are sealed, so that a disk or a backup alone tells nobody anything: the base64 of 32
        /// bytes (`openssl rand -base64 32`). Several, one a line: the first one seals, all of them open. All nodes have the same.
        /// Whoever loses it has lost every message.
        master_key: Option<Secret> = None,
        /// A file that holds it.
        master_key_file: Option<PathBuf> = None,
        /// How long a node goes by a key that it has read: so long after an erasure another node may still show what it knew.
        known_ms: u64 = 30_000,
    }
);

/// How a user's id in a token becomes a user id of natter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserEncoding {
    /// As it is; other characters are refused.
    Plain,
    /// Every byte but letters, digits and `-` becomes `_` and two hex digits.
    Escaped,
}

section!(
    /// Whose tokens are taken. One or several kinds of key at once; several keys allow changing them without
    /// a gap. SIGHUP reads all of this again.
    Auth {
        /// A shared secret for HS256 tokens, at least 32 bytes: the text as it is, not decoded from hex or base64.
        hs256_secret: Option<Secret> = None,
        /// A file that holds such a secret: its text without the line end.
        hs256_secret_file: Option<PathBuf> = None,
        /// A second shared secret, whose tokens are accepted while the secret is being changed.
        hs256_previous_secret: Option<Secret> = None,
        /// A file that holds the second secret.
        hs256_previous_secret_file: Option<PathBuf> = None,
        /// PEM files, each with one public key: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
        public_key_files: Vec<PathBuf> = Vec::new(),
        /// A file with a JSON Web Key Set.
        jwks_file: Option<PathBuf> = None,
        /// Where an identity provider serves its JSON Web Key Set: `https://…`, or `http://` on this machine. Fetched
        /// at the start, every `jwks_refresh_secs`, and when a token names a key that is not in it.
        jwks_url: Option<String> = None,
        /// A PEM file with the certificate authorities to trust for `jwks_url` instead of the system's.
        jwks_ca_file: Option<PathBuf> = None,
        /// A file in which the last good set is kept, so that the node also starts while `jwks_url` is away.
        jwks_copy_file: Option<PathBuf> = None,
        /// How often the set is fetched.
        jwks_refresh_secs: u64 = 300,
        /// The claim that holds the user's id.
        user_claim: String = "sub".to_owned(),
        /// `plain`: that id is the user id, letters, digits, `_` and `-`. `escaped`: any id, each other byte and `_`
        /// written as `_` and two hex digits, so `auth0|5f` is the user `auth0_7c5f`; 64 characters at most.
        user_encoding: UserEncoding = UserEncoding::Plain,
        /// If not empty, a token's `aud` must name one of these.
        audience: Vec<String> = Vec::new(),
        /// If not empty, a token's `iss` must be one of these.
        issuer: Vec<String> = Vec::new(),
        /// How far the issuer's clock may differ from this node's.
        leeway_secs: u64 = 5,
    }
);

section!(
    /// How much one peer may ask for, and how much memory that may cost.
    Limits {
        /// The largest body of a message, in either encoding. A larger one is refused with `too_large`.
        body_bytes: usize = 64 << 10,
        /// The largest frame from a client; must exceed `body_bytes`. A larger one ends the connection. 0: twice `body_bytes`
        /// plus 4096.
        frame_bytes: usize = 0,
        /// The most messages handed to a session that it has not acknowledged yet.
        window: u32 = 256,
        /// Messages and requests of one session per second, on average, by what they cost: a message 1 and 1 more for
        /// each 16 KiB, a page of history or of conversations up to 35, an acknowledgement nothing unless the store
        /// must judge it. Beyond that they are refused with `rate_limited`. 0: no limit.
        sends_per_sec: u32 = 200,
        /// How much of that in one burst. 0: no limit.
        send_burst: u32 = 400,
        /// The largest body of a signal, in either encoding. A larger one is refused with `too_large`.
        signal_bytes: usize = 4 << 10,
        /// Sessions of one user on this node; beyond that the newest is closed with 4002 and comes back later.
        sessions_per_user: u32 = 16,
        /// Most devices of one user that are known; beyond it the one that logged in longest ago is forgotten.
        devices_per_user: u32 = 32,
        /// Most members of a room; beyond that nobody joins it.
        members_per_room: u32 = 10_000,
        /// Push services are told of each member of a room who is away, in rooms of at most so many members; of larger ones one
        /// event tells, and of members who are mentioned.
        push_members: u32 = 100,
        /// Most rooms that a user may be in; beyond that the user joins no other.
        rooms_per_user: u32 = 500,
        /// Most users that one user may block.
        blocks_per_user: u32 = 1_000,
        /// Messages of one conversation that a device is handed when it comes back; of more it gets the newest, and is told
        /// that its backlog was cut (`truncated`). The rest is in the history.
        backlog_per_conversation: u32 = 10_000,
        /// Sessions on this node; beyond that, clients are told to try another node.
        sessions_per_node: u32 = 100_000,
        /// Sends of one session that may wait for the store at the same time.
        appends_in_flight_per_session: u32 = 64,
        /// Bytes of all messages on this node that wait for the store; beyond that, sends are refused with `unavailable`
        /// and tried again.
        waiting_bytes: usize = 256 << 20,
        /// Rows that all work for the store together may read or write at a time. What comes beyond that waits in four
        /// lines: messages, what sessions are behind with, logins, and lists with comparisons in the background; each
        /// has a share.
        rows_in_flight: u32 = 8_192,
        /// Logins that may be under way at a time; the others wait for their `welcome`.
        logins_at_once: u32 = 64,
        /// Logins that may wait; beyond that, clients are told to come back later.
        logins_waiting: u32 = 2_048,
        /// After an outage of the store, no more than one and a half times as much work is started per second as was
        /// usual before it, but at least this much.
        recovery_per_sec: u32 = 500,
        /// Bytes queued for one socket; beyond that, the session reads from the store once the socket is ready.
        out_buffer_bytes: usize = 64 << 10,
    }
);

impl Limits {
    /// The largest frame in bytes: [`Limits::frame_bytes`], or what `body_bytes` implies if that is 0.
    pub fn max_frame_bytes(&self) -> usize {
        if self.frame_bytes == 0 { self.body_bytes.saturating_mul(2).saturating_add(4096) } else { self.frame_bytes }
    }
}

section!(
    /// How long things may take, and how often they happen.
    Timing {
        /// A socket that sends no `hello` for this long is closed.
        hello_timeout_ms: u64 = 5_000,
        /// A socket that is silent for this long gets a ping.
        ping_secs: u64 = 25,
        /// A socket that is silent for this long is closed; must exceed two pings.
        idle_secs: u64 = 60,
        /// A socket that accepts no byte for this long is closed.
        stall_secs: u64 = 300,
        /// Acknowledgements are gathered for this long before the cursor is written.
        ack_coalesce_ms: u64 = 1_000,
        /// A message that stays unacknowledged for this long counts as undelivered, and push services are told.
        offline_after_secs: u64 = 30,
        /// Push services are told of messages in a room, and of those for a user who is away, no more often than this, together.
        push_coalesce_ms: u64 = 1_000,
        /// A message that was announced and is missing in the store for this long, while the store answers, is stepped
        /// over: it was lost, and clients are told that their backlog was cut.
        hole_after_secs: u64 = 60,
        /// Heads are compared once more this long after one NATS server knows a subscription: the others in the
        /// cluster learn of it a little later.
        recheck_ms: u64 = 1_000,
        /// How often each session's heads are compared, to find what NATS lost without a sign. 0: never (tests).
        reconcile_secs: u64 = 60,
        /// Heads are compared only when one row says that any may have changed, but all the same after about this long, at a
        /// moment of each session's own. 0: they are compared each time.
        full_reconcile_secs: u64 = 3_600,
        /// After a reconnect to NATS, the comparisons are spread over this long.
        reconcile_spread_secs: u64 = 30,
        /// What this node knows of a user's blocks is read again after so long. What it is not told of in the meantime, because
        /// NATS lost it or the sender is a service, it goes by no longer than this.
        blocks_known_ms: u64 = 60_000,
        /// A login that has waited for the store for this long is told to come back later.
        login_wait_ms: u64 = 8_000,
        /// Rows per second that logins, lists, pages of history and comparisons of this node together may read.
        reconcile_rows_per_sec: u32 = 50_000,
        /// A node that is told to stop is not ready from then on, but goes on serving and accepting for this long before
        /// it drains: for balancers that learn late that it is not ready. 0: it drains at once.
        drain_min_secs: u64 = 0,
        /// A draining node says goodbye to its sessions one after the other, spread over this long, and then ends.
        drain_secs: u64 = 10,
    }
);

section!(
    /// Who is online: whom sessions watch, and how often it is looked at.
    Presence {
        /// Everybody may know it of everybody. Otherwise only those may who have a direct conversation with messages in it,
        /// or a room, with the user; and never one who is blocked.
        everybody: bool = false,
        /// A user's first session on this node, or the end of the last one, is told only after so long without another
        /// change.
        quiet_ms: u64 = 5_000,
        /// How often each watched user is looked for on all nodes, to find what was not told: a node that was killed.
        probe_ms: u64 = 30_000,
        /// Such looks per second, at most; beyond that they are less frequent.
        probes_per_sec: u32 = 2_000,
        /// How often it is noted of each user who is online when that was.
        last_seen_secs: u64 = 300,
        /// The most users that one session may watch.
        watches_per_session: u32 = 256,
        /// The most users that the sessions of this node may watch together.
        watches_per_node: u32 = 50_000,
    }
);

section!(
    /// The durable way in for services: a JetStream stream of the NATS servers (`natter.queue.>`), which keeps what services
    /// publish also while no node runs.
    Queue {
        /// This node takes what services publish there. The NATS servers need JetStream.
        enabled: bool = false,
        /// Copies of the stream in a cluster of NATS servers, used when it is made and by `natter migrate`. 3 survives the
        /// loss of one server.
        replicas: u32 = 1,
        /// What may wait, in bytes. Beyond that, services are refused when they publish.
        max_bytes: u64 = 1 << 30,
        /// What may be kept of messages that were given up, in bytes; beyond that the oldest go.
        dead_max_bytes: u64 = 64 << 20,
        /// How long those are kept.
        dead_days: u32 = 30,
        /// How often a message is tried that is refused for a reason that may pass, while the store is well. A store that is
        /// away, and a rate limit, are waited for without counting.
        tries: u32 = 20,
        /// The first wait before it is tried again. Each next one is twice as long, and by chance shorter.
        retry_ms: u64 = 200,
        /// The longest wait.
        retry_max_ms: u64 = 30_000,
        /// Messages of each of the 17 parts of the stream that a node works on or holds at a time.
        in_hand: u32 = 128,
    }
);

/// As whom a service may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SendAs {
    /// As the listed users.
    Users(Vec<UserId>),
    /// As anyone.
    Anyone(Star),
}

/// The text `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// Everyone.
    #[serde(rename = "*")]
    Star,
}

impl SendAs {
    /// Whether this includes `user`.
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
    /// A service. Over NATS its name is part of its subjects, so the NATS servers enforce it; over HTTP its token names it.
    Service {
        /// The users it may send as, or "*" for anyone. It may always send under its own name.
        may_send_as: SendAs = SendAs::default(),
        /// The users for whom it may do all that they may do themselves, such as reading their conversations, or "*" for
        /// anyone. Sending as them is part of it.
        may_act_for: SendAs = SendAs::default(),
        /// Requests a second, over NATS and HTTP together, that each node takes from it, and twice as many at once; one to
        /// many users counts as so many. 0: no limit.
        requests_per_sec: u32 = 0,
        /// It may have tokens made for the users of `may_act_for`, to hand to whom it has signed in (`mint`). Whoever has such a
        /// token connects as the user.
        mints_tokens: bool = false,
        /// It may have users of `may_act_for` erased: nobody can read any more what they have said (`erase`).
        erases_users: bool = false,
        /// It may ask over HTTP as well, with a token of its own (`natter token --service <name>`).
        http: bool = false,
        /// Every message that is stored is told on `natter.feed.<name>`, with its body: for search, moderation, analytics.
        feed: bool = false,
    }
);

section!(
    /// What services are told as it happens, on `natter.event.<kind>`. Every service may listen there.
    Events {
        /// Which kinds are told: `offline`, `room_message`, `presence`, `session`, `room`, `delivered`. `message` is told to a
        /// service that has `feed`, and by webhooks.
        kinds: Vec<EventKind> = vec![EventKind::Offline, EventKind::RoomMessage],
        /// `offline` says how much of the conversation is not read: two to four rows are read for it.
        unread: bool = true,
    }
);

section!(
    /// A target to which events are posted over HTTP, signed as Standard Webhooks has it.
    Webhook {
        /// Where to: `https://…`, or `http://` on this machine.
        url: String = String::new(),
        /// Which kinds: any of those of `events.kinds`, whatever that says, and `message`.
        kinds: Vec<EventKind> = Vec::new(),
        /// What the posts are signed with: `whsec_` and the base64 of 24 to 64 bytes.
        secret: Option<Secret> = None,
        /// A file that holds it.
        secret_file: Option<PathBuf> = None,
        /// A PEM file with the certificate authorities to trust instead of the system's.
        ca_file: Option<PathBuf> = None,
        /// Also where `url` is `http://` on another machine: nothing is encrypted then.
        plaintext: bool = false,
        /// Posts under way at once. More than 1: they arrive in any order.
        at_once: u32 = 1,
        /// Events that may wait; beyond that the oldest are dropped.
        queue: u32 = 10_000,
        /// How long one post may take.
        timeout_ms: u64 = 5_000,
        /// The pause after a post that failed; it doubles each time, up to a minute.
        retry_ms: u64 = 500,
    }
);

/// The targets of webhooks, by name.
pub type Webhooks = BTreeMap<UserId, Webhook>;

/// What becomes of a message when the service that checks messages gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unanswered {
    /// It is sent as it is.
    Allow,
    /// It is refused with `unavailable`, and may be sent again.
    Refuse,
}

section!(
    /// A service that is asked about each message and each edit before it is stored.
    Hook {
        /// Its name. Not set: nobody is asked.
        service: Option<UserId> = None,
        /// How long it has for its answer.
        timeout_ms: u64 = 500,
        /// Without an answer in time: `allow` or `refuse`.
        unanswered: Unanswered = Unanswered::Refuse,
        /// Questions under way at once; others wait, within the same time.
        at_once: u32 = 256,
    }
);

/// The services that may do more than send under their own name, by name.
pub type ServiceRules = BTreeMap<UserId, Service>;

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
    /// What the node logs, on standard error.
    Log {
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// Which events are logged, such as `info` or `info,natter::session=debug`.
        filter: String = "info".to_owned(),
    }
);
