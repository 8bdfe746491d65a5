//! Whether text that comes in pieces is UTF-8, as early as it can be known: a peer must not have a megabyte taken in whose
//! second byte is wrong. Called by the decoder.

/// How far a text has been looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Utf8 {
    /// The beginning of a character whose rest has not come.
    cut: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Looks at the next piece; false when no continuation can make a text of it.
    pub(super) fn takes(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return true };
            piece = rest;
            self.cut[usize::from(self.len)] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.cut[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        let Err(error) = std::str::from_utf8(piece) else { return true };
        if error.error_len().is_some() {
            return false;
        }
        let cut = &piece[error.valid_up_to()..];
        self.cut[..cut.len()].copy_from_slice(cut);
        self.len = cut.len() as u8;
        true
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(
            text in any::<String>(),
            wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
            pieces in prop::collection::vec(1..6_usize, 0..40),
        ) {
            let mut bytes = text.into_bytes();
            for (at, byte) in wrong {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let (mut utf8, mut rest, mut seen, mut ok) = (Utf8::default(), &bytes[..], 0, true);
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(piece.min(rest.len()));
                rest = after;
                ok = utf8.takes(piece);
                seen += piece.len();
                // As early as possible: what was taken can still become a text.
                let so_far = std::str::from_utf8(&bytes[..seen]);
                prop_assert_eq!(ok, so_far.is_ok() || so_far.is_err_and(|error| error.error_len().is_none()));
                if !ok {
                    break;
                }
            }
            prop_assert_eq!(ok && utf8.is_whole(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
