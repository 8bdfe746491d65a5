//! Reads an unreadable frame again, field by field, to say which one is at fault. Called by `Request::decode`, and for
//! services by `Ask::of_op`, only when a frame could not be read, so it may take its time.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::FrameError;
use crate::protocol::{Encoding, ErrorCode, Refused, strict::Text};

/// Fields that are strings, integers, or one of both.
const TEXTS: [&str; 16] = [
    "op", "to", "cid", "conv", "token", "device", "session", "client", "since", "type", "room", "user", "role",
    "topic", "history", "reaction",
];
const NUMBERS: [&str; 11] =
    ["ref", "seq", "attempt", "before", "around", "limit", "re", "reply_to", "expires", "lifetime", "ttl"];
const EITHER: [&str; 1] = ["after"];
const BOOLEANS: [&str; 3] = ["public", "raw", "watch"];
/// Lists of strings.
const LISTS: [&str; 2] = ["mentions", "users"];

/// What to answer to a frame that could not be read. `words` are the decoder's own.
pub(in crate::protocol) fn blame(encoding: Encoding, payload: &[u8], words: &str) -> FrameError {
    let fields: Fields = match encoding.decode_lenient(payload) {
        Ok(fields) => fields,
        Err(words) => {
            let message = format!("not one {} map: {words}", encoding.subprotocol());
            return FrameError { reference: None, refused: Refused::new(ErrorCode::BadFrame, message) };
        }
    };
    FrameError { reference: fields.reference(), refused: fields.fault(words) }
}

/// The fields of a frame that are known by name, and what kind of value each has.
struct Fields(Vec<(&'static str, Kind)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Text,
    Number(u64),
    Boolean,
    Texts,
    Other,
}

impl Fields {
    fn reference(&self) -> Option<u64> {
        self.0.iter().find_map(|field| match field {
            ("ref", Kind::Number(n)) => Some(*n),
            _ => None,
        })
    }

    fn fault(&self, words: &str) -> Refused {
        for (at, (name, kind)) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|(before, _)| before == name) {
                return Refused::new(ErrorCode::BadFrame, format!("{name}: given twice"));
            }
            let text = TEXTS.contains(name) || EITHER.contains(name);
            let number = NUMBERS.contains(name) || EITHER.contains(name);
            let fits = match kind {
                Kind::Nothing => true,
                Kind::Text => text,
                Kind::Number(_) => number,
                Kind::Boolean => BOOLEANS.contains(name),
                Kind::Texts => LISTS.contains(name),
                Kind::Other => *name == "body",
            };
            let must = match (text, number) {
                _ if LISTS.contains(name) => "a list of strings",
                (true, true) => "a string or an integer of 0 or more",
                (true, false) => "a string",
                (false, true) => "an integer of 0 or more",
                (false, false) => "true or false",
            };
            if !fits {
                return Refused::new(ErrorCode::BadFrame, format!("{name}: must be {must}"));
            }
        }
        if !self.0.iter().any(|(name, _)| *name == "body") {
            return Refused::new(ErrorCode::BadFrame, words.to_owned());
        }
        // Every other field can be read, so it is the body.
        Refused::new(ErrorCode::BadBody, format!("body: {words}"))
    }
}

fn known(key: &str) -> Option<&'static str> {
    TEXTS.iter().chain(&NUMBERS).chain(&EITHER).chain(&BOOLEANS).chain(&LISTS).copied().find(|name| *name == key)
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with an \"op\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if let Some(name) = known(key.as_str()) {
                fields.push((name, map.next_value()?));
            } else {
                // Passed over without a look: a body that cannot be read must not hide another field's fault.
                map.next_value::<IgnoredAny>()?;
                if key.as_str() == "body" {
                    fields.push(("body", Kind::Other));
                }
            }
        }
        Ok(Fields(fields))
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Nothing)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Boolean)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(u64::try_from(value).map_or(Kind::Other, Kind::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
        Ok(Kind::Text)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Kind, E> {
        Ok(Kind::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut are_texts = true;
        while let Some(item) = items.next_element::<Kind>()? {
            are_texts &= item == Kind::Text;
        }
        Ok(if are_texts { Kind::Texts } else { Kind::Other })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Kind::Other)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        // MessagePack extensions come this way.
        IgnoredAny::deserialize(deserializer).map(|_| Kind::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        de::Deserialize::deserialize(deserializer)
    }
}
