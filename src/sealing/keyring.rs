//! The keys that this node uses just now. Each is read again after a while: so long after an erasure may a node that did not
//! carry it out still read what its memory opens.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::aead::LessSafeKey;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    form::{self, KEY},
    master::Masters,
};
use crate::{
    model::UserId,
    store::{Keys, StoreError, StoreResult, keys::Month},
};

/// Most keys in memory, of about 700 bytes each: those of whoever wrote last, or is read.
const MOST: usize = 8_192;

type Known = HashMap<(UserId, Month), (Instant, Option<Arc<LessSafeKey>>)>;

/// Reads, makes, remembers and forgets keys.
pub(super) struct Keyring {
    store: Arc<dyn Keys>,
    masters: Masters,
    /// How long a key is taken for what the store has.
    known_for: Duration,
    /// What was asked for lately, and what was before that: when the first is half full, it becomes the second.
    known: Mutex<(Known, Known)>,
}

impl Keyring {
    pub(super) fn new(store: Arc<dyn Keys>, masters: Masters, known_for: Duration) -> Self {
        Self { store, masters, known_for, known: Mutex::default() }
    }

    /// The key that opens what a user said in a month, as it was known after `since`, if that is given; none where it was
    /// destroyed.
    pub(super) async fn find(
        &self,
        user: &UserId,
        month: Month,
        since: Option<Instant>,
    ) -> StoreResult<Option<Arc<LessSafeKey>>> {
        if let Some(known) = self.remembered(user, month, since) {
            return Ok(known);
        }
        let begun = Instant::now();
        let kept = self.store.key(user, month).await?;
        let key = kept.map(|kept| self.masters.unwrap(&kept, user, month)).transpose()?;
        Ok(self.remember(user, month, key, begun))
    }

    /// The key that seals what a user says in a month, made and kept where there is none.
    pub(super) async fn make(&self, user: &UserId, month: Month) -> StoreResult<Arc<LessSafeKey>> {
        if let Some(key) = self.find(user, month, None).await? {
            return Ok(key);
        }
        let mut key = [0; KEY];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| StoreError::unavailable("this machine gives no random numbers"))?;
        let begun = Instant::now();
        let kept = self.store.keep_key(user, month, self.masters.wrap(&key, user, month)?).await?;
        let key = self.masters.unwrap(&kept, user, month)?;
        let known = self.remember(user, month, Some(key), begun);
        known.ok_or_else(|| StoreError::unavailable("a key was lost at once"))
    }

    /// Destroys a user's keys: in the store first, so that none is read again.
    pub(super) async fn destroy(&self, user: &UserId) -> StoreResult<u64> {
        let destroyed = self.store.destroy_keys(user).await?;
        let mut known = self.known.lock();
        let (young, old) = &mut *known;
        young.retain(|(owner, _), _| owner != user);
        old.retain(|(owner, _), _| owner != user);
        Ok(destroyed)
    }

    fn remembered(&self, user: &UserId, month: Month, since: Option<Instant>) -> Option<Option<Arc<LessSafeKey>>> {
        let counts = |read: Instant| read.elapsed() < self.known_for && since.is_none_or(|since| read >= since);
        let mut known = self.known.lock();
        let (young, old) = &mut *known;
        let place = (user.clone(), month);
        if let Some((read, key)) = young.get(&place) {
            return counts(*read).then(|| key.clone());
        }
        let (read, key) = old.remove(&place)?;
        let fresh = counts(read).then(|| key.clone());
        young.insert(place, (read, key));
        fresh
    }

    /// `read`: before it was asked for.
    fn remember(&self, user: &UserId, month: Month, key: Option<[u8; KEY]>, read: Instant) -> Option<Arc<LessSafeKey>> {
        let key = key.map(|key| Arc::new(form::usable(&key)));
        let mut known = self.known.lock();
        let (young, old) = &mut *known;
        if young.len() >= MOST / 2 {
            *old = std::mem::take(young);
        }
        young.insert((user.clone(), month), (read, key.clone()));
        key
    }
}
