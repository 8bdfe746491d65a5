//! A message's body: any value that JSON can carry, held as MessagePack. Checked once, on the way in, whatever
//! that way is, so that no stored body can ever fail to reach a client (R14).
//!
//! [`Body`] deserializes from any serde format and serializes to any: frames in both encodings hold one. The same
//! code turns a whole MessagePack frame into JSON ([`write_json`]).

use std::{cell::Cell, fmt};

use bytes::Bytes;
use rmp::{Marker, decode, encode};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{self, SerializeMap, SerializeSeq},
};

mod sealed;

/// The deepest nesting of arrays and maps.
pub const MAX_DEPTH: usize = 64;

/// A checked body, held as MessagePack. Outside of the store there are three ways to make one, and all check:
/// deserializing it, [`Body::of`] and [`Body::text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Bytes);

impl Body {
    /// Takes the bytes of a stored row, which were a `Body` when they were stored. Only for the row decoders of the
    /// store: nothing is checked here.
    pub(crate) fn from_stored(msgpack: Bytes) -> Self {
        Self(msgpack)
    }

    /// The body that says nothing.
    pub fn null() -> Self {
        Self(Bytes::from_static(&[0xc0]))
    }

    /// A body that is one string.
    pub fn text(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 5);
        put(encode::write_str(&mut out, text));
        Self(out.into())
    }

    /// Any value, checked like a body that came from outside.
    ///
    /// # Errors
    /// What JSON could not carry.
    pub fn of(value: &impl Serialize) -> Result<Self, String> {
        let bytes = rmp_serde::to_vec_named(value).map_err(|e| e.to_string())?;
        rmp_serde::from_slice(&bytes).map_err(|e| e.to_string())
    }

    /// The MessagePack bytes.
    pub fn as_msgpack(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes of MessagePack it is.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The body as any type: a `String`, a `serde_json::Value`, one's own struct.
    ///
    /// # Errors
    /// The decoder's message when the body has another shape.
    pub fn parse<T: de::DeserializeOwned>(&self) -> Result<T, String> {
        rmp_serde::from_slice(&self.0).map_err(|e| e.to_string())
    }

    /// Whether the body fits in `limit` bytes in both encodings.
    pub fn fits(&self, limit: usize) -> bool {
        // A byte of MessagePack grows to six characters of JSON at most (a control character; `false,`), so
        // nearly every body is known to fit without writing it out.
        const WORST: usize = 6;
        if self.0.len() > limit {
            return false;
        }
        if self.0.len() * WORST <= limit {
            return true;
        }
        let mut json = Vec::with_capacity(self.0.len() * 2);
        write_json(&self.0, &mut json).is_ok() && json.len() <= limit
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rest = Cell::new(&self.0[..]);
        Node { rest: &rest, depth: 0 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut out = Vec::with_capacity(64);
        Writer { out: &mut out, depth: 0 }.deserialize(deserializer)?;
        Ok(Self(out.into()))
    }
}

/// Writes one MessagePack value as JSON.
///
/// # Errors
/// When `msgpack` is not exactly one value that JSON can carry.
pub(crate) fn write_json(msgpack: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let rest = Cell::new(msgpack);
    // A frame is one level above its body.
    serde_json::to_writer(out, &Node { rest: &rest, depth: 0 }).map_err(|e| e.to_string())?;
    if rest.get().is_empty() { Ok(()) } else { Err("bytes after the end of the value".into()) }
}

/// Writing to a `Vec` cannot fail; rmp's signatures can.
fn put<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok());
}

/// Reads one value from any format and appends it to `out` as MessagePack.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl Writer<'_> {
    fn deeper<E: de::Error>(&mut self) -> Result<Writer<'_>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Writer { out: self.out, depth: self.depth + 1 })
    }

    /// Puts the header of `count` items at `at`, where one byte was left for it.
    fn close(&mut self, at: usize, count: usize, fix: u8, wide: [u8; 2]) {
        if count < 16 {
            self.out[at] = fix | count as u8;
        } else if let Ok(count) = u16::try_from(count) {
            self.out[at] = wide[0];
            self.out.splice(at + 1..at + 1, count.to_be_bytes());
        } else {
            self.out[at] = wide[1];
            self.out.splice(at + 1..at + 1, (count as u32).to_be_bytes());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can carry")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        put(encode::write_nil(self.out));
        Ok(())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        put(encode::write_bool(self.out, value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        put(encode::write_sint(self.out, value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        put(encode::write_uint(self.out, value));
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("numbers must be finite"));
        }
        put(encode::write_f64(self.out, value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        put(encode::write_str(self.out, value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let at = self.out.len();
        self.out.push(0);
        let mut count = 0;
        while items.next_element_seed(self.deeper()?)?.is_some() {
            count += 1;
        }
        self.close(at, count, 0x90, [0xdc, 0xdd]);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let at = self.out.len();
        self.out.push(0);
        let mut count = 0;
        while entries.next_key_seed(Key(self.out))?.is_some() {
            entries.next_value_seed(self.deeper()?)?;
            count += 1;
        }
        self.close(at, count, 0x80, [0xde, 0xdf]);
        Ok(())
    }
}

/// Map keys: strings only.
struct Key<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string as the key")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        put(encode::write_str(self.0, value));
        Ok(())
    }
}

/// Takes one MessagePack value off the front of `rest` and hands it to any serializer. Checks every bound: the
/// bytes may come from the bus.
struct Node<'a, 'c> {
    rest: &'c Cell<&'a [u8]>,
    depth: usize,
}

impl<'a> Node<'a, '_> {
    fn take<E: ser::Error>(&self, len: usize) -> Result<&'a [u8], E> {
        let (taken, rest) = self.rest.get().split_at_checked(len).ok_or_else(cut_short)?;
        self.rest.set(rest);
        Ok(taken)
    }

    fn number<T, E: ser::Error>(&self, read: impl Fn(&mut &'a [u8]) -> Option<T>) -> Result<T, E> {
        let mut rest = self.rest.get();
        let value = read(&mut rest).ok_or_else(cut_short)?;
        self.rest.set(rest);
        Ok(value)
    }

    fn size<E: ser::Error>(&self, marker: Marker) -> Result<usize, E> {
        use decode::RmpRead as _;
        Ok(match marker {
            Marker::FixStr(n) | Marker::FixArray(n) | Marker::FixMap(n) => usize::from(n),
            Marker::Str8 => usize::from(self.number(|r| r.read_data_u8().ok())?),
            Marker::Str16 | Marker::Array16 | Marker::Map16 => usize::from(self.number(|r| r.read_data_u16().ok())?),
            _ => self.number(|r| r.read_data_u32().ok())? as usize,
        })
    }

    fn text<E: ser::Error>(&self, marker: Marker) -> Result<&'a str, E> {
        let size = self.size(marker)?;
        std::str::from_utf8(self.take(size)?).map_err(|_| E::custom("a string is not UTF-8"))
    }

    fn inner<E: ser::Error>(&self) -> Result<Self, E> {
        // One more than a body may have: a frame around it.
        if self.depth > MAX_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Node { rest: self.rest, depth: self.depth + 1 })
    }

    fn seq<S: Serializer>(&self, marker: Marker, serializer: S) -> Result<S::Ok, S::Error> {
        let size = self.size(marker)?;
        let mut seq = serializer.serialize_seq(Some(size))?;
        for _ in 0..size {
            seq.serialize_element(&self.inner()?)?;
        }
        seq.end()
    }

    fn map<S: Serializer>(&self, marker: Marker, serializer: S) -> Result<S::Ok, S::Error> {
        let size = self.size(marker)?;
        let mut map = serializer.serialize_map(Some(size))?;
        for _ in 0..size {
            let key = match Marker::from_u8(self.take::<S::Error>(1)?[0]) {
                marker @ (Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => self.text(marker)?,
                _ => return Err(ser::Error::custom("a key is not a string")),
            };
            map.serialize_entry(key, &self.inner()?)?;
        }
        map.end()
    }
}

fn cut_short<E: ser::Error>() -> E {
    E::custom("the value is cut short")
}

impl Serialize for Node<'_, '_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use decode::RmpRead as _;
        match Marker::from_u8(self.take::<S::Error>(1)?[0]) {
            Marker::Null => s.serialize_unit(),
            Marker::True => s.serialize_bool(true),
            Marker::False => s.serialize_bool(false),
            Marker::FixPos(n) => s.serialize_u64(n.into()),
            Marker::FixNeg(n) => s.serialize_i64(n.into()),
            Marker::U8 => s.serialize_u64(self.number(|r| r.read_data_u8().ok())?.into()),
            Marker::U16 => s.serialize_u64(self.number(|r| r.read_data_u16().ok())?.into()),
            Marker::U32 => s.serialize_u64(self.number(|r| r.read_data_u32().ok())?.into()),
            Marker::U64 => s.serialize_u64(self.number(|r| r.read_data_u64().ok())?),
            Marker::I8 => s.serialize_i64(self.number(|r| r.read_data_i8().ok())?.into()),
            Marker::I16 => s.serialize_i64(self.number(|r| r.read_data_i16().ok())?.into()),
            Marker::I32 => s.serialize_i64(self.number(|r| r.read_data_i32().ok())?.into()),
            Marker::I64 => s.serialize_i64(self.number(|r| r.read_data_i64().ok())?),
            Marker::F32 => finite(s, self.number(|r| r.read_data_f32().ok())?.into()),
            Marker::F64 => finite(s, self.number(|r| r.read_data_f64().ok())?),
            marker @ (Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => {
                s.serialize_str(self.text(marker)?)
            }
            marker @ (Marker::FixArray(_) | Marker::Array16 | Marker::Array32) => self.seq(marker, s),
            marker @ (Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => self.map(marker, s),
            _ => Err(ser::Error::custom("binary and extension values cannot be carried by JSON")),
        }
    }
}

fn finite<S: Serializer>(serializer: S, value: f64) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(value) } else { Err(ser::Error::custom("numbers must be finite")) }
}

#[cfg(test)]
mod tests;
