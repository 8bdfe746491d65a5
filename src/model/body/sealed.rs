//! Bodies that are sealed: to everything but [`crate::sealing`] they are bytes that say nothing. One that is still sealed when
//! somebody is to be shown it was erased: nobody has its key any more.

use bytes::Bytes;
use rmp::{Marker, decode, encode};

use super::Body;

/// The extension type, by chance. No body that comes from outside has an extension in it: JSON has nothing like it.
const EXTENSION: i8 = 0x53;

impl Body {
    /// The body with these bytes under a seal; nothing where they are more than MessagePack can count.
    pub(crate) fn sealed(bytes: &[u8]) -> Option<Self> {
        let mut out = Vec::with_capacity(bytes.len() + 6);
        encode::write_ext_meta(&mut out, u32::try_from(bytes.len()).ok()?, EXTENSION).ok()?;
        out.extend_from_slice(bytes);
        Some(Self(Bytes::from(out)))
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.as_sealed().is_some()
    }

    /// What is under the seal, if it is sealed.
    pub(crate) fn as_sealed(&self) -> Option<&[u8]> {
        // Nearly no body begins like this: no more is looked at.
        let marker = Marker::from_u8(*self.0.first()?);
        if !matches!(
            marker,
            Marker::Ext8
                | Marker::Ext16
                | Marker::Ext32
                | Marker::FixExt1
                | Marker::FixExt2
                | Marker::FixExt4
                | Marker::FixExt8
                | Marker::FixExt16
        ) {
            return None;
        }
        let mut rest = &self.0[..];
        let meta = decode::read_ext_meta(&mut rest).ok()?;
        (meta.typeid == EXTENSION && rest.len() == meta.size as usize).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_send_what_looks_sealed() {
        for len in [0, 1, 2, 4, 8, 16, 45, 300, 70_000] {
            let sealed = Body::sealed(&vec![7; len]).unwrap();
            assert_eq!(sealed.as_sealed().map(<[u8]>::len), Some(len));
            assert!(rmp_serde::from_slice::<Body>(sealed.as_msgpack()).is_err(), "{len}");
            // Nor inside of something.
            let inside = [&[0x91], &sealed.as_msgpack()[..]].concat();
            assert!(rmp_serde::from_slice::<Body>(&inside).is_err(), "{len}");
            assert!(serde_json::to_string(&sealed).is_err(), "it goes to nobody");
        }
        assert!(!Body::null().is_sealed() && !Body::text("").is_sealed());
        assert!(!Body::from_stored(Bytes::new()).is_sealed());
    }
}
