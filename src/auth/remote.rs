//! The keys of `auth.jwks_url`: fetched at the start, from time to time, and when a token names a key that is not among
//! them. Whatever goes wrong, the last good set stays in force. Called by [`super::verifier`].
//!
//! A task of its own fetches, so a login that goes away does not take the fetch with it. It begins a fetch at most every
//! [`FETCH_EVERY`]: tokens with made-up key ids cannot turn the node against the identity provider. A login waits only if
//! its key is unknown.

use std::{io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    KeyError,
    fetch::{Fetcher, Reason},
    keys::{self, Key},
};
use crate::{backoff::Backoff, config::Auth};

/// How long one fetch may take.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// From the beginning of one fetch to that of the next, at least.
pub const FETCH_EVERY: Duration = Duration::from_secs(5);

/// The longest that a login waits for a key: until the next fetch may begin, and for that one.
pub const LOGIN_WAIT: Duration = FETCH_EVERY.saturating_add(FETCH_TIMEOUT);

/// After a fetch that failed, the next one comes no later than this.
const RETRY: Duration = Duration::from_secs(30);

/// Where the set is, and where its copy is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    url: String,
    ca_file: Option<PathBuf>,
    copy_file: Option<PathBuf>,
    refresh: Duration,
}

impl Place {
    pub(super) fn from_config(config: &Auth) -> Option<Self> {
        Some(Self {
            url: config.jwks_url.clone()?,
            ca_file: config.jwks_ca_file.clone(),
            copy_file: config.jwks_copy_file.clone(),
            refresh: Duration::from_secs(config.jwks_refresh_secs),
        })
    }
}

/// The keys, and the task that fetches them.
pub(super) struct Remote {
    place: Place,
    keys: Arc<RwLock<Arc<Vec<Key>>>>,
    wanted: Arc<Notify>,
    /// When the last fetch that ended had begun.
    fetched: watch::Receiver<Instant>,
    _task: AbortOnDropHandle<()>,
}

impl Remote {
    /// Fetches the set, or takes its copy, and keeps it fresh from then on.
    ///
    /// # Errors
    /// When there is neither.
    pub(super) async fn start(place: Place) -> Result<Self, KeyError> {
        let unusable = |reason| KeyError::Url { url: place.url.clone(), reason };
        let fetcher = Fetcher::new(&place.url, place.ca_file.as_deref()).map_err(unusable)?;
        let (began, mut text) = (Instant::now(), String::new());
        let first = match fetch(&fetcher).await {
            Ok((fetched, keys)) => {
                text = fetched;
                keep_copy(&place, &text).await;
                keys
            }
            Err(reason) => read_copy(&place, &reason).map_err(unusable)?,
        };
        let keys = Arc::new(RwLock::new(Arc::new(first)));
        let (wanted, (ended, fetched)) = (Arc::new(Notify::new()), watch::channel(began));
        let keeper =
            Keeper { place: place.clone(), fetcher, keys: keys.clone(), wanted: wanted.clone(), ended, began, text };
        let _task = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        Ok(Self { place, keys, wanted, fetched, _task })
    }

    pub(super) fn is_at(&self, place: &Place) -> bool {
        self.place == *place
    }

    /// The keys now.
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        self.keys.read().clone()
    }

    /// Waits for the end of a fetch that begins from now on, at most [`LOGIN_WAIT`].
    pub(super) async fn fetch_again(&self) {
        let (now, mut fetched) = (Instant::now(), self.fetched.clone());
        self.wanted.notify_one();
        // An error is no error here: the keys tell.
        let _ = timeout(LOGIN_WAIT, fetched.wait_for(|began| *began >= now)).await;
    }
}

/// The task.
struct Keeper {
    place: Place,
    fetcher: Fetcher,
    keys: Arc<RwLock<Arc<Vec<Key>>>>,
    wanted: Arc<Notify>,
    ended: watch::Sender<Instant>,
    /// When the last fetch began.
    began: Instant,
    /// What it brought, or nothing: then the keys are those of the copy.
    text: String,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FETCH_EVERY, self.place.refresh.min(RETRY));
        let mut pause = if self.text.is_empty() { backoff.next() } else { self.place.refresh };
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep(pause) => {}
            }
            sleep_until(self.began + FETCH_EVERY).await;
            self.began = Instant::now();
            pause = match fetch(&self.fetcher).await {
                Ok((text, keys)) => {
                    self.take(text, keys).await;
                    backoff.reset();
                    self.place.refresh
                }
                Err(reason) => {
                    tracing::warn!(
                        url = self.place.url,
                        reason,
                        "auth.jwks_url could not be fetched, the last good keys stay in force"
                    );
                    backoff.next()
                }
            };
            self.ended.send_replace(self.began);
        }
    }

    async fn take(&mut self, text: String, keys: Vec<Key>) {
        if text == self.text {
            return;
        }
        let ids = keys.iter().map(|key| key.kid.as_deref().unwrap_or("without id")).collect::<Vec<_>>().join(", ");
        tracing::info!(url = self.place.url, keys = ids, "the keys of auth.jwks_url have changed");
        *self.keys.write() = Arc::new(keys);
        keep_copy(&self.place, &text).await;
        self.text = text;
    }
}

async fn fetch(fetcher: &Fetcher) -> Result<(String, Vec<Key>), Reason> {
    let text = timeout(FETCH_TIMEOUT, fetcher.get()).await;
    let text = text.map_err(|_| format!("no answer within {} s", FETCH_TIMEOUT.as_secs()))??;
    let keys = keys::from_set(&text)?;
    Ok((text, keys))
}

fn read_copy(place: &Place, away: &str) -> Result<Vec<Key>, Reason> {
    let Some(file) = &place.copy_file else { return Err(away.to_owned()) };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{away}, and no copy in {}: {error}", file.display()))?;
    let keys = keys::from_set(&text).map_err(|reason| format!("{away}, and the copy {}: {reason}", file.display()))?;
    tracing::warn!(url = place.url, reason = away, copy = %file.display(), "auth.jwks_url is away, its copy is used");
    Ok(keys)
}

/// Complete or not at all: a node that is killed meanwhile must not leave half a set behind.
async fn keep_copy(place: &Place, text: &str) {
    let Some(file) = place.copy_file.clone() else { return };
    let (path, text) = (file.clone(), text.to_owned());
    let written = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        fresh.write_all(text.as_bytes())?;
        fresh.as_file().sync_all()?;
        fresh.persist(&path)?;
        Ok(())
    });
    if let Ok(Err(error)) = written.await {
        tracing::warn!(file = %file.display(), %error, "auth.jwks_copy_file could not be written");
    }
}

#[cfg(test)]
mod tests;
