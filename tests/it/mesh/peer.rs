//! A client that sends exactly what a test tells it to, and remembers every frame: it neither reconnects nor drops
//! duplicates. Its task (`peer_task`) owns the connection.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use natter::{
    client::{ConnectError, Connection, Endpoint},
    model::{ConvId, Seq},
    protocol::{
        Body, Encoding, ErrorCode, Message, ServerFrame, ask,
        client::Outgoing,
        server::{Receipt, Welcome},
    },
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};

use super::{
    peer_task::{Heard, Task},
    token,
};
use crate::harness::PATIENCE;

/// Whether a frame ends the backlog.
pub fn is_caught_up(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::CaughtUp { .. })
}

/// One session of a device, or a connection that has yet to send `hello`.
pub struct Peer {
    /// The encoding of its frames.
    pub encoding: Encoding,
    /// What the node said at the session's start, once it was welcomed.
    pub welcome: Option<Welcome>,
    orders: mpsc::UnboundedSender<Bytes>,
    heard: Arc<Heard>,
    acks: Arc<AtomicBool>,
    reads: Arc<AtomicBool>,
    wake: Arc<Notify>,
    next_ref: AtomicU64,
    task: JoinHandle<()>,
}

impl Peer {
    /// A session that acknowledges everything it gets.
    pub async fn join(url: &str, user: &str, device: &str, encoding: Encoding) -> Self {
        Self::join_as(url, &token(user), device, encoding, 0).await.unwrap()
    }

    /// A session that acknowledges nothing automatically, from its first message on.
    pub async fn join_quiet(url: &str, user: &str, device: &str, encoding: Encoding) -> Self {
        let token = token(user);
        let hello = Outgoing::Hello { token: Some(&token), device, client: "test/1", attempt: 0, since: None };
        Self::open(url, &hello, encoding, false).await.unwrap()
    }

    /// A session that goes on from what an earlier one was told ([`Peer::since`]).
    pub async fn resume(url: &str, user: &str, device: &str, encoding: Encoding, since: Option<&str>) -> Self {
        let token = token(user);
        let hello = Outgoing::Hello { token: Some(&token), device, client: "test/1", attempt: 0, since };
        Self::open(url, &hello, encoding, true).await.unwrap()
    }

    /// A session with a given token and attempt; the close if it was not let in.
    pub async fn join_as(
        url: &str,
        token: &str,
        device: &str,
        encoding: Encoding,
        attempt: u64,
    ) -> Result<Self, ConnectError> {
        let hello = Outgoing::Hello { token: Some(token), device, client: "test/1", attempt, since: None };
        Self::open(url, &hello, encoding, true).await
    }

    async fn open(url: &str, hello: &Outgoing<'_>, encoding: Encoding, acks: bool) -> Result<Self, ConnectError> {
        let mut connection = Connection::open(&Endpoint::new(url, encoding)).await?;
        let welcome = timeout(PATIENCE, connection.hello(hello)).await.expect("neither welcome nor a close came")?;
        let mut peer = Self::on(connection, acks);
        peer.welcome = Some(welcome);
        Ok(peer)
    }

    /// A connection that has sent nothing yet.
    pub async fn silent(endpoint: &Endpoint) -> Self {
        Self::on(Connection::open(endpoint).await.unwrap(), false)
    }

    fn on(connection: Connection, acks: bool) -> Self {
        let (orders, taken) = mpsc::unbounded_channel();
        let heard = Arc::new(Heard::default());
        let acks = Arc::new(AtomicBool::new(acks));
        let reads = Arc::new(AtomicBool::new(true));
        let wake = Arc::new(Notify::new());
        let encoding = connection.encoding();
        let own = Task { connection, orders: taken, heard: heard.clone(), acks: acks.clone(), reads: reads.clone() };
        let task = tokio::spawn(own.run(wake.clone()));
        Self { encoding, welcome: None, orders, heard, acks, reads, wake, next_ref: AtomicU64::new(1), task }
    }

    /// Stops acknowledging automatically.
    pub fn hold_acks(&self) {
        self.acks.store(false, Ordering::Release);
    }

    /// Stops reading the socket: frames pile up in the system's buffers, then at the node.
    pub fn stop_reading(&self) {
        self.reads.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    /// Reads again.
    pub fn read_on(&self) {
        self.reads.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Sends a frame.
    pub fn say(&self, frame: &Outgoing<'_>) {
        self.say_raw(self.encoding.encode(frame));
    }

    /// Sends bytes, whatever they are.
    pub fn say_raw(&self, payload: impl Into<Bytes>) {
        // After the end there is nowhere to send it; the test sees the close.
        let _ = self.orders.send(payload.into());
    }

    /// Acknowledges.
    pub fn ack(&self, conv: &str, seq: Seq) {
        self.say(&Outgoing::Ack { conv, seq });
    }

    /// A number for `ref` that this connection has not used.
    pub fn fresh_ref(&self) -> u64 {
        self.next_ref.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a message and returns the answer, `sent` or an error.
    pub async fn try_send(&self, to: &str, cid: &str, body: &Body) -> ServerFrame {
        let reference = self.begin_send(to, cid, body);
        self.answer(reference).await
    }

    /// Sends without waiting; returns the `ref` to wait for.
    pub fn begin_send(&self, to: &str, cid: &str, body: &Body) -> u64 {
        let reference = self.fresh_ref();
        self.say(&Outgoing::Send {
            reference: Some(reference),
            to,
            cid,
            body,
            reply_to: None,
            mentions: &[],
            expires: None,
        });
        reference
    }

    /// Sends a text and returns its place.
    pub async fn send(&self, to: &str, cid: &str, text: &str) -> (ConvId, Seq) {
        match self.try_send(to, cid, &Body::text(text)).await {
            ServerFrame::Sent(ask::Sent { conv, seq, .. }) => (conv, seq),
            other => panic!("no sent for {cid}: {other:?}"),
        }
    }

    /// Waits for the answer to a request that changes nothing: then the node has read everything sent before.
    pub async fn round_trip(&self) {
        let reference = self.fresh_ref();
        self.say(&Outgoing::Conversations { reference: Some(reference), after: None, limit: 1 });
        self.answer(reference).await;
    }

    /// A page of a log: its seqs, and whether there is more.
    pub async fn history(&self, conv: &str, before: Option<Seq>, after: Option<Seq>, limit: usize) -> (Vec<Seq>, bool) {
        let reference = self.fresh_ref();
        self.say(&Outgoing::History {
            reference: Some(reference),
            conv,
            before,
            after,
            around: None,
            limit,
            raw: true,
        });
        match self.answer(reference).await {
            ServerFrame::History(ask::HistoryPage { conv: answered, messages, more, .. }) => {
                assert_eq!(answered.as_str(), conv);
                (messages.iter().map(|message| message.seq).collect(), more)
            }
            other => panic!("no history: {other:?}"),
        }
    }

    /// The answer with this `ref`.
    pub async fn answer(&self, reference: u64) -> ServerFrame {
        self.wait(&format!("the answer to ref {reference}"), |frames| {
            frames.iter().find(|frame| frame.reference() == Some(reference)).cloned()
        })
        .await
    }

    /// Waits until `find` finds something among all frames so far.
    pub async fn wait<T>(&self, what: &str, find: impl Fn(&[ServerFrame]) -> Option<T>) -> T {
        self.wait_for(PATIENCE, what, find).await
    }

    /// The same, for at most `patience`.
    pub async fn wait_for<T>(&self, patience: Duration, what: &str, find: impl Fn(&[ServerFrame]) -> Option<T>) -> T {
        let found = timeout(patience, async {
            loop {
                let changed = self.heard.changed.notified();
                if let Some(found) = find(&self.heard.frames.lock()) {
                    return Ok(found);
                }
                if let Some(closed) = self.closed_now() {
                    return Err(closed);
                }
                changed.await;
            }
        });
        match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(closed)) => panic!("closed with {closed:?} before {what}; {}", self.summary()),
            Err(_) => panic!("waited in vain for {what}; {}", self.summary()),
        }
    }

    fn summary(&self) -> String {
        let frames = self.heard.frames.lock();
        let last: Vec<_> = frames.iter().rev().take(5).map(|frame| short(&format!("{frame:?}"))).collect();
        format!("{} frames came, the last first: {last:#?}", frames.len())
    }

    /// Waits for a message of a conversation.
    pub async fn message(&self, conv: &str, seq: Seq) -> Message {
        self.wait(&format!("{conv} {seq}"), |frames| {
            messages(frames).find(|m| m.conv.as_str() == conv && m.seq == seq).cloned()
        })
        .await
    }

    /// Waits for a receipt that `wanted` accepts.
    pub async fn receipt(&self, what: &str, wanted: impl Fn(&Receipt) -> bool) -> Receipt {
        self.wait(what, |frames| {
            frames.iter().find_map(|frame| match frame {
                ServerFrame::Receipt(receipt) if wanted(receipt) => Some(receipt.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Waits for `caught_up`.
    pub async fn caught_up(&self) {
        self.wait("caught_up", |frames| frames.iter().find(|f| is_caught_up(f)).map(drop)).await;
    }

    /// Waits for `caught_up`, and says what it brought for the next `hello`.
    pub async fn since(&self) -> Option<String> {
        self.wait("caught_up", |frames| {
            frames.iter().find_map(|frame| match frame {
                ServerFrame::CaughtUp { since } => Some(since.as_deref().map(str::to_owned)),
                _ => None,
            })
        })
        .await
    }

    /// Waits for an error with this code and returns its message.
    pub async fn error(&self, wanted: ErrorCode) -> String {
        self.wait(&format!("the error {}", wanted.word()), |frames| {
            frames.iter().find_map(|frame| match frame {
                ServerFrame::Error { code, message, .. } if *code == wanted => Some(message.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Waits for the end: close code and message.
    pub async fn closed(&self) -> (u16, String) {
        let end = async {
            loop {
                let changed = self.heard.changed.notified();
                if let Some(closed) = self.closed_now() {
                    return closed;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("was never closed; {}", self.summary()))
    }

    /// The end, if it has come.
    pub fn closed_now(&self) -> Option<(u16, String)> {
        self.heard.closed.lock().clone()
    }

    /// Whether there is such a frame among all so far. Waiting with it looks now and then, and not at each frame again at all
    /// before it: for tests with very many.
    pub fn has(&self, is: impl Fn(&ServerFrame) -> bool) -> bool {
        self.heard.frames.lock().iter().any(is)
    }

    /// How many frames there are so far.
    pub fn heard(&self) -> usize {
        self.heard.frames.lock().len()
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<ServerFrame> {
        self.heard.frames.lock().clone()
    }

    /// The messages so far, in the order in which they arrived.
    pub fn messages(&self) -> Vec<Message> {
        messages(&self.heard.frames.lock()).cloned().collect()
    }

    /// The seqs of a conversation so far, in the order in which they arrived.
    pub fn seqs(&self, conv: &str) -> Vec<Seq> {
        let frames = self.heard.frames.lock();
        messages(&frames).filter(|m| m.conv.as_str() == conv).map(|m| m.seq).collect()
    }

    /// Forgets what has arrived, so that a wait finds only what follows.
    pub fn forget(&self) {
        self.heard.frames.lock().clear();
    }

    /// Ends the connection as a crash would, without a close frame; what has arrived stays here.
    pub fn cut(&self) {
        self.task.abort();
    }

    /// The same for a peer that is no longer needed.
    pub fn vanish(self) {
        self.cut();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The messages among frames.
pub fn messages(frames: &[ServerFrame]) -> impl Iterator<Item = &Message> {
    frames.iter().filter_map(|frame| match frame {
        ServerFrame::Message(message) => Some(message),
        _ => None,
    })
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

impl Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({})", self.summary())
    }
}
