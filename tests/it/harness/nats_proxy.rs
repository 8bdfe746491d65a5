//! The proxy with an understanding of NATS: it loses, repeats, holds back and reorders single notices on their way to
//! one node. Rules are values: which notices, and what happens to them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use natter::protocol::{Encoding, server::OnBus};
use parking_lot::Mutex;

use super::proxy::{Injector, Proxy};

/// A notice on its way to the node.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What it is, as a node reads it; `None` for what no node published to a user.
    pub content: Option<OnBus>,
    bytes: Vec<u8>,
}

impl Notice {
    /// The seq of a message.
    pub fn seq(&self) -> Option<u64> {
        match &self.content {
            Some(OnBus::Message { seq, .. }) => Some(*seq),
            _ => None,
        }
    }

    /// Whether it is the announcement of a session.
    pub fn is_announcement(&self) -> bool {
        matches!(self.content, Some(OnBus::Session(_)))
    }
}

/// What happens to a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Pass,
    /// It is lost.
    Lose,
    /// It arrives this many times.
    Repeat(usize),
    /// It waits for [`NatsProxy::release_reversed`].
    Hold,
}

type Rule = Box<dyn FnMut(&Notice) -> Fate + Send>;

#[derive(Default)]
struct Shared {
    rule: Mutex<Option<Rule>>,
    held: Mutex<Vec<Notice>>,
    /// The latest connection: what was held goes there.
    out: Mutex<Option<Injector>>,
    touched: AtomicUsize,
}

/// A proxy between one node and its NATS server.
pub struct NatsProxy {
    proxy: Proxy,
    shared: Arc<Shared>,
}

impl NatsProxy {
    /// A proxy to the server at `target` that passes everything.
    pub async fn to(target: SocketAddr) -> Self {
        let shared = Arc::<Shared>::default();
        let filtering = shared.clone();
        let proxy = Proxy::filtered(target, move |out| {
            *filtering.out.lock() = Some(out);
            let (shared, mut parser) = (filtering.clone(), Parser::default());
            Box::new(move |bytes| parser.split(bytes).into_iter().flat_map(|part| shared.decide(part)).collect())
        });
        Self { proxy: proxy.await, shared }
    }

    /// The proxy as a NATS address.
    pub fn nats_url(&self) -> String {
        self.proxy.nats_url()
    }

    /// From now on, `rule` decides about everything on users' subjects.
    pub fn set(&self, rule: impl FnMut(&Notice) -> Fate + Send + 'static) {
        *self.shared.rule.lock() = Some(Box::new(rule));
    }

    /// Everything passes again; what is held stays held.
    pub fn clear(&self) {
        *self.shared.rule.lock() = None;
    }

    /// How many notices so far did not simply pass.
    pub fn touched(&self) -> usize {
        self.shared.touched.load(Ordering::Acquire)
    }

    /// Releases what was held, the last first; returns how many.
    pub fn release_reversed(&self) -> usize {
        let held = std::mem::take(&mut *self.shared.held.lock());
        let out = self.shared.out.lock();
        for notice in held.iter().rev() {
            // If the connection has ended, nothing is there to hear it.
            let _ = out.as_ref().map(|out| out.send(notice.bytes.clone()));
        }
        held.len()
    }
}

impl Shared {
    /// What to pass on for one part of the stream.
    fn decide(&self, part: Part) -> Vec<u8> {
        let notice = match part {
            Part::Other(bytes) => return bytes,
            Part::Notice(notice) => notice,
        };
        let fate = self.rule.lock().as_mut().map_or(Fate::Pass, |rule| rule(&notice));
        if fate != Fate::Pass {
            self.touched.fetch_add(1, Ordering::AcqRel);
        }
        match fate {
            Fate::Pass => notice.bytes,
            Fate::Lose => Vec::new(),
            Fate::Repeat(times) => notice.bytes.repeat(times),
            Fate::Hold => {
                self.held.lock().push(notice);
                Vec::new()
            }
        }
    }
}

/// A line of the server's side of the protocol with its payload, or a whole message to a user's subject.
enum Part {
    Other(Vec<u8>),
    Notice(Notice),
}

/// Splits the server's side of the protocol into its lines and payloads, wherever the network cut it.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
}

impl Parser {
    /// The parts that are complete so far.
    fn split(&mut self, bytes: &[u8]) -> Vec<Part> {
        self.rest.extend(bytes);
        let mut parts = Vec::new();
        while let Some((len, payload, is_user)) = self.first() {
            let bytes: Vec<_> = self.rest.drain(..len).collect();
            parts.push(if is_user {
                let content = read(&bytes[len - payload - 2..len - 2]);
                Part::Notice(Notice { content, bytes })
            } else {
                Part::Other(bytes)
            });
        }
        parts
    }

    /// The length of the first part, that of its payload, and whether it is for a user; `None` while it is incomplete.
    fn first(&self) -> Option<(usize, usize, bool)> {
        let line = self.rest.iter().position(|byte| *byte == b'\n')? + 1;
        let text = String::from_utf8_lossy(&self.rest[..line]);
        let words: Vec<_> = text.trim_end().split(' ').collect();
        let (Some(&verb @ ("MSG" | "HMSG")), Some(subject)) = (words.first(), words.get(1)) else {
            return Some((line, 0, false));
        };
        let payload: usize = words.last().and_then(|word| word.parse().ok()).expect("a message says how long it is");
        let len = line + payload + 2;
        let is_user = verb == "MSG" && subject.split('.').nth(1) == Some("user");
        (self.rest.len() >= len).then_some((len, payload, is_user))
    }
}

fn read(payload: &[u8]) -> Option<OnBus> {
    debug_assert_eq!(Encoding::sniff(payload), Encoding::MsgPack);
    OnBus::decode(payload).ok()
}

#[test]
fn the_parser_gives_the_same_parts_wherever_the_network_cuts() {
    // Payloads may contain line ends.
    let stream = b"INFO {}\r\nMSG natter.user.bob 7 4\r\n\x83\r\n\x01\r\nHMSG x 1 2 3\r\nabc\r\nPING\r\n\
                   MSG natter.user.al 7 r 1\r\n\x80\r\n";
    let wanted: [&[u8]; 5] = [b"INFO {}\r\n", b"\x83\r\n\x01", b"HMSG x 1 2 3\r\nabc\r\n", b"PING\r\n", b"\x80"];
    for size in 1..stream.len() {
        let mut parser = Parser::default();
        let parts: Vec<_> = stream.chunks(size).flat_map(|piece| parser.split(piece)).collect();
        assert_eq!(parts.len(), wanted.len(), "pieces of {size}");
        for (part, wanted) in parts.into_iter().zip(wanted) {
            match part {
                Part::Other(bytes) => assert_eq!(bytes, wanted, "pieces of {size}"),
                Part::Notice(notice) => {
                    assert!(notice.bytes.starts_with(b"MSG natter.user.") && notice.bytes.ends_with(b"\r\n"));
                    let payload = notice.bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
                    assert_eq!(payload.strip_suffix(b"\r\n"), Some(wanted), "pieces of {size}");
                }
            }
        }
    }
}
