//! Whether the servers refuse this node: its account, or something that every node must be permitted. Waiting does not
//! help with either, so it is told apart from a server that is away. Kept by both links.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::subject::Subject;

/// What to check, for whoever reads the log or asks whether the node is ready.
const ACCOUNT: &str = "the NATS servers refuse the node's account: check nats.user and nats.password (or nats.token, \
                       nats.nkey_file, nats.creds_file) against accounts.conf of the servers";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    /// No connection comes about.
    Account,
    /// There is a connection, and it may not do what a node does.
    Permission(Arc<str>),
}

/// The refusal that is in force.
#[derive(Debug, Default)]
pub(super) struct Refusal(Mutex<Option<Refused>>);

impl Refusal {
    /// In words, with what to check; `None` while nothing is refused.
    pub(super) fn words(&self) -> Option<Arc<str>> {
        self.0.lock().as_ref().map(|refused| match refused {
            Refused::Account => ACCOUNT.into(),
            Refused::Permission(words) => words.clone(),
        })
    }

    /// A server refused the account.
    pub(super) fn on_account_refused(&self) {
        self.set(Refused::Account);
    }

    /// The server reported an error on the connection, in its words; true when that is a refusal.
    pub(super) fn on_server_error(&self, text: &str) -> bool {
        // `Permissions Violation for Subscription to "natter.send.>" using queue "natter"`. Answers to requests are left
        // out: a service that gives up early makes one of those, and nothing is wrong with the node.
        let subject = text.split('"').nth(1).unwrap_or_default();
        let refused = text.starts_with("Permissions Violation") && Subject::is_ours(subject);
        if refused {
            let words = format!(
                "the NATS servers do not permit the node what it needs ({text}): connect as the user `node` of \
                 nats/accounts.conf, or give this one its permissions; natter doctor lists all that is missing"
            );
            self.set(Refused::Permission(words.into()));
        }
        refused
    }

    /// Connected: the account is taken.
    pub(super) fn on_up(&self) {
        self.0.lock().take_if(|refused| *refused == Refused::Account);
    }

    /// The connection is gone, and with it what it was not permitted: the next one shows.
    pub(super) fn on_down(&self) {
        self.0.lock().take_if(|refused| *refused != Refused::Account);
    }

    /// The first one is told, once: a node without permissions is refused at every step.
    fn set(&self, refused: Refused) {
        let first = self.0.lock().is_none();
        if first {
            *self.0.lock() = Some(refused);
            tracing::error!("{}", self.words().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_account_is_in_force_until_a_connection_comes_about() {
        let refusal = Refusal::default();
        assert_eq!(refusal.words(), None);
        refusal.on_account_refused();
        refusal.on_down();
        assert!(refusal.words().unwrap().contains("nats.password"));
        refusal.on_up();
        assert_eq!(refusal.words(), None);
    }

    #[test]
    fn only_what_a_node_needs_is_a_refusal() {
        let refusal = Refusal::default();
        assert!(!refusal.on_server_error("Permissions Violation for Publish to \"_INBOX_billing.x\""));
        assert!(!refusal.on_server_error("stale connection"));
        let of_ours = Subject::all_sends();
        let text = format!("Permissions Violation for Subscription to \"{of_ours}\" using queue \"natter\"");
        assert!(refusal.on_server_error(&text));
        refusal.on_up();
        assert!(refusal.words().unwrap().contains(of_ours.as_str()));
        refusal.on_down();
        assert_eq!(refusal.words(), None);
    }
}
