//! The master key: what the keys of users are sealed with before they go to the store, so that a disk or a backup without it
//! tells nobody anything. There may be several, so that a new one is put before the old one and nothing else changes.
//!
//! ```text
//! 0   the key itself: there is no master key                                  (33 bytes)
//! 1   nonce (12)   AES-256-GCM-SIV of the key, with its tag, bound to user and month (61 bytes)
//! ```

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use super::form::{self, KEY};
use crate::{
    model::UserId,
    store::{StoreError, StoreResult, keys::Month},
};

const PLAIN: u8 = 0;
const WRAPPED: u8 = 1;

/// The master keys; none is a way to keep keys as well.
#[derive(Default)]
pub struct Masters(Vec<LessSafeKey>);

impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} master keys", self.0.len())
    }
}

impl Masters {
    /// These: the first one seals, all of them open.
    pub fn new(keys: &[[u8; KEY]]) -> Self {
        Self(keys.iter().map(form::usable).collect())
    }

    /// A key as the store keeps it.
    pub(super) fn wrap(&self, key: &[u8; KEY], user: &UserId, month: Month) -> StoreResult<Vec<u8>> {
        let Some(master) = self.0.first() else { return Ok([&[PLAIN], &key[..]].concat()) };
        let (nonce, mut secret) = (rand::random::<[u8; NONCE_LEN]>(), key.to_vec());
        let aad = Aad::from(aad(user, month));
        master
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut secret)
            .map_err(|_| StoreError::unavailable("a key could not be sealed with the master key"))?;
        Ok([&[WRAPPED], &nonce[..], &secret].concat())
    }

    /// The key that the store has kept.
    ///
    /// # Errors
    /// When none of the master keys opens it: then nobody can read, and nothing is taken for erased.
    pub(super) fn unwrap(&self, kept: &[u8], user: &UserId, month: Month) -> StoreResult<[u8; KEY]> {
        let key = match kept.split_first() {
            Some((&PLAIN, key)) => <[u8; KEY]>::try_from(key).ok(),
            Some((&WRAPPED, wrapped)) => self.0.iter().find_map(|master| unwrap_with(master, wrapped, user, month)),
            _ => None,
        };
        key.ok_or_else(|| {
            StoreError::unavailable(
                "a user's key does not open with the master keys of this node: is sealing.master_key_file the one with which it \
                 was made?",
            )
        })
    }
}

fn unwrap_with(master: &LessSafeKey, wrapped: &[u8], user: &UserId, month: Month) -> Option<[u8; KEY]> {
    let (nonce, secret) = wrapped.split_at_checked(NONCE_LEN)?;
    let (nonce, mut secret) = (Nonce::try_assume_unique_for_key(nonce).ok()?, secret.to_vec());
    <[u8; KEY]>::try_from(&*master.open_in_place(nonce, Aad::from(aad(user, month)), &mut secret).ok()?).ok()
}

fn aad(user: &UserId, month: Month) -> Vec<u8> {
    [&month.0.to_be_bytes(), user.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(keys: &[u8]) -> Masters {
        Masters::new(&keys.iter().map(|byte| [*byte; KEY]).collect::<Vec<_>>())
    }

    #[test]
    fn a_key_opens_with_the_master_key_that_sealed_it_also_when_that_is_the_old_one() {
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let (key, month) = ([9; KEY], Month(685));
        let kept = masters(&[1]).wrap(&key, &alice, month).unwrap();
        assert!(!kept.windows(8).any(|part| part == &key[..8]), "the key is seen");
        assert!(kept.len() <= crate::store::keys::MOST_KEY);
        assert_eq!(masters(&[1]).unwrap(&kept, &alice, month), Ok(key));
        assert_eq!(masters(&[2, 1]).unwrap(&kept, &alice, month), Ok(key));
        for wrong in [masters(&[2]), Masters::default()] {
            assert!(wrong.unwrap(&kept, &alice, month).is_err());
        }
        assert!(masters(&[1]).unwrap(&kept, &bob, month).is_err(), "another user's");
        assert!(masters(&[1]).unwrap(&kept, &alice, Month(686)).is_err(), "another month's");
        // What was kept before there was a master key still opens.
        let plain = Masters::default().wrap(&key, &alice, month).unwrap();
        assert_eq!(masters(&[1]).unwrap(&plain, &alice, month), Ok(key));
        for broken in [&[][..], &[0, 1], &[1], &[2, 3], &kept[..20]] {
            assert!(masters(&[1]).unwrap(broken, &alice, month).is_err());
        }
    }
}
