//! A proxy that understands NATS well enough to lose, repeat, hold back and reorder single notices on their way to
//! one node. Faults are values: a condition and what becomes of the notices that meet it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use natter::protocol::{Encoding, server::OnBus};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

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

/// What becomes of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Pass,
    /// It does not.
    Lose,
    /// It arrives this many times.
    Repeat(usize),
    /// It waits for [`Faults::release`].
    Hold,
}

type Rule = Box<dyn FnMut(&Notice) -> Fate + Send>;

#[derive(Default)]
struct Shared {
    rule: Mutex<Option<Rule>>,
    held: Mutex<Vec<Notice>>,
    out: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    touched: AtomicUsize,
}

/// The proxy. Ends when dropped.
pub struct Faults {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Faults {
    /// A proxy to the server at `target` that passes everything.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(accept(listener, target, shared.clone()));
        Self { addr, shared, task }
    }

    /// The proxy as a NATS address.
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// From now on `rule` decides about everything on users' subjects.
    pub fn set(&self, rule: impl FnMut(&Notice) -> Fate + Send + 'static) {
        *self.shared.rule.lock() = Some(Box::new(rule));
    }

    /// Everything passes again; what is held stays held.
    pub fn clear(&self) {
        *self.shared.rule.lock() = None;
    }

    /// Notices that did not simply pass so far.
    pub fn touched(&self) -> usize {
        self.shared.touched.load(Ordering::Acquire)
    }

    /// Lets go what was held, the last first.
    pub fn release_reversed(&self) -> usize {
        let held = std::mem::take(&mut *self.shared.held.lock());
        let out = self.shared.out.lock();
        for notice in held.iter().rev() {
            if let Some(out) = &*out {
                let _ = out.send(notice.bytes.clone());
            }
        }
        held.len()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut pairs = tokio::task::JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let shared = shared.clone();
        pairs.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((mut near_in, near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
            let (out, queue) = mpsc::unbounded_channel();
            *shared.out.lock() = Some(out.clone());
            tokio::select! {
                _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
                _ = write_all(queue, near_out) => {}
                _ = read_all(BufReader::new(far_in), &shared, &out) => {}
            }
        });
    }
}

async fn write_all(
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    while let Some(bytes) = queue.recv().await {
        to.write_all(&bytes).await?;
    }
    Ok(())
}

/// Splits the server's side of the protocol into its lines and payloads.
async fn read_all(
    mut from: impl AsyncBufReadExt + Unpin,
    shared: &Shared,
    out: &mpsc::UnboundedSender<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        let mut bytes = Vec::new();
        if from.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let words: Vec<_> = line.split(' ').collect();
        let subject = match (words.first(), words.get(1)) {
            (Some(&("MSG" | "HMSG")), Some(subject)) => (*subject).to_owned(),
            _ => {
                let _ = out.send(bytes);
                continue;
            }
        };
        let len: usize = words.last().and_then(|word| word.parse().ok()).unwrap_or(0);
        let head = bytes.len();
        bytes.resize(head + len + 2, 0);
        from.read_exact(&mut bytes[head..]).await?;
        let payload = &bytes[head..head + len];
        let is_user = words[0] == "MSG" && subject.split('.').nth(1) == Some("user");
        let content = is_user.then(|| read(payload)).flatten();
        pass(Notice { content, bytes }, is_user, shared, out);
    }
}

fn read(payload: &[u8]) -> Option<OnBus> {
    debug_assert_eq!(Encoding::sniff(payload), Encoding::MsgPack);
    OnBus::decode(payload).ok()
}

fn pass(notice: Notice, is_user: bool, shared: &Shared, out: &mpsc::UnboundedSender<Vec<u8>>) {
    let fate = match &mut *shared.rule.lock() {
        Some(rule) if is_user => rule(&notice),
        _ => Fate::Pass,
    };
    match fate {
        Fate::Pass => drop(out.send(notice.bytes)),
        Fate::Lose => {}
        Fate::Repeat(times) => (0..times).for_each(|_| drop(out.send(notice.bytes.clone()))),
        Fate::Hold => shared.held.lock().push(notice),
    }
    if fate != Fate::Pass {
        shared.touched.fetch_add(1, Ordering::AcqRel);
    }
}
