//! Where a command connects and as whom. Called by send and tail.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Global,
    report::Hint,
    running::{self, RunningDev},
    signing::{Signing, of_dev},
};
use crate::{
    auth::Minter,
    client::{Authorities, Client, ClientOptions, ConnectError, TokenSource},
    config::Http,
    model::UserId,
};

/// A minted token is used at once, and a fresh one is made for every reconnect.
const TTL: Duration = Duration::from_secs(3600);
/// A person is waiting for this.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Whose certificates a command accepts. Part of every command that connects to a node's WebSocket.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Trust {
    /// On wss://, accept what the authorities in this PEM file signed [default: the system's authorities]
    #[arg(long, value_name = "FILE", env = "NATTER_CA", global = true)]
    ca: Option<PathBuf>,
}

impl Trust {
    /// As the client takes it.
    pub(super) fn authorities(&self) -> Authorities {
        // An empty variable means none.
        let file = self.ca.clone().filter(|path| !path.as_os_str().is_empty());
        file.map_or_else(Authorities::system, Authorities::of_file)
    }
}

/// Arguments of every command that connects as a user.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Identity {
    /// The node's address; with several, the next one is tried when one is down [default: the running natter dev, else
    /// ws://127.0.0.1:8080/v1/ws]
    #[arg(long, value_name = "URL", env = "NATTER_URL", value_delimiter = ',', global = true)]
    url: Vec<String>,
    #[command(flatten)]
    trust: Trust,
    /// The token that says who you are
    #[arg(
        long,
        value_name = "JWT",
        env = "NATTER_TOKEN",
        hide_env_values = true,
        conflicts_with = "user",
        global = true
    )]
    token: Option<String>,
    /// Connect as this user, with a token signed on the spot; needs access to the node's secret
    #[arg(long, value_name = "USER", global = true)]
    user: Option<UserId>,
    #[command(flatten)]
    signing: Signing,
}

impl Identity {
    /// Acts as this user, if one is given.
    pub(super) fn act_as(&mut self, user: Option<UserId>) {
        self.user = user.or(self.user.take());
    }

    /// Options for a client of `device`.
    ///
    /// # Errors
    /// When there is neither a token nor a secret to sign one with.
    pub(super) fn options(&self, global: &Global, device: &str) -> anyhow::Result<ClientOptions> {
        let (urls, token) = match (&self.token, &self.user) {
            (_, Some(user)) => self.minting(global, user)?,
            (Some(token), None) => {
                let running = match &self.signing.data {
                    Some(data) => running::with_data(data),
                    None => running::find(&self.urls(), Path::new(""))?,
                };
                (self.urls_or(running), TokenSource::Fixed(token.trim().to_owned()))
            }
            (None, None) => {
                return Err(Hint::on(
                    anyhow::anyhow!("nobody to connect as"),
                    "give --user NAME beside a natter dev, or --token (or NATTER_TOKEN) with a token",
                ));
            }
        };
        let client = concat!("natter/", env!("CARGO_PKG_VERSION")).into();
        let (authorities, others) = (self.trust.authorities(), ClientOptions::new("", "", device));
        Ok(ClientOptions { urls, authorities, token, client, connect_timeout: CONNECT_TIME, ..others })
    }

    /// Where to connect, and the tokens that are good there. A secret that was named is for the node that was named, or
    /// for the usual one; without a name for either, both are those of the running `natter dev`.
    fn minting(&self, global: &Global, user: &UserId) -> anyhow::Result<(Vec<String>, TokenSource)> {
        let config = global.load()?.config;
        let (auth, running) = match self.signing.named(&config)? {
            Some(auth) => (auth, self.signing.data.as_deref().and_then(running::with_data)),
            None => {
                let running = running::find(&self.urls(), &config.store.embedded.data_dir)?;
                (of_dev(&config, running.as_ref())?, running)
            }
        };
        let (minter, user) = (Minter::from_config(&auth)?, user.clone());
        let minted = TokenSource::minted(move || minter.mint(&user, TTL).map_err(|error| error.to_string()));
        Ok((self.urls_or(running), minted))
    }

    /// What was given; an empty variable means nothing.
    fn urls(&self) -> Vec<String> {
        self.url.iter().filter(|url| !url.is_empty()).cloned().collect()
    }

    fn urls_or(&self, running: Option<RunningDev>) -> Vec<String> {
        let given = self.urls();
        if !given.is_empty() {
            return given;
        }
        running.map_or_else(|| vec![Http::default().ws_url()], |dev| dev.urls)
    }

    /// Connects, with a hint for the usual reasons for failure.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self, options: ClientOptions) -> anyhow::Result<Client> {
        Client::connect(options).await.map_err(|error| match &error {
            ConnectError::Unreachable { .. } => {
                Hint::on(error, "start a node with natter dev, or say where it is: --url")
            }
            ConnectError::Tls { .. } => {
                Hint::on(error, "give the authority that signed the node's certificate as a PEM file: --ca FILE")
            }
            ConnectError::Closed { code: 4100 | 4101, .. } | ConnectError::Http { status: 401, .. } => {
                Hint::on(error, "make a new token: natter token NAME, or give --user NAME and --data DIR")
            }
            _ => error.into(),
        })
    }
}
