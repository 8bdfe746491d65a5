//! How a node connects to NATS: addresses, credentials, and the library's settings with the reason for each.
//! Called by [`super::NatsBus::connect`] and, for the parts that a probe shares, by [`super::probe`].

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, ServerAddr};

use super::link::Signals;
use crate::{
    bus::BusError,
    config::{Nats, ServerUrl},
    model::UserId,
};

/// How many commands may be queued for the connection. Large, because a publish never waits: what does not fit is
/// dropped. The library allocates them as they come.
const COMMANDS_WAITING: usize = 65_536;

/// How many received messages may be queued for the task of one subscription. That task never blocks, so this only has
/// to cover the burst of one read: the library hands out everything the socket has before another task runs.
const MESSAGES_WAITING: usize = 4_096;

/// The longest wait between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// How often the server is asked whether it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Where and as whom a node connects. Made from `[nats]` of the configuration, which holds every default.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Servers of one cluster, `nats://host:port` or `tls://host:port`. Tried in random order.
    pub urls: Vec<ServerUrl>,
    /// The node's name. A token of its own subjects, so it must be made of the characters of user names.
    pub node: String,
    /// How the node signs in. With [`NatsAuth::None`], by the user and password in the first URL that has them.
    pub auth: NatsAuth,
    /// TLS with a private authority or with the node's own certificate; `tls://` alone needs neither.
    pub tls: NatsTls,
    /// How long one attempt to connect may take, and how long [`super::NatsBus::connect`] waits for the first.
    pub connect_timeout: Duration,
    /// Prefix of the node's inboxes; its account needs the permission for it.
    pub inbox_prefix: String,
    /// How often the server is asked whether it is alive; a dead one is noticed after three of these. Five seconds, and
    /// no key of the configuration: only tests are in more of a hurry.
    pub ping_interval: Duration,
}

/// PEM files for TLS. Any of them requires TLS, whatever the URLs say.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// The authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The node's own certificate chain, where the servers ask for one; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// How a node proves who it is.
#[derive(Clone, Default)]
pub enum NatsAuth {
    /// Not at all, or by the user and password of the URL.
    #[default]
    None,
    /// A user and its password.
    Password {
        /// The user, `node` in the configurations under `nats/`.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A file with an NKey seed.
    NKey(PathBuf),
    /// A credentials file (a JWT and its seed).
    Creds(PathBuf),
}

impl NatsAuth {
    fn from_config(nats: &Nats) -> Self {
        match (&nats.user, &nats.password, &nats.token, &nats.nkey_file, &nats.creds_file) {
            (Some(user), Some(password), ..) => {
                Self::Password { user: user.clone(), password: password.expose().to_owned() }
            }
            (_, _, Some(token), ..) => Self::Token(token.expose().to_owned()),
            (_, _, _, Some(path), _) => Self::NKey(path.clone()),
            (.., Some(path)) => Self::Creds(path.clone()),
            _ => Self::None,
        }
    }
}

impl fmt::Debug for NatsAuth {
    /// The kind only: options are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::NKey(_) => "NKey",
            Self::Creds(_) => "Creds",
        })
    }
}

impl NatsOptions {
    /// Options for the node `node`, as `[nats]` of the configuration says.
    pub fn from_config(node: &str, nats: &Nats) -> Self {
        Self {
            urls: nats.urls.clone(),
            node: node.to_owned(),
            auth: NatsAuth::from_config(nats),
            tls: NatsTls {
                ca_file: nats.tls_ca_file.clone(),
                cert_file: nats.tls_cert_file.clone(),
                key_file: nats.tls_key_file.clone(),
            },
            connect_timeout: Duration::from_millis(nats.connect_timeout_ms),
            inbox_prefix: nats.inbox_prefix.clone(),
            ping_interval: PING_INTERVAL,
        }
    }

    /// Options for `node` on the servers `urls`, everything else at the configuration's defaults.
    pub fn new(node: &str, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let urls = urls.into_iter().map(ServerUrl::new).collect();
        Self::from_config(node, &Nats { urls, ..Nats::default() })
    }

    /// The same, with a user and a password.
    #[must_use]
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.auth = NatsAuth::Password { user: user.to_owned(), password: password.to_owned() };
        self
    }
}

/// Starts the library's client. Returns at once, even while no server answers: the client keeps trying.
pub(super) async fn connect(options: &NatsOptions, signals: Arc<Signals>) -> Result<Client, BusError> {
    UserId::new(&options.node).map_err(|e| refused(&format!("the node's name {:?} {e}", options.node)))?;
    let addrs = addresses(&options.urls)?;
    let library = identified(options, &addrs)
        .await?
        .no_echo()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(options.ping_interval)
        .client_capacity(COMMANDS_WAITING)
        .subscription_capacity(MESSAGES_WAITING)
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            signals.note(&event);
            std::future::ready(())
        });
    library.connect(addrs).await.map_err(|e| refused(&e.to_string()))
}

/// Name, credentials and TLS: the same for a node and for a probe.
pub(super) async fn identified(options: &NatsOptions, addrs: &[ServerAddr]) -> Result<ConnectOptions, BusError> {
    let library = ConnectOptions::new()
        .name(format!("natter node {}", options.node))
        .connection_timeout(options.connect_timeout)
        .custom_inbox_prefix(&options.inbox_prefix);
    choose_cryptography();
    let library = encrypt(library, &options.tls)?;
    authenticate(library, &options.auth, addrs).await
}

/// Where a program's other dependencies bring a second implementation, the library panics on the first TLS
/// connection unless one was chosen for the process. An error only says that somebody chose already.
fn choose_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The library reads the files at each connect, and would keep trying forever with one that is missing.
fn encrypt(mut library: ConnectOptions, tls: &NatsTls) -> Result<ConnectOptions, BusError> {
    for path in [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten() {
        let readable = std::fs::read(path);
        readable.map_err(|e| refused(&format!("cannot read the TLS file {}: {e}", path.display())))?;
        library = library.require_tls(true);
    }
    if let Some(ca_file) = &tls.ca_file {
        library = library.add_root_certificates(ca_file.clone());
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Ok(library.add_client_certificate(cert.clone(), key.clone())),
        (None, None) => Ok(library),
        _ => {
            Err(refused("a TLS certificate and its key need each other: set nats.tls_cert_file and nats.tls_key_file"))
        }
    }
}

pub(super) fn refused(reason: &str) -> BusError {
    BusError::Other(reason.into())
}

pub(super) fn addresses(urls: &[ServerUrl]) -> Result<Vec<ServerAddr>, BusError> {
    if urls.is_empty() {
        return Err(refused("no server given: set at least one URL, such as nats://127.0.0.1:4222"));
    }
    urls.iter().map(|url| url.expose().parse().map_err(|e: std::io::Error| refused(&e.to_string()))).collect()
}

async fn authenticate(
    library: ConnectOptions,
    auth: &NatsAuth,
    addrs: &[ServerAddr],
) -> Result<ConnectOptions, BusError> {
    Ok(match auth {
        NatsAuth::None => from_url(library, addrs)?,
        NatsAuth::Password { user, password } => library.user_and_password(user.clone(), password.clone()),
        NatsAuth::Token(token) => library.token(token.clone()),
        NatsAuth::NKey(path) => {
            let seed = std::fs::read_to_string(path);
            let seed = seed.map_err(|e| refused(&format!("cannot read the NKey file {}: {e}", path.display())))?;
            library.nkey(seed.trim().to_owned())
        }
        NatsAuth::Creds(path) => library
            .credentials_file(path)
            .await
            .map_err(|e| refused(&format!("cannot read the credentials file {}: {e}", path.display())))?,
    })
}

/// The library takes no credentials from a URL, so it is done here: `user:password@` or `token@`, percent-encoded.
fn from_url(library: ConnectOptions, addrs: &[ServerAddr]) -> Result<ConnectOptions, BusError> {
    let Some(addr) = addrs.iter().find(|addr| addr.has_user_pass()) else { return Ok(library) };
    let user = decoded(addr.username().unwrap_or_default())?;
    Ok(match addr.password() {
        Some(password) => library.user_and_password(user, decoded(password)?),
        None => library.token(user),
    })
}

/// `%40` is `@`; the address has encoded what was written as it is.
fn decoded(text: &str) -> Result<String, BusError> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| {
        refused("the user or password in nats.urls is not UTF-8 text, set nats.user and nats.password instead")
    })?;
    Ok(text.into_owned())
}

/// Full jitter: all nodes lose a dead server at the same moment, and the library's own delays would bring them back at
/// the same moment too.
fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let most = MAX_DELAY.min(Duration::from_millis(50) * (1 << doublings));
    most.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    async fn try_connect(options: &NatsOptions) -> Result<Client, BusError> {
        connect(options, Arc::new(Signals::new(Metrics::new("n1")))).await
    }

    #[test]
    fn delays_grow_and_differ() {
        assert!((0..100).all(|_| delay(1) < Duration::from_millis(50)));
        assert!((0..100).all(|_| delay(usize::MAX) < MAX_DELAY));
        assert!((0..100).any(|_| delay(12) > Duration::from_secs(1)));
        assert_ne!(delay(20), delay(20));
    }

    #[test]
    fn options_do_not_show_secrets() {
        let shown = format!("{:?}", NatsOptions::new("n1", ["nats://u:hunter2@x"]).password("node", "hunter2"));
        assert!(shown.contains("Password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_way_to_sign_in_is_taken_from_the_configuration() {
        let secret = || Some(crate::config::Secret::new("s"));
        let auth = |nats: Nats| NatsOptions::from_config("n1", &nats).auth;
        let with_user = auth(Nats { user: Some("u".into()), password: secret(), ..Nats::default() });
        assert!(matches!(with_user, NatsAuth::Password { user, password } if user == "u" && password == "s"));
        assert!(matches!(auth(Nats { token: secret(), ..Nats::default() }), NatsAuth::Token(token) if token == "s"));
        let file = || Some(PathBuf::from("f"));
        let with_nkey = auth(Nats { nkey_file: file(), ..Nats::default() });
        assert!(matches!(with_nkey, NatsAuth::NKey(path) if Some(&path) == file().as_ref()));
        let with_creds = auth(Nats { creds_file: file(), ..Nats::default() });
        assert!(matches!(with_creds, NatsAuth::Creds(path) if Some(&path) == file().as_ref()));
        assert!(matches!(auth(Nats::default()), NatsAuth::None));
    }

    #[tokio::test]
    async fn tls_files_that_cannot_be_used_are_refused_at_once() {
        let there = Some(PathBuf::from(file!()));
        for tls in [
            NatsTls { ca_file: Some("/nonexistent/ca.pem".into()), ..NatsTls::default() },
            NatsTls { cert_file: there.clone(), ..NatsTls::default() },
            NatsTls { key_file: there.clone(), ..NatsTls::default() },
        ] {
            let options = NatsOptions { tls, ..NatsOptions::new("n1", ["nats://127.0.0.1:1"]) };
            assert!(matches!(try_connect(&options).await, Err(BusError::Other(_))), "{options:?}");
        }
    }

    #[tokio::test]
    async fn an_nkey_file_that_cannot_be_read_is_named() {
        let auth = NatsAuth::NKey("/nonexistent/node.nk".into());
        let options = NatsOptions { auth, ..NatsOptions::new("n1", ["nats://127.0.0.1:1"]) };
        let error = try_connect(&options).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("cannot read the NKey file /nonexistent/node.nk"), "{error}");
    }

    #[tokio::test]
    async fn bad_options_are_refused_at_once() {
        for options in [
            NatsOptions::new("n1", Vec::<String>::new()),
            NatsOptions::new("n.1", ["nats://127.0.0.1:1"]),
            NatsOptions::new("n1", ["http://127.0.0.1:1"]),
            NatsOptions::new("n1", ["nats://a:b%ff@127.0.0.1:1"]),
        ] {
            assert!(matches!(try_connect(&options).await, Err(BusError::Other(_))), "{options:?}");
        }
    }
}
