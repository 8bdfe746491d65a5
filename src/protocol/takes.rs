//! Which fields each op takes when a service asks it, in one table, and reading an ask whose op stands outside of its
//! fields: in the subject of a request over NATS, in the path of one over HTTP.
//!
//! Called by `services`, which refuses every other field, and by the description of the HTTP API.

use std::borrow::Cow;

use super::{
    Ask, Encoding, Op, Refused,
    client::blame::blame,
    fields::{Fields, bad_frame},
    strict::{Strict, Text},
};

/// A field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether the op cannot do without it.
    pub required: bool,
}

/// The required ones; and after `;` those that may be left out.
macro_rules! fields {
    ($($required:ident),*; $($optional:ident),*) => {
        Some(&[
            $(Field { name: stringify!($required), required: true },)*
            $(Field { name: stringify!($optional), required: false },)*
        ])
    };
}

impl Op {
    /// What a service may say in it, besides `from`; `None` for an op of a connection, which no service has.
    pub fn takes(self) -> Option<&'static [Field]> {
        match self {
            Self::Hello | Self::Ack | Self::Token | Self::Ping => None,
            Self::Send => fields!(to, cid, body; reply_to, mentions, expires),
            Self::SendMany => fields!(users, cid, body; expires),
            Self::Mint => fields!(; ttl),
            Self::Edit => fields!(conv, re, cid, body;),
            Self::Delete => fields!(conv, re, cid;),
            Self::React | Self::Unreact => fields!(conv, re, cid, reaction;),
            Self::Read => fields!(conv, seq;),
            Self::History => fields!(conv; before, after, around, limit, raw),
            Self::Conversations | Self::Rooms | Self::Blocks => fields!(; after, limit),
            Self::Sessions | Self::Erase => Some(&[]),
            Self::EndSession => fields!(; session, device),
            Self::Signal => Some(&[
                Field { name: "to", required: true },
                Field { name: "type", required: true },
                Field { name: "body", required: false },
            ]),
            // Who watches is told in a session.
            Self::Presence => fields!(users;),
            Self::Create => fields!(; room, cid, topic, public, history, lifetime),
            Self::Join | Self::Leave => fields!(room; cid),
            Self::Invite | Self::Kick => fields!(room, user; cid),
            Self::Role => fields!(room, user, role; cid),
            Self::Topic => fields!(room; topic, cid),
            Self::Lifetime => fields!(room; lifetime, cid),
            Self::Room => fields!(room;),
            Self::Members => fields!(room; after, limit),
            Self::Block | Self::Unblock => fields!(user;),
            Self::Readers => fields!(room, seq; after, limit),
        }
    }

    /// Whether it takes a field of this name from a service.
    pub fn has_field(self, name: &str) -> bool {
        self.takes().is_some_and(|fields| fields.iter().any(|field| field.name == name))
    }
}

/// What a request says elsewhere than in its fields.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The recipient, as in `to`, whatever that says.
    pub to: Option<&'a str>,
    /// The cid where the fields have none.
    pub cid: Option<&'a str>,
}

impl Ask {
    /// Reads the fields of `op`; fields of other ops are passed over.
    ///
    /// # Errors
    /// Which field, and what it must be.
    pub fn of_op(op: Op, encoding: Encoding, payload: &[u8], beside: Beside<'_>) -> Result<Self, Refused> {
        let decoded = encoding.decode(payload).map_err(|words| blame(encoding, payload, &words).refused);
        let Strict::<Fields<'_>>(mut fields) = decoded?;
        let text = |text| Text(Cow::Borrowed(text));
        fields.op = Some(text(op.word()));
        fields.to = beside.to.map(text).or(fields.to);
        fields.cid = match (fields.cid, beside.cid) {
            (Some(own), Some(other)) if own.as_str() != other => {
                return Err(bad_frame("cid: another one stands beside the fields: give one of them"));
            }
            (own, other) => own.or(other.map(text)),
        };
        Self::from_fields(op, fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A good value for each field.
    fn value(op: Op, field: &str) -> Value {
        match field {
            "to" => json!("@bob"),
            "users" => json!(["bob"]),
            "mentions" => json!(["bob"]),
            "conv" => json!("dm:alice:bob"),
            "after" if op != Op::History => json!("bob"),
            "re" | "seq" | "reply_to" | "expires" | "lifetime" | "limit" | "before" | "after" | "around" => json!(1),
            "ttl" => json!(60),
            "raw" | "public" => json!(true),
            "role" => json!("member"),
            "history" => json!("all"),
            _ => json!("x"),
        }
    }

    fn read(op: Op, fields: &serde_json::Map<String, Value>) -> Result<Ask, Refused> {
        let payload = serde_json::to_vec(fields).unwrap();
        Ask::of_op(op, Encoding::Json, &payload, Beside::default())
    }

    #[test]
    fn what_is_required_is_missed_and_nothing_else_is() {
        for (op, takes) in Op::ALL.iter().filter_map(|op| Some((*op, op.takes()?))) {
            let required = takes.iter().filter(|field| field.required);
            let mut whole: serde_json::Map<_, _> =
                required.clone().map(|field| (field.name.to_owned(), value(op, field.name))).collect();
            if op == Op::EndSession {
                whole.insert("session".into(), json!("x"));
            }
            assert_eq!(read(op, &whole).unwrap_or_else(|refused| panic!("{op:?}: {refused}")).op(), op);
            for field in required {
                let mut part = whole.clone();
                part.remove(field.name);
                let refused = read(op, &part).expect_err(field.name);
                assert_eq!(refused.message, format!("{}: missing", field.name), "{op:?}");
            }
            // Each field is one that is read: a wrong type in it does not pass.
            for field in takes.iter().filter(|field| field.name != "body") {
                let mut wrong = whole.clone();
                wrong.insert(field.name.to_owned(), json!({}));
                let refused = read(op, &wrong).expect_err(field.name);
                assert!(refused.message.starts_with(&format!("{}: must be", field.name)), "{op:?}: {refused}");
            }
        }
    }

    #[test]
    fn an_optional_field_changes_what_is_asked() {
        for (op, takes) in Op::ALL.iter().filter_map(|op| Some((*op, op.takes()?))) {
            let required = takes.iter().filter(|field| field.required);
            let whole: serde_json::Map<_, _> =
                required.map(|field| (field.name.to_owned(), value(op, field.name))).collect();
            for field in takes.iter().filter(|field| !field.required) {
                let mut more = whole.clone();
                more.insert(field.name.to_owned(), value(op, field.name));
                assert_ne!(read(op, &more), read(op, &whole), "{op:?} passes over {}", field.name);
            }
        }
    }

    #[test]
    fn what_stands_beside_the_fields_counts() {
        let beside = Beside { to: Some("@carol"), cid: Some("key") };
        let Ok(Ask::Send(send)) = Ask::of_op(Op::Send, Encoding::Json, br#"{"body":1}"#, beside) else {
            panic!("not a send")
        };
        assert_eq!((send.to.to_string().as_str(), send.cid.as_str()), ("@carol", "key"));
        let other = Ask::of_op(Op::Send, Encoding::Json, br#"{"body":1,"cid":"own"}"#, beside);
        assert!(other.unwrap_err().message.starts_with("cid: another one"));
    }
}
