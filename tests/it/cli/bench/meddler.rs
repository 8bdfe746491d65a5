//! A network that breaks the promises: before a node, it drops or repeats one message to a client. Called by the tests of
//! `natter bench`, which must notice.

use std::{
    mem,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::harness::proxy::Proxy;

/// Which message of all that pass is touched, counted from 0.
const NTH: usize = 7;

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// It does not arrive.
    Drop,
    /// It arrives twice.
    Repeat,
}

/// A proxy before the node at `target`. The filter takes the node's WebSocket frames apart, which are not masked.
pub async fn meddler(target: SocketAddr, meddling: Meddling) -> Proxy {
    let passed = Arc::new(AtomicUsize::new(0));
    Proxy::filtered(target, move |_| {
        let (passed, mut parser) = (passed.clone(), Frames::default());
        Box::new(move |bytes| {
            let mut out = Vec::new();
            for piece in parser.split(bytes) {
                let is_message = piece.windows(14).any(|part| part == b"\"op\":\"message\"");
                match is_message && passed.fetch_add(1, Ordering::AcqRel) == NTH {
                    true if meddling == Meddling::Drop => {}
                    true => out.extend([&piece[..], &piece].concat()),
                    false => out.extend(piece),
                }
            }
            out
        })
    })
    .await
}

/// What came of a connection and is no whole frame yet. Begins with the answer to the upgrade.
#[derive(Default)]
struct Frames {
    rest: Vec<u8>,
    upgraded: bool,
}

impl Frames {
    fn split(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while let Some(len) = self.next_len().filter(|len| *len <= self.rest.len()) {
            let rest = self.rest.split_off(len);
            pieces.push(mem::replace(&mut self.rest, rest));
            self.upgraded = true;
        }
        pieces
    }

    fn next_len(&self) -> Option<usize> {
        if !self.upgraded {
            return self.rest.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        }
        match self.rest.get(1)? & 0x7f {
            126 => Some(4 + usize::from(u16::from_be_bytes(self.rest.get(2..4)?.try_into().ok()?))),
            127 => usize::try_from(u64::from_be_bytes(self.rest.get(2..10)?.try_into().ok()?)).ok().map(|len| 10 + len),
            len => Some(2 + usize::from(len)),
        }
    }
}
