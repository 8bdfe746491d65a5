//! `read`: what it asks. It is not answered.

use crate::{
    model::{ConvId, Seq},
    protocol::{
        Refused,
        fields::{Fields, FromFields, name, seq},
    },
};

/// Everything up to `seq` was read by the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where.
    pub conv: ConvId,
    /// Up to here.
    pub seq: Seq,
    /// How far the session that asks knows the log to go: not from the client.
    pub handed: Seq,
}

impl FromFields for Read {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self { conv: name("conv", fields.conv)?, seq: seq("seq", fields.seq)?, handed: 0 })
    }
}
