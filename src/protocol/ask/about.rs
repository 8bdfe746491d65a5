//! `edit`, `delete`, `react`, `unreact`: rows about a message. They are answered like a `send`.

use crate::{
    model::{Body, Cid, ConvId, Kind, Reacting, Seq},
    protocol::{
        Op, Refused,
        fields::{Fields, FromFields, bad_frame, name, need, seq},
        strict::Text,
    },
};

/// Asks for a row about a message.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Where.
    pub conv: ConvId,
    /// Which message.
    pub re: Seq,
    /// The sender's id for the row.
    pub cid: Cid,
    /// What the row says.
    pub what: Say,
}

/// What a row about a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// Another text.
    Edit(Body),
    /// It is gone.
    Delete,
    /// One's reaction to it.
    React(Reacting),
}

impl Say {
    /// What its row is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Edit(_) => Kind::Edit,
            Self::Delete => Kind::Delete,
            Self::React(_) => Kind::Reaction,
        }
    }

    /// The body of its row.
    pub fn into_body(self) -> Body {
        match self {
            Self::Edit(body) => body,
            Self::Delete => Body::null(),
            Self::React(reacting) => reacting.to_body(),
        }
    }
}

impl FromFields for About {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let op = need("op", fields.op.as_ref().map(Text::as_str).and_then(Op::from_word))?;
        let reaction = |text: Option<String>, set| {
            let reaction = need("reaction", text)?.parse().map_err(|wrong| bad_frame(format!("reaction: {wrong}")))?;
            Ok::<_, Refused>(Say::React(Reacting { reaction, set }))
        };
        let (conv, re, cid) = (name("conv", fields.conv)?, seq("re", fields.re)?, name("cid", fields.cid)?);
        let what = match op {
            Op::Edit => Say::Edit(need("body", fields.body)?),
            Op::React => reaction(fields.reaction, true)?,
            Op::Unreact => reaction(fields.reaction, false)?,
            _ => Say::Delete,
        };
        Ok(Self { conv, re, cid, what })
    }
}
