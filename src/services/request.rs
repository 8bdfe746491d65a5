//! Reads what a service published: one map with the fields of its op and no others, or a refusal that names the field.
//! Called by [`super`].
//!
//! The fields are read by hand and not by a derived reader, which would take an array in the order of a private
//! struct as well and whose words name no field.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    model::Body,
    protocol::{Encoding, ErrorCode, Refused},
};

/// Which fields a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `cid`, `body`, `from?`
    Send,
    /// `type`, `body?`
    Signal,
}

/// The fields of a request as they were given. `B` is the body, or [`IgnoredAny`] where it is passed over.
#[derive(Debug)]
pub(super) struct Fields<B = Body> {
    pub(super) cid: Option<String>,
    pub(super) body: Option<B>,
    pub(super) from: Option<String>,
    pub(super) kind: Option<String>,
    /// All names, in their order: also those that were given as null.
    names: Vec<String>,
}

impl Form {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Send => &["cid", "body", "from"],
            Self::Signal => &["type", "body"],
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// `bad_frame`, or `bad_body` where everything but the body can be read.
    pub(super) fn read(self, encoding: Encoding, payload: &[u8]) -> Result<Fields, Refused> {
        let fields = encoding.decode::<Fields>(payload).map_err(|words| self.fault(encoding, payload, &words))?;
        self.only_known(&fields)?;
        Ok(fields)
    }

    /// What is wrong with a payload that cannot be read: it is read again, which only faulty requests pay for.
    fn fault(self, encoding: Encoding, payload: &[u8], words: &str) -> Refused {
        let language = match encoding {
            Encoding::Json => "JSON",
            Encoding::MsgPack => "MessagePack",
        };
        if let Err(words) = encoding.decode_lenient::<IgnoredAny>(payload) {
            return bad(format!("the request is not {language}: {words}"));
        }
        match encoding.decode_lenient::<Fields<IgnoredAny>>(payload) {
            Err(words) => bad(words),
            // Readable but for its body: then that is at fault, and is called what a client's would be.
            Ok(fields) => match self.only_known(&fields) {
                Err(refused) => refused,
                Ok(()) => Refused::new(ErrorCode::BadBody, format!("body: {words}")),
            },
        }
    }

    /// A field that is passed over in silence would be a misspelt `from` that sends in the wrong name.
    fn only_known<B>(self, fields: &Fields<B>) -> Result<(), Refused> {
        match fields.names.iter().find(|name| !self.fields().contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(bad(format!("{name:.64}: no such field; the fields are {}", self.fields().join(", ")))),
        }
    }
}

fn bad(text: String) -> Refused {
    Refused::new(ErrorCode::BadFrame, text)
}

impl<'de, B: Deserialize<'de>> Deserialize<'de> for Fields<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor(PhantomData))
    }
}

struct FieldsVisitor<B>(PhantomData<B>);

impl<'de, B: Deserialize<'de>> Visitor<'de> for FieldsVisitor<B> {
    type Value = Fields<B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with the fields of the request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<B>, A::Error> {
        let mut fields = Fields { cid: None, body: None, from: None, kind: None, names: Vec::with_capacity(3) };
        while let Some(name) = map.next_key::<String>()? {
            if fields.names.contains(&name) {
                return Err(de::Error::custom(format_args!("{name:.64}: given twice")));
            }
            match name.as_str() {
                "cid" => fields.cid = text(&mut map, "cid")?,
                "from" => fields.from = text(&mut map, "from")?,
                "type" => fields.kind = text(&mut map, "type")?,
                "body" => fields.body = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            // An unknown one ends the request anyway: one of them is enough to say so, and memory stays bounded.
            if fields.names.len() < 8 {
                fields.names.push(name);
            }
        }
        Ok(fields)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A, field: &str) -> Result<Option<String>, A::Error> {
    map.next_value().map_err(|_| de::Error::custom(format_args!("{field}: must be a string")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(form: Form, payload: &[u8]) -> (ErrorCode, String) {
        let refused = form.read(Encoding::sniff(payload), payload).unwrap_err();
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
            (b"{\"cid\":\"a\",\"body\":1,\"type\":null}", ErrorCode::BadFrame, "type: no such field"),
            (b"{\"cid\":\"a\",\"body\":18446744073709551616}", ErrorCode::BadBody, "body: an integer beyond 64 bits"),
            (b"\x82\xa3cid\xa1a\xa4body\xc4\x01x", ErrorCode::BadBody, "body: "),
        ] {
            let (found, message) = refused(Form::Send, payload);
            assert!(found == code && message.contains(words), "{payload:?}: {found:?}, {message}");
        }
        assert!(
            refused(Form::Signal, b"{\"cid\":\"a\"}").1.starts_with("cid: no such field; the fields are type, body")
        );
    }

    #[test]
    fn what_may_be_left_out_may_be_null() {
        let fields = Form::Send.read(Encoding::Json, br#"{"cid":"a","body":null,"from":null}"#).unwrap();
        assert_eq!((fields.cid.as_deref(), fields.body.is_some(), fields.from), (Some("a"), true, None));
        assert!(Form::Signal.read(Encoding::MsgPack, b"\x80").unwrap().body.is_none());
    }
}
