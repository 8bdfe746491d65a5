//! `signal`: what it asks. It is not answered.

use crate::{
    model::{Recipient, RoomId},
    protocol::{
        Body, Refused,
        fields::{Fields, FromFields, name, need},
    },
};

/// A live signal, never stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// To whom.
    pub to: Recipient,
    /// `typing` …
    pub kind: String,
    /// Anything.
    pub body: Option<Body>,
}

impl FromFields for Signal {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self { to: name("to", fields.to)?, kind: signal_type(fields.kind)?, body: fields.body })
    }
}

/// The `type` of a signal: the same alphabet as names.
///
/// # Errors
/// What is wrong with it.
pub fn signal_type(kind: Option<String>) -> Result<String, Refused> {
    let kind = need("type", kind)?;
    name::<RoomId>("type", Some(&kind))?;
    Ok(kind)
}
