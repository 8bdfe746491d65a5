//! Takes the mask off a payload, in place and eight bytes at a time. Called by the decoder.

/// Unmasks bytes that begin at `at` in the payload of their frame.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    let mut mask = mask;
    mask.rotate_left((at % 4) as usize);
    let word = u64::from(u32::from_ne_bytes(mask));
    let word = word << 32 | word;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for eight in words {
        *eight = (u64::from_ne_bytes(*eight) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unmasked_as_bytes_are_wherever_they_begin() {
        let mask = [0x6d, 0xb6, 0xb2, 0x80];
        for len in 0..40 {
            for at in 0..9 {
                let mut bytes: Vec<_> = (0..len).collect();
                let expected: Vec<_> =
                    bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + at as usize) % 4]).collect();
                unmask(&mut bytes, mask, at);
                assert_eq!(bytes, expected, "{len} bytes at {at}");
            }
        }
    }
}
