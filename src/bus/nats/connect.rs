//! The library's settings, with the reason for each. Called by [`super::NatsBus::connect`] and, for the parts that a probe
//! shares, by [`super::probe`].

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions};

use super::link::Signals;
use crate::bus::{
    BusError,
    options::{NatsAuth, NatsOptions, NatsTls, checked, refused},
};

/// How many commands may be queued for the connection. Large, because a publish never waits: what does not fit is
/// dropped. The library allocates them as they come.
const COMMANDS_WAITING: usize = 65_536;

/// How many received messages may be queued for the task of one subscription. That task never blocks, so this only has
/// to cover the burst of one read: the library hands out everything the socket has before another task runs.
const MESSAGES_WAITING: usize = 4_096;

/// The longest wait between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// Starts the library's client. Returns at once, even while no server answers: the client keeps trying.
pub(super) async fn connect(options: &NatsOptions, signals: Arc<Signals>) -> Result<Client, BusError> {
    let (options, addrs) = checked(options.clone())?;
    let library = identified(&options)
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

/// Name, credentials and TLS of options that were checked: the same for a node and for a probe.
pub(in crate::bus) async fn identified(options: &NatsOptions) -> Result<ConnectOptions, BusError> {
    let library = ConnectOptions::new()
        .name(format!("natter node {}", options.node))
        .connection_timeout(options.connect_timeout)
        .custom_inbox_prefix(&options.inbox_prefix);
    choose_cryptography();
    let library = encrypt(library, &options.tls, options.tls_first);
    authenticate(library, &options.auth).await
}

/// Where a program's other dependencies bring a second implementation, the library panics on the first TLS
/// connection unless one was chosen for the process. An error only says that somebody chose already.
fn choose_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn encrypt(library: ConnectOptions, tls: &NatsTls, is_first: bool) -> ConnectOptions {
    let mut library = library.require_tls(tls.is_set() || is_first);
    if is_first {
        library = library.tls_first();
    }
    if let Some(ca_file) = &tls.ca_file {
        library = library.add_root_certificates(ca_file.clone());
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => library.add_client_certificate(cert.clone(), key.clone()),
        _ => library,
    }
}

async fn authenticate(library: ConnectOptions, auth: &NatsAuth) -> Result<ConnectOptions, BusError> {
    Ok(match auth {
        NatsAuth::None => library,
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

/// Full jitter: all nodes lose a dead server at the same moment, and the library's own delays would bring them back at
/// the same moment too.
pub(in crate::bus) fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let most = MAX_DELAY.min(Duration::from_millis(50) * (1 << doublings));
    most.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_differ() {
        assert!((0..100).all(|_| delay(1) < Duration::from_millis(50)));
        assert!((0..100).all(|_| delay(usize::MAX) < MAX_DELAY));
        assert!((0..100).any(|_| delay(12) > Duration::from_secs(1)));
        assert_ne!(delay(20), delay(20));
    }
}
