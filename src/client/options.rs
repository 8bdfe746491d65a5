//! How to connect. Called by everyone who makes a client.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::Authorities;
use crate::protocol::Encoding;

/// Where the token of each connection comes from. Any text is one that stays the same.
#[derive(Clone)]
#[non_exhaustive]
pub enum TokenSource {
    /// Always the same.
    Fixed(String),
    /// Asked before every connection, so that the token is never an expired one, and a minute before one ends.
    Fresh(Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>),
}

impl TokenSource {
    /// A source that makes tokens on the spot. An error is one of this try: the client comes back and asks again.
    pub fn minted(mint: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self::Fresh(Arc::new(move || {
            let token = mint();
            Box::pin(async move { token })
        }))
    }

    /// A file that somebody else keeps fresh: read before every connection, and a minute before a token ends.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::minted(move || {
            let read = std::fs::read_to_string(&path);
            read.map(|token| token.trim().to_owned()).map_err(|error| format!("{}: {error}", path.display()))
        })
    }

    pub(super) async fn get(&self) -> Result<String, String> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Fresh(make) => make().await,
        }
    }

    /// Whether another token may follow one that has expired.
    pub(super) fn renews(&self) -> bool {
        matches!(self, Self::Fresh(_))
    }
}

impl<T: Into<String>> From<T> for TokenSource {
    fn from(token: T) -> Self {
        Self::Fixed(token.into())
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// How soon a client does what it repeats. The default is what the protocol's rules say; whoever has both ends on one machine may
/// be in more of a hurry. Fill it up with `..Pace::default()`: a later version may have more fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first wait before a reconnect, doubled each time …
    pub reconnect: Duration,
    /// … up to this one.
    pub reconnect_most: Duration,
    /// Acknowledgements are gathered for this long.
    pub gather: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            reconnect: Duration::from_millis(500),
            reconnect_most: Duration::from_secs(30),
            gather: Duration::from_millis(100),
        }
    }
}

/// How to connect. [`ClientOptions::new`] gives the defaults, and each option has a method that sets it; the fields may also be
/// set one by one. A later version may have more of them.
///
/// ```no_run
/// # async fn connect() -> Result<(), natter::client::ConnectError> {
/// use natter::client::{Authorities, Client, ClientOptions, TokenSource};
///
/// let options = ClientOptions::new("wss://n1.example.org/v1/ws", TokenSource::of_file("/run/token"), "server-1")
///     .or_url("wss://n2.example.org/v1/ws")
///     .authorities(Authorities::of_file("our-ca.pem"))
///     .auto_ack(false);
/// let client = Client::connect(options).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// `ws://host:port/v1/ws` or `wss://host/v1/ws` (with the feature `tls`), one or more nodes; after a failure the
    /// next one is tried.
    pub urls: Vec<String>,
    /// Whose certificates are accepted on `wss://`. Default: the system's authorities.
    pub authorities: Authorities,
    /// Which user to connect as.
    pub token: TokenSource,
    /// The device. It does not get again what it has acknowledged.
    pub device: String,
    /// The encoding of frames. Default: JSON.
    pub encoding: Encoding,
    /// The client's name and version, for the node's logs.
    pub client: String,
    /// Reconnect after a connection was lost. Default: yes.
    pub reconnect: bool,
    /// Acknowledge a message as soon as [`Client::next`](super::Client::next) has returned it. Default: yes.
    pub auto_ack: bool,
    /// How long to try for the first connection. Default: 10 s. Later ones are tried until they succeed.
    pub connect_timeout: Duration,
    /// The most requests without an answer; the next caller waits. Default: 64, as many as a node works on at once.
    pub in_flight: usize,
    /// The first value of `hello.attempt`. Of two clients of one device the mesh keeps the later one; the number only
    /// tells the other one whether to come back (R11). The default is the time in milliseconds, so that of two programs
    /// the one that was started first stays away.
    pub attempt: u64,
    /// How soon it does what it repeats.
    pub pace: Pace,
}

impl ClientOptions {
    /// Default options for one node.
    pub fn new(url: impl Into<String>, token: impl Into<TokenSource>, device: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            authorities: Authorities::system(),
            token: token.into(),
            device: device.into(),
            encoding: Encoding::default(),
            client: concat!("natter-rust/", env!("CARGO_PKG_VERSION")).into(),
            reconnect: true,
            auto_ack: true,
            connect_timeout: Duration::from_secs(10),
            in_flight: 64,
            attempt: super::attempts::first(),
            pace: Pace::default(),
        }
    }

    /// Another node, tried when the ones before it fail.
    #[must_use]
    pub fn or_url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// These nodes instead, in the order in which they are tried.
    #[must_use]
    pub fn urls(self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { urls: urls.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets [`ClientOptions::authorities`]: whom to believe on `wss://`.
    #[must_use]
    pub fn authorities(self, authorities: Authorities) -> Self {
        Self { authorities, ..self }
    }

    /// Sets [`ClientOptions::encoding`]: JSON or MessagePack.
    #[must_use]
    pub fn encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// Sets [`ClientOptions::reconnect`]: whether to come back by itself.
    #[must_use]
    pub fn reconnect(self, reconnect: bool) -> Self {
        Self { reconnect, ..self }
    }

    /// Sets [`ClientOptions::auto_ack`]: with `false` the program says itself what it is done with, by
    /// [`Client::ack`](super::Client::ack).
    #[must_use]
    pub fn auto_ack(self, auto_ack: bool) -> Self {
        Self { auto_ack, ..self }
    }

    /// Sets [`ClientOptions::connect_timeout`]: how long to try for the first connection.
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Sets [`ClientOptions::in_flight`]: the most requests without an answer.
    #[must_use]
    pub fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    /// Sets [`ClientOptions::pace`]: how soon it does what it repeats.
    #[must_use]
    pub fn pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Sets [`ClientOptions::client`]: the program's name and version, for the logs of the node.
    #[must_use]
    pub fn client(self, client: impl Into<String>) -> Self {
        Self { client: client.into(), ..self }
    }
}
