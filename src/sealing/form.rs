//! A sealed body: one MessagePack value of an extension type that no client can send, because JSON has nothing like it.
//!
//! ```text
//! format (1 byte, 1)   month (2)   AES-256-GCM-SIV of the body's MessagePack, with its tag (16)
//! ```
//!
//! Numbers are big-endian. What the seal is bound to besides: the conversation, the sender, the cid
//! and the kind, so that a sealed body that is moved to another message opens nowhere. The nonce is a hash of the same: a second
//! try of a message is sealed to the same bytes as the first, and the store knows it again. For that a cipher is needed that
//! may be given a nonce twice (RFC 8452): it shows then whether two bodies are equal, here two tries of one message.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use bytes::Bytes;

use crate::{
    model::{Body, Cid, ConvId, Kind, UserId},
    store::keys::Month,
};

/// Bytes of a key.
pub(super) const KEY: usize = 32;
const FORMAT: u8 = 1;
const HEAD: usize = 1 + 2;

/// Whose body it is, and which message's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) conv: &'a ConvId,
    pub(super) sender: &'a UserId,
    pub(super) cid: &'a Cid,
    pub(super) kind: Kind,
}

impl Of<'_> {
    fn aad(&self) -> Vec<u8> {
        let (conv, sender, cid) = (self.conv.as_str(), self.sender.as_str(), self.cid.as_str());
        let mut aad = Vec::with_capacity(conv.len() + sender.len() + cid.len() + 4);
        // Neither an id of a conversation nor a name has a zero in it.
        for part in [conv, sender] {
            aad.extend_from_slice(part.as_bytes());
            aad.push(0);
        }
        aad.push(self.kind.byte());
        aad.extend_from_slice(cid.as_bytes());
        aad
    }
}

/// A key that can be used.
pub(super) fn usable(key: &[u8; KEY]) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM_SIV, key) {
        Ok(key) => LessSafeKey::new(key),
        Err(_) => unreachable!("a key of this algorithm has {KEY} bytes"),
    }
}

fn nonce(aad: &[u8]) -> Nonce {
    let (mut nonce, hash) = ([0; NONCE_LEN], digest::digest(&digest::SHA256, aad));
    nonce.copy_from_slice(&hash.as_ref()[..NONCE_LEN]);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals a body; nothing where the cipher refuses, which it does for no body that fits into a message.
pub(super) fn seal(key: &LessSafeKey, month: Month, of: Of<'_>, body: &Body) -> Option<Body> {
    let (aad, mut secret) = (of.aad(), body.as_msgpack().to_vec());
    let mut sealed = Vec::with_capacity(HEAD + secret.len() + AES_256_GCM_SIV.tag_len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&month.0.to_be_bytes());
    key.seal_in_place_append_tag(nonce(&aad), Aad::from(aad), &mut secret).ok()?;
    sealed.append(&mut secret);
    Body::sealed(&sealed)
}

/// The month whose key opens a sealed body; nothing where it is none that this version made.
pub(super) fn month_of(body: &Body) -> Option<Month> {
    let [FORMAT, first, second, ..] = body.as_sealed()? else { return None };
    Some(Month(u16::from_be_bytes([*first, *second])))
}

/// Opens it; nothing where it was sealed with another key, or for another message.
pub(super) fn open(key: &LessSafeKey, of: Of<'_>, body: &Body) -> Option<Body> {
    let (aad, mut secret) = (of.aad(), body.as_sealed()?.get(HEAD..)?.to_vec());
    let len = key.open_in_place(nonce(&aad), Aad::from(aad), &mut secret).ok()?.len();
    secret.truncate(len);
    Some(Body::from_stored(Bytes::from(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_opens_with_its_key_at_its_place_and_nowhere_else() {
        let (conv, other) = (ConvId::new("dm:alice:bob").unwrap(), ConvId::new("dm:alice:carol").unwrap());
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let (c1, c2) = (Cid::new("c1").unwrap(), Cid::new("c2").unwrap());
        let of = Of { conv: &conv, sender: &alice, cid: &c1, kind: Kind::Message };
        let key = usable(&[7; KEY]);
        for text in ["", "hi", &"x".repeat(70_000)] {
            let body = Body::text(text);
            let sealed = seal(&key, Month(685), of, &body).unwrap();
            assert!(sealed.is_sealed() && !body.is_sealed());
            assert_eq!(month_of(&sealed), Some(Month(685)));
            assert_eq!(open(&key, of, &sealed), Some(body.clone()));
            assert_eq!(seal(&key, Month(685), of, &body), Some(sealed.clone()), "a second try is known again");
            for foreign in [
                Of { conv: &other, ..of },
                Of { sender: &bob, ..of },
                Of { cid: &c2, ..of },
                Of { kind: Kind::Edit, ..of },
            ] {
                assert_eq!(open(&key, foreign, &sealed), None);
            }
            assert_eq!(open(&usable(&[8; KEY]), of, &sealed), None);
            for cut in 0..sealed.size().min(60) {
                let cut = Body::from_stored(sealed.as_msgpack().slice(..cut));
                assert_eq!(open(&key, of, &cut), None);
            }
        }
        assert_eq!(month_of(&Body::text("hi")), None);
    }
}
