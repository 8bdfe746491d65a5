//! Where a command connects and as whom. Called by send and tail.

use std::time::Duration;

use super::{Global, report::Hint, signing::Signing};
use crate::{
    auth::Minter,
    client::{Client, ClientOptions, ConnectError, TokenSource},
    config::Http,
    model::UserId,
};

/// A minted token is used at once, and a fresh one is made for every reconnect.
const TTL: Duration = Duration::from_secs(3600);
/// A person is waiting for this.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Arguments of every command that connects as a user.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Identity {
    /// The node's address; with several, the next one is tried when one is down
    #[arg(long, value_name = "URL", env = "NATTER_URL", default_values_t = [Http::default().ws_url()])]
    #[arg(value_delimiter = ',')]
    url: Vec<String>,
    /// The token that says who you are
    #[arg(long, value_name = "JWT", env = "NATTER_TOKEN", hide_env_values = true, conflicts_with = "user")]
    token: Option<String>,
    /// Connect as this user, with a token signed on the spot; needs access to the node's secret
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
    #[command(flatten)]
    signing: Signing,
}

impl Identity {
    /// Options for a client of `device`.
    ///
    /// # Errors
    /// When there is neither a token nor a secret to sign one with.
    pub(super) fn options(&self, global: &Global, device: &str) -> anyhow::Result<ClientOptions> {
        let token = match (&self.token, &self.user) {
            (_, Some(user)) => {
                let minter = Minter::from_config(&self.signing.auth(&global.load()?.config)?)?;
                let user = user.clone();
                TokenSource::minted(move || minter.mint(&user, TTL).map_err(|error| error.to_string()))
            }
            (Some(token), None) => TokenSource::Fixed(token.trim().to_owned()),
            (None, None) => {
                return Err(Hint::on(
                    anyhow::anyhow!("nobody to connect as"),
                    "give --user NAME beside a natter dev, or --token (or NATTER_TOKEN) with a token",
                ));
            }
        };
        let client = concat!("natter/", env!("CARGO_PKG_VERSION")).into();
        let urls = self.url.clone();
        Ok(ClientOptions { urls, token, client, connect_timeout: CONNECT_TIME, ..ClientOptions::new("", "", device) })
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
            ConnectError::Closed { code: 4100 | 4101, .. } | ConnectError::Http { status: 401, .. } => {
                Hint::on(error, "make a new token: natter token NAME, or give --user NAME and --data DIR")
            }
            _ => error.into(),
        })
    }
}
