//! Bytes of a client in, messages out: a state machine without I/O, which may be given the bytes in any pieces.
//!
//! Called by [`super::connection`]. A frame that is whole in what was read is unmasked and handed out where it lies.
//! Only what is cut, by the end of a read or by the peer's own fragments, is copied, and freed when it was handed out.

use std::ops::Range;

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    Fault,
    header::{Header, MOST_CONTROL, OpCode},
    lent::LENT,
    mask::unmask,
    utf8::Utf8,
};

/// Where the bytes of a payload are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In the input of this call.
    At(Range<usize>),
    /// Here: they came in pieces.
    Whole(Vec<u8>),
}

/// Something whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A text message: UTF-8.
    Text(Payload),
    /// A binary message.
    Binary(Payload),
    /// A ping, to be answered with the same bytes.
    Ping(Payload),
    /// A pong.
    Pong,
    /// A fragment of nothing that ends nothing: told, so that somebody counts how many of them a peer sends.
    Nothing,
    /// The peer closes; with which code, where it says one. Nothing that comes after it means anything.
    Close(Option<u16>),
}

/// Where in the stream of bytes the peer is.
#[derive(Debug)]
pub struct Decoder {
    /// Most bytes of a message.
    most: usize,
    /// What came of something that is not whole. Nothing most of the time.
    begun: Option<Box<Begun>>,
}

#[derive(Debug, Default)]
struct Begun {
    /// A header that is cut.
    head: [u8; Header::MOST],
    head_len: u8,
    /// A frame whose payload is not here in full, and how much of it is.
    frame: Option<(Header, u64)>,
    /// What there is of a control frame's payload.
    control: Vec<u8>,
    /// The kind of the message that has begun, and what there is of it.
    kind: Option<OpCode>,
    message: Vec<u8>,
    text: Utf8,
}

impl Decoder {
    /// At the beginning of a stream, with messages of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, begun: None }
    }

    /// Takes from the input up to the end of the next event, and says how much that was: all of it where nothing is whole.
    /// What is taken is unmasked in place.
    ///
    /// # Errors
    /// What ends the connection; nothing may be decoded after that.
    pub fn next(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), Fault> {
        let mut at = 0;
        while at < input.len() {
            let Some((header, taken, used)) = self.header(&input[at..])? else { return Ok((input.len(), None)) };
            at += used;
            // Both fit: the length was checked against the limits when the header came.
            let left = (header.len - taken) as usize;
            let end = at + left.min(input.len() - at);
            let payload = &mut input[at..end];
            unmask(payload, header.mask, taken);
            let is_whole = end - at == left;
            if end == at && !is_whole {
                // The input ended with the header: what follows may still be whole where it lies.
                self.begun.get_or_insert_default().frame = Some((header, taken));
                break;
            }
            let event = if header.opcode.is_control() {
                self.control(header, taken, payload, is_whole)?
            } else {
                self.data(header, taken, payload, is_whole)?
            };
            if event.is_some() {
                self.forget();
                return Ok((end, event.map(|event| event.place(at..end))));
            }
            at = end;
        }
        self.forget();
        Ok((at, None))
    }

    /// The frame that the input goes on with: its header, how much of its payload is here already, and how much of the
    /// input the header took. Nothing when the header is not whole.
    fn header(&mut self, input: &[u8]) -> Result<Option<(Header, u64, usize)>, Fault> {
        if let Some(begun) = self.begun.as_deref_mut() {
            if let Some((header, taken)) = begun.frame.take() {
                return Ok(Some((header, taken, 0)));
            }
            if begun.head_len > 0 {
                return self.cut_header(input);
            }
        }
        match Header::parse(input)? {
            Some((header, used)) => {
                self.check(&header)?;
                Ok(Some((header, 0, used)))
            }
            None => self.cut_header(input),
        }
    }

    /// A header whose bytes come in pieces.
    fn cut_header(&mut self, input: &[u8]) -> Result<Option<(Header, u64, usize)>, Fault> {
        let begun = self.begun.get_or_insert_default();
        for (used, byte) in (1..).zip(input) {
            begun.head[usize::from(begun.head_len)] = *byte;
            begun.head_len += 1;
            if let Some((header, _)) = Header::parse(&begun.head[..usize::from(begun.head_len)])? {
                begun.head_len = 0;
                self.check(&header)?;
                return Ok(Some((header, 0, used)));
            }
        }
        Ok(None)
    }

    /// Whether the frame may stand here, and fits.
    fn check(&self, header: &Header) -> Result<(), Fault> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let begun = self.begun.as_deref().filter(|begun| begun.kind.is_some());
        if begun.is_some() != (header.opcode == OpCode::Continuation) {
            return Err(Fault::Protocol);
        }
        let before = begun.map_or(0, |begun| begun.message.len());
        if header.len > (self.most - before) as u64 { Err(Fault::TooLarge) } else { Ok(()) }
    }

    fn control(&mut self, header: Header, taken: u64, payload: &[u8], is_whole: bool) -> Result<Option<Found>, Fault> {
        if taken == 0 && is_whole {
            return Found::control(header.opcode, payload).map(Some);
        }
        let begun = self.begun.get_or_insert_default();
        begun.control.reserve_exact(MOST_CONTROL as usize);
        begun.control.extend_from_slice(payload);
        if is_whole {
            let whole = std::mem::take(&mut begun.control);
            return Found::control(header.opcode, &whole).map(|found| match found {
                Found::Ping(_) => Some(Found::Ping(Some(whole))),
                other => Some(other),
            });
        }
        begun.frame = Some((header, taken + payload.len() as u64));
        Ok(None)
    }

    fn data(&mut self, header: Header, taken: u64, payload: &[u8], is_whole: bool) -> Result<Option<Found>, Fault> {
        let is_alone = taken == 0 && is_whole && header.is_final && header.opcode != OpCode::Continuation;
        if is_alone {
            return match header.opcode {
                OpCode::Text if std::str::from_utf8(payload).is_err() => Err(Fault::NotUtf8),
                opcode => Ok(Some(Found::Data(opcode, None))),
            };
        }
        let begun = self.begun.get_or_insert_default();
        let kind = *begun.kind.get_or_insert(header.opcode);
        if kind == OpCode::Text && !begun.text.takes(payload) {
            return Err(Fault::NotUtf8);
        }
        if begun.message.is_empty() {
            // One piece of memory for most messages; a peer that only says how much will come gets no more than this.
            begun.message.reserve_exact((header.len as usize).min(LENT));
        }
        begun.message.extend_from_slice(payload);
        if !is_whole {
            begun.frame = Some((header, taken + payload.len() as u64));
            return Ok(None);
        }
        if !header.is_final {
            return Ok((header.len == 0).then_some(Found::Nothing));
        }
        if !begun.text.is_whole() {
            return Err(Fault::NotUtf8);
        }
        begun.kind = None;
        Ok(Some(Found::Data(kind, Some(std::mem::take(&mut begun.message)))))
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let begun = self.begun.as_deref();
        begun.map_or(0, |begun| size_of::<Begun>() + begun.control.capacity() + begun.message.capacity())
    }

    /// Frees what has come to its end.
    fn forget(&mut self) {
        let is_over = |begun: &Begun| begun.head_len == 0 && begun.frame.is_none() && begun.kind.is_none();
        if self.begun.as_deref().is_some_and(is_over) {
            self.begun = None;
        }
    }
}

/// An event whose payload is in the input, unless it is given here.
enum Found {
    Data(OpCode, Option<Vec<u8>>),
    Ping(Option<Vec<u8>>),
    Pong,
    Nothing,
    Close(Option<u16>),
}

impl Found {
    fn control(opcode: OpCode, payload: &[u8]) -> Result<Self, Fault> {
        Ok(match opcode {
            OpCode::Ping => Self::Ping(None),
            OpCode::Close => Self::Close(close_code(payload)?),
            _ => Self::Pong,
        })
    }

    fn place(self, range: Range<usize>) -> Event {
        let at = |whole: Option<Vec<u8>>| whole.map_or(Payload::At(range), Payload::Whole);
        match self {
            Self::Data(OpCode::Text, whole) => Event::Text(at(whole)),
            Self::Data(_, whole) => Event::Binary(at(whole)),
            Self::Ping(whole) => Event::Ping(at(whole)),
            Self::Pong => Event::Pong,
            Self::Nothing => Event::Nothing,
            Self::Close(code) => Event::Close(code),
        }
    }
}

/// What a close frame says.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Fault::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Fault::Protocol);
    }
    std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
    Ok(Some(code))
}

#[cfg(test)]
pub(super) mod tests;
