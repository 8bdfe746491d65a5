//! What services may do, as it is now: it can be replaced while the node runs. Made by the node, asked by `ops`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::RwLock;

use super::{ServiceRules, may_act_for, may_send_as};
use crate::model::UserId;

/// The rules of all services, shared by all parts of a node; clones see each change.
#[derive(Debug, Clone, Default)]
pub struct Services(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rules: RwLock<ServiceRules>,
    /// Whether any of them has a feed: asked for each message.
    feeds: AtomicBool,
}

impl Services {
    /// These rules, until they are replaced.
    pub fn new(rules: ServiceRules) -> Self {
        let services = Self::default();
        services.replace(rules);
        services
    }

    /// Other rules from now on; requests under way keep what they were granted.
    pub fn replace(&self, rules: ServiceRules) {
        self.0.feeds.store(rules.values().any(|rules| rules.feed), Ordering::Release);
        *self.0.rules.write() = rules;
    }

    /// Whether any service is told of every message now.
    pub fn has_feeds(&self) -> bool {
        self.0.feeds.load(Ordering::Acquire)
    }

    /// The services that are told of every message now.
    pub fn feeds(&self) -> Vec<UserId> {
        let rules = self.0.rules.read();
        rules.iter().filter(|(_, rules)| rules.feed).map(|(name, _)| name.clone()).collect()
    }

    /// Whether `service` may send as `user` now.
    pub fn may_send_as(&self, service: &UserId, user: &UserId) -> bool {
        may_send_as(&self.0.rules.read(), service, user)
    }

    /// Whether `service` may do now what `user` may.
    pub fn may_act_for(&self, service: &UserId, user: &UserId) -> bool {
        may_act_for(&self.0.rules.read(), service, user)
    }

    /// How many requests a second `service` may make of a node now. 0: any.
    pub fn requests_per_sec(&self, service: &UserId) -> u32 {
        self.0.rules.read().get(service).map_or(0, |rules| rules.requests_per_sec)
    }

    /// Whether `service` may have users erased now.
    pub fn erases_users(&self, service: &UserId) -> bool {
        self.0.rules.read().get(service).is_some_and(|rules| rules.erases_users)
    }

    /// Whether `service` may have tokens made now.
    pub fn mints_tokens(&self, service: &UserId) -> bool {
        self.0.rules.read().get(service).is_some_and(|rules| rules.mints_tokens)
    }

    /// Whether there are rules for a service of this name: then it is no person's.
    pub fn knows(&self, name: &UserId) -> bool {
        self.0.rules.read().contains_key(name)
    }

    /// Whether `service` may ask over HTTP now.
    pub fn may_use_http(&self, service: &UserId) -> bool {
        self.0.rules.read().get(service).is_some_and(|rules| rules.http)
    }
}
