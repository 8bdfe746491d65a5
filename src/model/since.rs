//! Up to when a device has everything, as one value that its client keeps from one connection to the next.

use std::fmt;

/// Stands for the state of a user's inbox at a moment, seen from one device: the same value later means that nothing came
/// in between. A digest, so small, and so one that tells clients nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since([u8; 16]);

impl Since {
    /// Most bytes of the text that clients may bring: more than this version writes.
    pub const MOST: usize = 64;

    /// Of a digest.
    pub fn new(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// What a client brought; `None` for a text that this version would not write, which then says nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let digest = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(digest.to_be_bytes()))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for digest in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let since = Since::new(digest);
            assert_eq!(Since::parse(&since.to_string()), Some(since));
        }
        for text in ["", "0", "later-version", "+0000000000000000000000000000000", "0000000000000000000000000000000F"] {
            assert_eq!(Since::parse(text), None, "{text}");
        }
    }
}
