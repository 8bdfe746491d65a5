//! The fields of a client's frame, whatever its op, and how a single one is checked. Read by `client`, taken apart by the
//! ops in `ask`.

use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer};

use super::{Body, ErrorCode, Refused, strict::Text};
use crate::model::{MAX_SEQ, NameError, Seq, Since};

/// Longest `type` of a signal, and longest `client` of a hello that is kept.
pub const SHORT_TEXT: usize = 64;
/// What a page holds at most where the client names no limit.
const DEFAULT_LIMIT: usize = 50;

/// Every field of every op. A field has one type whatever the op, but for `after`.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) op: Option<Text<'a>>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<u64>,
    #[serde(borrow)]
    pub(super) to: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) cid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) conv: Option<Text<'a>>,
    pub(super) seq: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) body: Option<Body>,
    pub(super) token: Option<String>,
    pub(super) device: Option<String>,
    pub(super) session: Option<String>,
    pub(super) client: Option<String>,
    pub(super) attempt: Option<u64>,
    #[serde(borrow)]
    pub(super) since: Option<Text<'a>>,
    pub(super) before: Option<u64>,
    pub(super) around: Option<u64>,
    pub(super) after: Option<After>,
    pub(super) limit: Option<u64>,
    pub(super) room: Option<String>,
    pub(super) user: Option<String>,
    pub(super) users: Option<Vec<String>>,
    pub(super) watch: Option<bool>,
    pub(super) role: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) history: Option<String>,
    pub(super) public: Option<bool>,
    pub(super) lifetime: Option<u64>,
    pub(super) re: Option<u64>,
    pub(super) reaction: Option<String>,
    pub(super) reply_to: Option<u64>,
    pub(super) mentions: Option<Vec<String>>,
    pub(super) expires: Option<u64>,
    pub(super) raw: Option<bool>,
    pub(super) ttl: Option<u64>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// A seq for `history`, a text for lists.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum After {
    Seq(u64),
    Text(String),
}

/// `null` is a body like any other; only a frame without the field has none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Body>, D::Error> {
    Body::deserialize(deserializer).map(Some)
}

/// What an op makes of the fields of its frame.
pub(super) trait FromFields: Sized {
    /// Takes those that it knows and passes over the others.
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused>;
}

pub(super) fn bad_frame(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::BadFrame, message)
}

pub(super) fn need<T>(field: &str, value: Option<T>) -> Result<T, Refused> {
    value.ok_or_else(|| bad_frame(format!("{field}: missing")))
}

pub(super) fn name<T: FromStr<Err = NameError>>(field: &str, text: Option<impl AsRef<str>>) -> Result<T, Refused> {
    need(field, text)?.as_ref().parse().map_err(|e| Refused::new(ErrorCode::BadName, format!("{field}: {e}")))
}

pub(super) fn seq(field: &str, value: Option<u64>) -> Result<Seq, Refused> {
    let value = need(field, value)?;
    if value <= MAX_SEQ { Ok(value) } else { Err(bad_frame(format!("{field}: must be below 2^53"))) }
}

/// What `caught_up` brought: opaque, so no more is checked than that it is short.
pub(super) fn since(text: impl AsRef<str>) -> Result<CompactString, Refused> {
    let text = text.as_ref();
    if text.len() <= Since::MOST {
        Ok(text.into())
    } else {
        Err(bad_frame(format!("since: must be at most {} bytes", Since::MOST)))
    }
}

pub(super) fn limit(value: Option<u64>, most: usize) -> Result<usize, Refused> {
    match value.map(usize::try_from) {
        None => Ok(most.min(DEFAULT_LIMIT)),
        Some(Ok(n)) if (1..=most).contains(&n) => Ok(n),
        Some(_) => Err(bad_frame(format!("limit: must be 1 to {most}"))),
    }
}
