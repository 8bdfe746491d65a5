//! Reads what a service asks, whatever door it came through: one map with the fields of its op, `from`, and no others, or a
//! refusal that names the field. Called by [`super`] and by the HTTP API.
//!
//! The names of the fields are looked at first, by hand: the protocol's reader passes over fields of other ops, and a field
//! that is passed over in silence would be a misspelt `from` that sends in the wrong name.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    model::UserId,
    ops::{Caller, Ops},
    protocol::{Ask, Encoding, ErrorCode, Op, Refused, takes::Beside},
};

/// What a service asks.
#[derive(Debug)]
pub struct Request<'a> {
    /// Who it is: NATS permissions or its token vouch for it (R13).
    pub service: UserId,
    /// What.
    pub op: Op,
    /// How the fields are written.
    pub encoding: Encoding,
    /// The fields.
    pub payload: &'a [u8],
    /// What stands elsewhere. A recipient there means that the fields have no `to`.
    pub beside: Beside<'a>,
    /// The cid where neither the fields nor what stands beside them have one.
    pub cid: Option<&'a str>,
}

impl Request<'_> {
    /// Reads it.
    ///
    /// # Errors
    /// Which field, and what it must be; or that the service may not ask this in the name that it gives.
    pub fn read(self, ops: &Ops) -> Result<(Caller, Ask), Refused> {
        let Names { from, names } = self.names()?;
        let from = from.map(|from| UserId::new(&from)).transpose();
        let from = from.map_err(|wrong| Refused::new(ErrorCode::BadName, format!("from: {wrong}")))?;
        let Self { service, op, encoding, payload, mut beside, cid } = self;
        if !names.iter().any(|name| name == "cid") {
            beside.cid = beside.cid.or(cid);
        }
        let ask = Ask::of_op(op, encoding, payload, beside)?;
        Ok((Caller::service(ops, service, from, op)?, ask))
    }

    /// In whose name, and which fields there are: none that the op has not.
    fn names(&self) -> Result<Names, Refused> {
        let Names { from, names } = self.encoding.decode_lenient(self.payload).map_err(|words| self.fault(words))?;
        match names.iter().find(|name| !self.takes(name)) {
            None => Ok(Names { from, names }),
            Some(name) => {
                let fields = self.op.takes().unwrap_or_default().iter().map(|field| field.name);
                let fields: Vec<_> = fields.filter(|name| self.takes(name)).chain(["from"]).collect();
                Err(bad(format!("{name:.64}: no such field; the fields are {}", fields.join(", "))))
            }
        }
    }

    fn takes(&self, name: &str) -> bool {
        name == "from" || (self.op.has_field(name) && !(name == "to" && self.beside.to.is_some()))
    }

    /// What is wrong with fields whose names cannot be read.
    fn fault(&self, words: String) -> Refused {
        let language = match self.encoding {
            Encoding::Json => "JSON",
            Encoding::MsgPack => "MessagePack",
        };
        match self.encoding.decode_lenient::<IgnoredAny>(self.payload) {
            Err(words) => bad(format!("the request is not {language}: {words}")),
            Ok(_) => bad(words),
        }
    }
}

fn bad(text: String) -> Refused {
    Refused::new(ErrorCode::BadFrame, text)
}

/// The names of all fields, also of those that were given as null, and the value of the one that no client has.
struct Names {
    from: Option<String>,
    names: Vec<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with the fields of the request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let mut found = Names { from: None, names: Vec::with_capacity(4) };
        while let Some(name) = map.next_key::<String>()? {
            if found.names.contains(&name) {
                return Err(de::Error::custom(format_args!("{name:.64}: given twice")));
            }
            if name == "from" {
                let text = map.next_value();
                found.from = text.map_err(|_| de::Error::custom("from: must be a string"))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            // More than any op has: one of them is unknown and ends the request anyway, and memory stays bounded.
            if found.names.len() < 16 {
                found.names.push(name);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(op: Op, to: Option<&str>, payload: &[u8]) -> Result<Option<String>, Refused> {
        let (service, encoding) = (UserId::new("billing").unwrap(), Encoding::sniff(payload));
        let request = Request { service, op, encoding, payload, beside: Beside { to, cid: None }, cid: None };
        let from = request.names()?.from;
        Ask::of_op(op, encoding, payload, request.beside)?;
        Ok(from)
    }

    fn refused(op: Op, payload: &[u8]) -> (ErrorCode, String) {
        let refused = read(op, Some("@bob"), payload).unwrap_err();
        (refused.code, refused.message)
    }

    #[test]
    fn the_fault_is_named() {
        for (payload, code, words) in [
            (&b"paid"[..], ErrorCode::BadFrame, "the request is not JSON: "),
            (b"", ErrorCode::BadFrame, "the request is not JSON: "),
            (b"{\"cid\":\"a\"", ErrorCode::BadFrame, "the request is not JSON: "),
            (b"\x82\xa3cid\xa1a\xa4body", ErrorCode::BadFrame, "the request is not MessagePack: "),
            (b"[\"a\",1,null]", ErrorCode::BadFrame, "expected a map with the fields of the request"),
            (b"{\"cid\":1,\"body\":1}", ErrorCode::BadFrame, "cid: must be a string"),
            (b"{\"cid\":\"a\",\"cid\":\"b\",\"body\":1}", ErrorCode::BadFrame, "cid: given twice"),
            (b"{\"cid\":\"a\",\"body\":1,\"form\":\"x\"}", ErrorCode::BadFrame, "form: no such field"),
            (b"{\"cid\":\"a\",\"body\":1,\"from\":7}", ErrorCode::BadFrame, "from: must be a string"),
            (b"{\"cid\":\"a\",\"body\":1,\"type\":null}", ErrorCode::BadFrame, "type: no such field"),
            (b"{\"cid\":\"a\",\"body\":1,\"to\":\"@eve\"}", ErrorCode::BadFrame, "to: no such field"),
            (b"{\"cid\":\"a\",\"body\":18446744073709551616}", ErrorCode::BadBody, "body: an integer beyond 64 bits"),
            (b"\x82\xa3cid\xa1a\xa4body\xc4\x01x", ErrorCode::BadBody, "body: "),
        ] {
            let (found, message) = refused(Op::Send, payload);
            assert!(found == code && message.contains(words), "{payload:?}: {found:?}, {message}");
        }
        let text = refused(Op::Signal, b"{\"cid\":\"a\"}").1;
        assert!(text.starts_with("cid: no such field; the fields are type, body, from"), "{text}");
        let text = refused(Op::Presence, b"{\"users\":[\"bob\"],\"watch\":true}").1;
        assert!(text.starts_with("watch: no such field; the fields are users, from"), "{text}");
    }

    #[test]
    fn what_may_be_left_out_may_be_null() {
        let payload = br#"{"cid":"a","body":null,"from":null}"#;
        assert_eq!(read(Op::Send, Some("@bob"), payload), Ok(None));
        let payload = br#"{"to":"@bob","cid":"a","body":1,"from":"alice"}"#;
        assert_eq!(read(Op::Send, None, payload), Ok(Some("alice".to_owned())));
        assert!(read(Op::Sessions, None, b"\x80").is_ok());
    }
}
