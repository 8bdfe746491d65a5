//! A user's id in a token as a user id of natter, and back. Called by [`super::verifier`] and [`super::mint`].
//!
//! Identity providers have ids such as `auth0|5f7c` or an e-mail address; natter's go into subjects and keys, so they are
//! 1 to 64 letters, digits, `_` and `-`. The escape keeps letters, digits and `-`, and writes each other byte of the
//! UTF-8 text, `_` too, as `_` and two lower-case hex digits. As `_` never stands for itself, two ids never become one,
//! and each can be read back.

use std::fmt::Write as _;

use super::AuthError;
use crate::{
    config::UserEncoding,
    model::{MAX_NAME, UserId},
};

/// The user id for the id in a token, which the claim `claim` holds.
pub(super) fn read(id: &str, encoding: UserEncoding, claim: &str) -> Result<UserId, AuthError> {
    let escaped = match encoding {
        UserEncoding::Plain => None,
        UserEncoding::Escaped => Some(escape(id)),
    };
    if let Some(len) = escaped.as_ref().map(String::len).filter(|len| *len > MAX_NAME) {
        return Err(AuthError::LongUser { claim: claim.to_owned(), len });
    }
    let user = UserId::new(escaped.as_deref().unwrap_or(id));
    user.map_err(|reason| AuthError::Subject { claim: claim.to_owned(), reason })
}

fn escape(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "_{byte:02x}");
        }
    }
    out
}

/// The id that becomes `user`; `None` if there is none.
pub(super) fn unescape(user: &UserId) -> Option<String> {
    let mut parts = user.as_str().split('_');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    let id = String::from_utf8(bytes).ok()?;
    // Only the one spelling that the escape makes: neither capitals in the hex digits nor needless escapes.
    (escape(&id) == user.as_str()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_id_is_letters_digits_and_two_hex_digits_for_the_rest() {
        for (id, user) in [
            ("alice", "alice"),
            ("6ba7b810-9dad-11d1", "6ba7b810-9dad-11d1"),
            ("auth0|5f7c", "auth0_7c5f7c"),
            ("a_b", "a_5fb"),
            ("Ä", "_c3_84"),
            ("user@example.org", "user_40example_2eorg"),
        ] {
            assert_eq!(escape(id), user);
            assert_eq!(unescape(&UserId::new(user).unwrap()).as_deref(), Some(id));
        }
        for never in ["a_b", "a_", "a_4", "a_7C", "a_61", "_ff", "a_+1b"] {
            assert_eq!(unescape(&UserId::new(&never.replace('+', "_")).unwrap()), None, "{never}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_escaped_can_be_read_back_and_no_two_become_one(one in "\\PC{1,12}", other in "[ab_5f|]{1,12}") {
            for id in [&one, &other] {
                if let Ok(user) = read(id, UserEncoding::Escaped, "sub") {
                    proptest::prop_assert_eq!(unescape(&user), Some(id.clone()));
                }
            }
            proptest::prop_assert_eq!(escape(&one) == escape(&other), one == other);
        }
    }
}
