//! Configuration: one struct per concern; defaults < one TOML file < `NATTER_…` variables < flags; all faults are
//! reported at once. Loaded by the commands, handed down in parts.
//!
//! Variables: the key in capitals, `__` between section and key: `NATTER_NATS__URLS`,
//! `NATTER_STORE__SCYLLA__KEYSPACE`. Lists are comma separated, or TOML arrays.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::UserId;

mod changes;
mod fault;
mod live;
mod load;
mod network;
mod schema;
mod secret;
mod secret_files;
mod section;
mod sections;
mod show;
mod source;
mod validate;

pub use fault::{ConfigErrors, Fault};
pub use live::Services;
pub use load::{Loaded, Origins};
pub use network::{BadNetwork, Network};
pub use secret::{MASK, Secret, ServerUrl, mask_url};
pub use section::Doc;
pub use sections::{
    Auth, Embedded, Events, Hook, Http, Limits, Log, LogFormat, Nats, NatsLink, Node, Presence, Queue, Scylla, Sealing,
    SendAs, Service, ServiceRules, Star, Store, StoreKind, Timing, Unanswered, UserEncoding, Webhook, Webhooks,
};
pub use show::{Described, described, example};
pub use source::{Flag, PREFIX, Source, Sources};
pub use validate::{master_keys, webhook_key};

/// The shortest shared secret: as long as HS256's hash. A shorter one could be guessed from a single token.
pub const MIN_SECRET_BYTES: usize = 32;

/// The longest that the store may keep a caller waiting, in milliseconds.
pub const MAX_STORE_WAIT_MS: u64 = 5_000;

/// The largest leeway for clocks: more would keep expired tokens alive.
pub const MAX_LEEWAY_SECS: u64 = 300;

/// Everything that can be set. All fields are public so that `natter dev` and tests can build one; call
/// [`Config::validate`] afterwards.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Where clients connect.
    pub http: Http,
    /// The NATS servers.
    pub nats: Nats,
    /// Where messages are kept.
    pub store: Store,
    /// How what they say is kept.
    pub sealing: Sealing,
    /// Whose tokens are accepted.
    pub auth: Auth,
    /// How much one peer may ask for.
    pub limits: Limits,
    /// How long things may take.
    pub timing: Timing,
    /// Who is online, and who may know it.
    pub presence: Presence,
    /// The durable way in for services.
    pub queue: Queue,
    /// What services may do.
    pub services: ServiceRules,
    /// What services are told.
    pub events: Events,
    /// Where it is posted as well.
    pub webhooks: Webhooks,
    /// Who is asked before a message is stored.
    pub hook: Hook,
    /// What is logged.
    pub log: Log,
}

/// Whether `service` may send as `user`: always under its own name, under others if `services` says so.
pub fn may_send_as(services: &ServiceRules, service: &UserId, user: &UserId) -> bool {
    service == user
        || services.get(service).is_some_and(|rules| rules.may_send_as.allows(user))
        || may_act_for(services, service, user)
}

/// Whether `service` may do what `user` may: only if `services` says so.
pub fn may_act_for(services: &ServiceRules, service: &UserId, user: &UserId) -> bool {
    services.get(service).is_some_and(|rules| rules.may_act_for.allows(user))
}

/// The host's name with every character that names do not allow replaced by `-`; `node` if it has none.
fn host_name() -> UserId {
    let raw = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    name_from_host(&raw)
}

fn name_from_host(raw: &str) -> UserId {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let name: String = raw.trim().chars().map(clean).take(crate::model::MAX_NAME).collect();
    match UserId::new(&name).or_else(|_| UserId::new("node")) {
        Ok(name) => name,
        Err(_) => unreachable!("\"node\" is a name"),
    }
}

#[cfg(test)]
mod tests;
