//! What `natter dev` says when everything runs: for a person, or as one line of JSON. Called by the command.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::BILLING;
use crate::{
    auth::{DEV_SECRET_FILE, Minter},
    cli::print,
    model::UserId,
    nats_server::NatsServer,
};

/// How long the printed tokens are good.
const TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everything that somebody needs to try the mesh.
#[derive(Serialize)]
pub(super) struct Ready {
    pub(super) nodes: Vec<NodeInfo>,
    pub(super) nats: String,
    pub(super) data: PathBuf,
    pub(super) tokens: Tokens,
    pub(super) service: Service,
    /// The keys that have another value than with `natter serve` and the same configuration; secrets are left out.
    pub(super) changed: BTreeMap<&'static str, Value>,
}

#[derive(Serialize)]
pub(super) struct NodeInfo {
    pub(super) name: String,
    pub(super) http: String,
    pub(super) ws: String,
    /// Of a node that is a process of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
}

impl NodeInfo {
    /// A node of this process that listens there.
    pub(super) fn at(name: &str, address: SocketAddr) -> Self {
        let (http, ws) = (format!("http://{address}"), format!("ws://{address}/v1/ws"));
        Self { name: name.to_owned(), http, ws, pid: None }
    }
}

#[derive(Serialize)]
pub(super) struct Tokens {
    alice: String,
    bob: String,
}

impl Tokens {
    /// Tokens for a month.
    pub(super) fn new(minter: &Minter) -> anyhow::Result<Self> {
        let token = |user: &str| anyhow::Ok(minter.mint(&UserId::new(user)?, TTL)?);
        Ok(Self { alice: token("alice")?, bob: token("bob")? })
    }
}

/// The account of a service, as `nats/services/billing.conf` describes it.
#[derive(Serialize)]
pub(super) struct Service {
    user: &'static str,
    password: String,
    inbox_prefix: &'static str,
    /// For a shell: the service writes to bob.
    command: String,
    /// The same by the durable way, which waits where no node runs.
    queue_command: String,
    /// For the HTTP API.
    token: String,
    /// The same over HTTP.
    http_command: String,
}

impl Service {
    /// The account on this server, and a token for the node at `http`.
    pub(super) fn billing(nats: &NatsServer, minter: &Minter, http: &str) -> anyhow::Result<Self> {
        let (user, inbox_prefix) = (BILLING, "_INBOX_billing");
        let password = nats.passwords().billing.clone();
        let nats = format!(
            "nats --server {} --user {user} --password {} --inbox-prefix {inbox_prefix}",
            nats.client_url(),
            for_shell(&password),
        );
        let command = format!("{nats} req natter.send.{user}.user.bob '{{\"cid\":\"1\",\"body\":\"paid\"}}'");
        let queue_command =
            format!("{nats} req natter.queue.{user}.user.bob '{{\"cid\":\"3\",\"body\":\"paid later\"}}'");
        let token = minter.mint_service(&UserId::new(user)?, TTL)?;
        let http_command = format!(
            "curl {http}/v1/send -H 'Authorization: Bearer {token}' \
             --json '{{\"to\":\"@bob\",\"cid\":\"2\",\"body\":\"paid\"}}'"
        );
        Ok(Self { user, password, inbox_prefix, command, queue_command, token, http_command })
    }
}

/// One word of a shell, whatever is in it.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl Ready {
    /// One line for scripts.
    pub(super) fn print_json(&self) -> anyhow::Result<()> {
        print(&serde_json::to_string(self)?)
    }

    /// For a person.
    pub(super) fn print_text(&self) -> anyhow::Result<()> {
        let mut text = String::from("\nnatter is ready\n\n");
        for node in &self.nodes {
            let pid = node.pid.map_or_else(String::new, |pid| format!("   pid {pid}"));
            text += &format!("  {:<6} {}   {}{pid}\n", node.name, node.http, node.ws);
        }
        text += &format!("  nats   {}\n", self.nats);
        text += &format!("  data   {}   (token secret: {DEV_SECRET_FILE})\n\n", self.data.display());
        let (one, other) = (&self.nodes[0], &self.nodes[self.nodes.len() - 1]);
        text += "Chat in two tabs:\n";
        text += &format!("  {}/#token={}&peer=bob\n", one.http, self.tokens.alice);
        text += &format!("  {}/#token={}&peer=alice\n\n", other.http, self.tokens.bob);
        text += "From another terminal, in any folder:\n";
        text += "  natter send --user alice --to @bob \"hi\"\n  natter tail --user bob\n\n";
        text += &format!("As a service over NATS (docs/services.md):\n  {}\n\n", self.service.command);
        text += &format!("Durably, also while no node runs:\n  {}\n\n", self.service.queue_command);
        text += &format!("And over HTTP ({}/v1/docs):\n  {}\n\n", one.http, self.service.http_command);
        text += "Tokens to copy:\n";
        text += &format!("  ALICE={}\n  BOB={}\n\n", self.tokens.alice, self.tokens.bob);
        text += "Other than with natter serve:\n";
        for (key, value) in &self.changed {
            let why = if key.starts_with("limits.") { "   (no rate limit)" } else { "" };
            text += &format!("  {key} = {value}{why}\n");
        }
        text += "\nCtrl-C drains and stops everything.\n";
        print(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::for_shell;

    #[test]
    fn a_shell_sees_one_word() {
        for word in ["abc", "", "a b", "it's", "$HOME", "a\"b", "x;y", "*", "\\"] {
            let script = format!("printf %s {}", for_shell(word));
            let echoed = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&echoed.stdout), word, "{script}");
        }
    }
}
