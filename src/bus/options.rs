//! How a node connects to NATS: addresses, credentials, TLS. Made by the node from the configuration, read by both links.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::ServerAddr;

use super::BusError;
use crate::{
    config::{Nats, NatsLink, ServerUrl},
    model::UserId,
};

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
    /// How long one attempt to connect may take, and how long [`super::connect`] waits for the first.
    pub connect_timeout: Duration,
    /// Whose code the connection is.
    pub link: NatsLink,
    /// TLS before the server says anything, for servers with `handshake_first`.
    pub tls_first: bool,
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

impl NatsTls {
    /// Whether TLS is asked for.
    pub(super) fn is_set(&self) -> bool {
        self.files().next().is_some()
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten()
    }

    /// Connections read the files each time, and would keep trying forever with one that is missing.
    fn check(&self) -> Result<(), BusError> {
        for path in self.files() {
            let readable = std::fs::read(path);
            readable.map_err(|e| refused(&format!("cannot read the TLS file {}: {e}", path.display())))?;
        }
        if self.cert_file.is_some() == self.key_file.is_some() {
            return Ok(());
        }
        Err(refused("a TLS certificate and its key need each other: set nats.tls_cert_file and nats.tls_key_file"))
    }
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

impl NatsAuth {
    /// The files that it needs.
    fn check(&self) -> Result<(), BusError> {
        let (kind, path) = match self {
            Self::NKey(path) => ("NKey", path),
            Self::Creds(path) => ("credentials", path),
            _ => return Ok(()),
        };
        let readable = std::fs::read_to_string(path);
        readable.map(drop).map_err(|e| refused(&format!("cannot read the {kind} file {}: {e}", path.display())))
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
    /// Options for the node `node`, as `[nats]` of the configuration says; for the first of several cells.
    pub fn from_config(node: &str, nats: &Nats) -> Self {
        Self {
            urls: nats.cells.first().unwrap_or(&nats.urls).clone(),
            node: node.to_owned(),
            auth: NatsAuth::from_config(nats),
            tls: NatsTls {
                ca_file: nats.tls_ca_file.clone(),
                cert_file: nats.tls_cert_file.clone(),
                key_file: nats.tls_key_file.clone(),
            },
            connect_timeout: Duration::from_millis(nats.connect_timeout_ms),
            link: nats.link,
            tls_first: nats.tls_first,
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

/// Checks what waiting does not help. The options come back with the credentials of the URLs, if they had none of their
/// own; and the URLs as addresses.
///
/// # Errors
/// In words: a bad node name, a bad URL, a file that cannot be read.
pub(super) fn checked(mut options: NatsOptions) -> Result<(NatsOptions, Vec<ServerAddr>), BusError> {
    UserId::new(&options.node).map_err(|e| refused(&format!("the node's name {:?} {e}", options.node)))?;
    let addrs = addresses(&options.urls)?;
    options.tls.check()?;
    options.auth.check()?;
    if let NatsAuth::None = options.auth {
        options.auth = from_urls(&addrs)?;
    }
    Ok((options, addrs))
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

/// `user:password@` or `token@` of the first URL that has them, percent-encoded.
fn from_urls(addrs: &[ServerAddr]) -> Result<NatsAuth, BusError> {
    let Some(addr) = addrs.iter().find(|addr| addr.has_user_pass()) else { return Ok(NatsAuth::None) };
    let user = decoded(addr.username().unwrap_or_default())?;
    Ok(match addr.password() {
        Some(password) => NatsAuth::Password { user, password: decoded(password)? },
        None => NatsAuth::Token(user),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn tls_files_that_cannot_be_used_are_refused_at_once() {
        let there = Some(PathBuf::from(file!()));
        for tls in [
            NatsTls { ca_file: Some("/nonexistent/ca.pem".into()), ..NatsTls::default() },
            NatsTls { cert_file: there.clone(), ..NatsTls::default() },
            NatsTls { key_file: there.clone(), ..NatsTls::default() },
        ] {
            let options = NatsOptions { tls, ..NatsOptions::new("n1", ["nats://127.0.0.1:1"]) };
            assert!(matches!(checked(options.clone()), Err(BusError::Other(_))), "{options:?}");
        }
    }

    #[test]
    fn an_nkey_file_that_cannot_be_read_is_named() {
        let auth = NatsAuth::NKey("/nonexistent/node.nk".into());
        let options = NatsOptions { auth, ..NatsOptions::new("n1", ["nats://127.0.0.1:1"]) };
        let error = checked(options.clone()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("cannot read the NKey file /nonexistent/node.nk"), "{error}");
    }

    #[test]
    fn bad_options_are_refused_at_once() {
        for options in [
            NatsOptions::new("n1", Vec::<String>::new()),
            NatsOptions::new("n.1", ["nats://127.0.0.1:1"]),
            NatsOptions::new("n1", ["http://127.0.0.1:1"]),
            NatsOptions::new("n1", ["nats://a:b%ff@127.0.0.1:1"]),
        ] {
            assert!(matches!(checked(options.clone()), Err(BusError::Other(_))), "{options:?}");
        }
    }
}
