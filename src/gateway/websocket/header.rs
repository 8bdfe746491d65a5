//! The header of a frame: what a client may write, and what a server writes.
//!
//! Called by the decoder and by what goes out. Stricter than the library's: a length in more bytes than it needs, a
//! frame without a mask and a large control frame are refused here, before anything is allocated for them.

use super::Fault;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message that began before.
    Continuation = 0,
    /// A text message, or its beginning.
    Text = 1,
    /// A binary message, or its beginning.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// To be answered.
    Ping = 9,
    /// The answer.
    Pong = 10,
}

impl OpCode {
    fn of(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub is_final: bool,
    /// What the frame is.
    pub opcode: OpCode,
    /// What its payload is masked with.
    pub mask: [u8; 4],
    /// Bytes of its payload.
    pub len: u64,
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Most bytes that a control frame may hold.
pub(super) const MOST_CONTROL: u64 = 125;

impl Header {
    /// The longest one.
    pub const MOST: usize = 14;

    /// Reads a header at the beginning of `bytes`; says how long it is. Nothing while a part of it is missing.
    ///
    /// # Errors
    /// When no client may write this.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = OpCode::of(first & 0x0f).ok_or(Fault::Protocol)?;
        // No extension is agreed on that would give the reserved bits a meaning.
        if first & RESERVED != 0 || second & MASKED == 0 {
            return Err(Fault::Protocol);
        }
        let (len, least, rest) = match second & !MASKED {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), 126, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), 1 << 16, rest),
                None => return Ok(None),
            },
            len => (u64::from(len), 0, rest),
        };
        let is_final = first & FIN != 0;
        let is_control_wrong = opcode.is_control() && (!is_final || len > MOST_CONTROL);
        if is_control_wrong || len < least || len > i64::MAX as u64 {
            return Err(Fault::Protocol);
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Self { is_final, opcode, mask: *mask, len }, bytes.len() - rest.len())))
    }

    /// Writes the header of a server's frame, which is whole and not masked.
    pub(super) fn write(opcode: OpCode, len: usize, out: &mut Vec<u8>) {
        out.push(FIN | opcode as u8);
        match len {
            0..126 => out.push(len as u8),
            126..0x1_0000 => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn what_no_client_may_write_is_refused() {
        let refused: [&[u8]; 10] = [
            b"\x81\x05hello", // no mask
            b"\xc1\x80",
            b"\xa1\x80",
            b"\x91\x80", // reserved bits
            b"\x83\x80",
            b"\x8b\x80",                     // reserved opcodes
            b"\x09\x80",                     // a ping in pieces
            b"\x89\xfe\x00\x7e",             // a large ping
            b"\x82\xfe\x00\x7d",             // 125 in two bytes
            b"\x82\xff\0\0\0\0\0\0\xff\xff", // 65,535 in eight
        ];
        for bytes in refused {
            assert_eq!(Header::parse(bytes), Err(Fault::Protocol), "{bytes:x?}");
        }
        assert_eq!(Header::parse(b"\x82\xff\x80\0\0\0\0\0\0\0"), Err(Fault::Protocol), "more than 63 bits");
    }

    proptest! {
        /// Where both take a header they read the same, and the library takes whatever is taken here.
        #[test]
        fn headers_are_read_as_the_library_does(mut bytes in prop::collection::vec(any::<u8>(), 0..16), long in 125..129u8) {
            if let Some(second) = bytes.get_mut(1).filter(|second| **second & 1 == 1) {
                *second = 0x80 | (long & 0x7f);
            }
            if let Ok(Some((header, used))) = Header::parse(&bytes) {
                let mut cursor = Cursor::new(&bytes);
                let (theirs, len) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
                prop_assert_eq!((theirs.is_final, u8::from(theirs.opcode)), (header.is_final, header.opcode as u8));
                prop_assert_eq!((theirs.mask, len), (Some(header.mask), header.len));
                prop_assert_eq!(cursor.position(), used as u64);
            }
        }

        #[test]
        fn the_library_reads_what_is_written(len in prop_oneof![0..200_usize, 65_500..65_600_usize, any::<u32>().prop_map(|len| len as usize)]) {
            let mut bytes = Vec::new();
            Header::write(OpCode::Text, len, &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            let (header, theirs) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            prop_assert_eq!((theirs, cursor.position()), (len as u64, bytes.len() as u64));
            prop_assert!(header.is_final && header.mask.is_none() && u8::from(header.opcode) == 1);
            prop_assert_eq!(header.len(len as u64), bytes.len(), "in as few bytes as it can be");
        }
    }
}
