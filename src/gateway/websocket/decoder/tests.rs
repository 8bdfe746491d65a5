//! The codec given its bytes in every way that a network may cut them.

use std::io::Cursor;

use proptest::{collection::vec, prelude::*, sample::Index};
use tokio_tungstenite::tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::*;

const MOST: usize = 1_000;

/// What came out, with the bytes themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Out {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// A frame as a client writes it.
pub(in super::super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    // A client's header is a server's with the mask's bit and the mask.
    Header::write(OpCode::Text, payload.len(), &mut bytes);
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Decodes pieces: everything up to the close frame, the fault, or the end of the input.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Out>, Result<Decoder, Fault>) {
    let (mut decoder, mut out) = (Decoder::new(MOST), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (used, event) = match decoder.next(rest) {
                Ok(done) => done,
                Err(fault) => return (out, Err(fault)),
            };
            let bytes = |payload| match payload {
                Payload::At(range) => rest[range].to_vec(),
                Payload::Whole(bytes) => bytes,
            };
            out.extend(event.and_then(|event| match event {
                Event::Text(payload) => Some(Out::Text(bytes(payload))),
                Event::Binary(payload) => Some(Out::Binary(bytes(payload))),
                Event::Ping(payload) => Some(Out::Ping(bytes(payload))),
                Event::Pong => Some(Out::Pong),
                Event::Nothing => None,
                Event::Close(code) => Some(Out::Close(code)),
            }));
            if matches!(out.last(), Some(Out::Close(_))) {
                return (out, Ok(decoder));
            }
            rest = &mut rest[used..];
        }
    }
    (out, Ok(decoder))
}

/// The pieces between cuts.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// The bytes in one piece, each alone, in two pieces at every place, and cut at random give the same.
fn always_the_same(bytes: &[u8], cuts: &[Index]) -> (Vec<Out>, Option<Fault>) {
    let (expected, end) = decode([bytes]);
    let end = end.err();
    let check = |pieces: Vec<&[u8]>| {
        let (out, other) = decode(pieces.iter().copied());
        assert_eq!((&out, other.err()), (&expected, end), "{pieces:x?}");
    };
    check(bytes.chunks(1).collect());
    (0..=bytes.len()).for_each(|at| check(vec![&bytes[..at], &bytes[at..]]));
    check(cut(bytes, cuts));
    (expected, end)
}

/// What the library reads from the same bytes: messages, and whether it found a fault.
fn library(bytes: &[u8]) -> (Vec<Out>, bool) {
    let config = WebSocketConfig::default().max_message_size(Some(MOST)).max_frame_size(Some(MOST));
    // Answers to pings are written into the same vector, behind what it reads.
    let stream = Duplex(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut out = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => out.push(Out::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => out.push(Out::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => out.push(Out::Ping(bytes.to_vec())),
            Ok(Message::Pong(_)) => out.push(Out::Pong),
            Ok(Message::Close(frame)) => {
                out.push(Out::Close(frame.map(|frame| frame.code.into())));
                return (out, false);
            }
            Ok(Message::Frame(_)) => unreachable!("not read"),
            Err(tokio_tungstenite::tungstenite::Error::Io(_)) => return (out, false),
            Err(error) => {
                use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake as Reset;
                let is_end = matches!(error, tokio_tungstenite::tungstenite::Error::Protocol(Reset));
                return (out, !is_end);
            }
        }
    }
}

/// Reads bytes and forgets what is written.
struct Duplex(Cursor<Vec<u8>>);

impl std::io::Read for Duplex {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl std::io::Write for Duplex {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Some of what a client may say: a message in fragments, with control frames between them.
fn said() -> impl Strategy<Value = (Vec<u8>, Vec<Out>)> {
    let text = "[a-zä€𐍈]{0,60}".prop_map(|text: String| (true, text.into_bytes()));
    let large = (126..300_usize).prop_map(|len| (false, vec![7; len]));
    let message = prop_oneof![text, vec(any::<u8>(), 0..40).prop_map(|bytes| (false, bytes)), large];
    let between = prop_oneof![
        4 => Just(None),
        1 => vec(any::<u8>(), 0..126).prop_map(|bytes| Some((0x89, bytes))),
        1 => vec(any::<u8>(), 0..10).prop_map(|bytes| Some((0x8a, bytes))),
    ];
    (message, vec((any::<Index>(), between), 0..4)).prop_map(|((is_text, payload), pieces)| {
        let (cuts, between): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        let fragments = cut(&payload, &cuts);
        for (i, fragment) in fragments.iter().enumerate() {
            let opcode = if i > 0 { 0 } else { 2 - u8::from(is_text) };
            let fin = if i + 1 == fragments.len() { 0x80 } else { 0 };
            bytes.extend(frame(opcode | fin, fragment));
            let Some(Some((first, payload))) = between.get(i).filter(|_| fin == 0) else { continue };
            bytes.extend(frame(*first, payload));
            out.push(if *first == 0x89 { Out::Ping(payload.clone()) } else { Out::Pong });
        }
        out.push(if is_text { Out::Text(payload) } else { Out::Binary(payload) });
        (bytes, out)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_says_comes_out_however_it_is_cut(said in vec(said(), 1..4), cuts in vec(any::<Index>(), 0..6)) {
        let bytes: Vec<_> = said.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expected: Vec<_> = said.into_iter().flat_map(|(_, out)| out).collect();
        prop_assert_eq!(always_the_same(&bytes, &cuts), (expected, None));
        let (_, decoder) = decode(bytes.chunks(3));
        prop_assert_eq!(decoder.unwrap().held(), 0, "something is kept of what was handed out");
    }

    /// Rubbish, and what is almost right: no panic, the same whatever the cuts, and never more than the library takes.
    #[test]
    fn whatever_comes_is_judged_the_same_however_it_is_cut(
        said in vec(said(), 0..3),
        wrong in vec((any::<Index>(), any::<u8>()), 0..4),
        tail in vec(any::<u8>(), 0..30),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut bytes: Vec<_> = said.into_iter().flat_map(|(bytes, _)| bytes).chain(tail).collect();
        for (at, byte) in wrong {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let (ours, fault) = always_the_same(&bytes, &cuts);
        let (theirs, has_fault) = library(&bytes);
        prop_assert_eq!(&ours[..], &theirs[..ours.len().min(theirs.len())], "{:x?}", bytes);
        prop_assert!(fault.is_some() || (theirs.len() == ours.len() && !has_fault), "{theirs:?}: {bytes:x?}");
    }
}

/// Each place where text may be broken, in one frame, in fragments, and byte by byte.
#[test]
fn text_that_is_wrong_ends_it_as_early_as_it_can_be_known() {
    let wrong: [&[u8]; 5] = [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x28\xa1"];
    for wrong in wrong {
        let known = (1..=wrong.len())
            .find(|&len| std::str::from_utf8(&wrong[..len]).is_err_and(|error| error.error_len().is_some()));
        let known = b"ok \xce\xba".len() + known.unwrap();
        let whole = frame(0x81, &[b"ok \xce\xba", wrong, b" and much more"].concat());
        assert_eq!(always_the_same(&whole, &[]), (vec![], Some(Fault::NotUtf8)));
        let mut decoder = Decoder::new(MOST);
        let header = 6;
        for (i, byte) in whole.iter().enumerate() {
            match decoder.next(&mut [*byte]) {
                Ok(_) => assert!(i + 1 < header + known, "{wrong:x?}: taken at {i}"),
                Err(fault) => {
                    assert_eq!((fault, i + 1), (Fault::NotUtf8, header + known), "{wrong:x?}");
                    break;
                }
            }
        }
    }
    // A text may not end in the middle of a character, in whatever frame it began.
    let cut_off = [frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat();
    assert_eq!(always_the_same(&cut_off, &[]), (vec![], Some(Fault::NotUtf8)));
    let joined = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
    assert_eq!(always_the_same(&joined, &[]), (vec![Out::Text("€".into())], None));
}

#[test]
fn fragments_stand_in_order() {
    let wrong = [
        frame(0x80, b"of nothing"),
        [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        [frame(0x02, b"a"), frame(0x01, b"b")].concat(),
        [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat(),
    ];
    for bytes in wrong {
        assert_eq!(always_the_same(&bytes, &[]).1, Some(Fault::Protocol), "{bytes:x?}");
    }
}

#[test]
fn the_limit_holds_for_the_message_and_before_it_is_taken_in() {
    let fits = [frame(0x02, &[1; MOST - 1]), frame(0x80, &[1])].concat();
    assert_eq!(always_the_same(&fits, &[]).1, None);
    let over = [frame(0x02, &[1; MOST - 1]), frame(0x80, &[1, 2])].concat();
    assert_eq!(always_the_same(&over, &[]), (vec![], Some(Fault::TooLarge)));
    let (mut decoder, mut announced) = (Decoder::new(MOST), frame(0x82, &vec![0; 70_000]));
    assert_eq!(decoder.next(&mut announced[..Header::MOST]), Err(Fault::TooLarge));
    // Fragments of nothing cost nothing.
    let (mut decoder, mut empty) = (Decoder::new(MOST), frame(0x02, b""));
    decoder.next(&mut empty).unwrap();
    for _ in 0..10_000 {
        // But each is told of, or nobody would ever close whoever sends them all day.
        let mut nothing = frame(0x00, b"");
        assert_eq!(decoder.next(&mut nothing), Ok((nothing.len(), Some(Event::Nothing))));
    }
    assert!(decoder.held() < 256, "{}", decoder.held());
}

#[test]
fn who_announces_much_and_sends_little_costs_little() {
    let (mut decoder, mut announced) = (Decoder::new(16 << 20), frame(0x82, &vec![0; 9 << 20]));
    decoder.next(&mut announced[..100]).unwrap();
    assert!(decoder.held() <= LENT + 256, "{}", decoder.held());
}

#[test]
fn close_frames_say_what_they_may() {
    let close = |code: u16, reason: &[u8]| always_the_same(&frame(0x88, &[&code.to_be_bytes(), reason].concat()), &[]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        assert_eq!(close(code, b"why"), (vec![Out::Close(Some(code))], None));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(close(code, b""), (vec![], Some(Fault::Protocol)), "{code}");
    }
    assert_eq!(always_the_same(&frame(0x88, b""), &[]), (vec![Out::Close(None)], None));
    assert_eq!(always_the_same(&frame(0x88, b"\x03"), &[]), (vec![], Some(Fault::Protocol)));
    assert_eq!(close(1000, b"\xff"), (vec![], Some(Fault::NotUtf8)));
    assert_eq!(close(1000, &[b'x'; 123]).1, None);
}
