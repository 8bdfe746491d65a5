//! FNV-1a in 64 bits: a hash that every build and every machine computes alike. For what nodes must agree on (slots, their
//! homes, groups of users) and for sums of files, against damage only.
//!
//! Source: Fowler, Noll and Vo, RFC 9923.

/// A hash under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// Of nothing yet.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The same with these bytes behind what there was.
    pub(crate) fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    /// The hash.
    pub(crate) const fn sum(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    Fnv::new().with(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of its authors.
    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn parts_are_as_good_as_the_whole() {
        assert_eq!(Fnv::new().with(b"foo").with(b"bar").sum(), fnv1a(b"foobar"));
    }
}
