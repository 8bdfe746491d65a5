//! One connection to a server, polled by hand: one wake-up reads all that has come, calls whoever it is for, and writes all
//! that waits, in one write. Nobody here is waited for but the socket, so a reader that is slow to read does not exist.
//! Called by [`super::keep`].

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    codec::{Decoded, Malformed, decode},
    ops::ServerOp,
    state::{Next, Shared},
};

/// The size of the read buffer; a larger message makes it grow for as long as it is there.
const READ: usize = 64 << 10;

/// Reads before a write gets its turn.
const READS_AT_ONCE: usize = 8;

/// How often the connection is looked at without a reason; also the shortest time between two equal warnings.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A server that owes an answer to a PING for so many intervals is dead, or the way to it is.
const INTERVALS_UNANSWERED: u32 = 2;

/// A stream to a server: TCP, TLS, or a test's.
pub(super) type Stream = Box<dyn Wire>;

/// What a stream must do.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the server closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not the NATS protocol: {0}")]
    Malformed(#[from] Malformed),
    #[error("the server does not answer")]
    Stale,
    #[error("it takes too little of what must be sent")]
    Hopeless,
}

/// What was read and not understood yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// That much of it is understood.
    pub(super) fn used(&mut self, count: usize) {
        self.start += count;
    }

    /// Room to read into: for what is missing of an op of `needed` bytes, and for more.
    fn room(&mut self, needed: usize) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let size = if needed > READ { needed + READ } else { READ };
        // Given back as soon as the large message is through.
        if self.buffer.len() > size && self.end <= size {
            self.buffer.truncate(size);
            self.buffer.shrink_to_fit();
        } else if self.buffer.len() < size {
            // Not by doubling.
            self.buffer.reserve_exact(size - self.buffer.len());
            self.buffer.resize(size, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Reads once; false at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        needed: usize,
    ) -> Poll<io::Result<bool>> {
        let mut read = ReadBuf::new(self.room(needed));
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let count = read.filled().len();
        self.end += count;
        Poll::Ready(Ok(count > 0))
    }
}

/// A connection that a server took.
pub(super) struct Conn {
    stream: Stream,
    input: Input,
    /// The bytes that the first op in the input needs.
    needed: usize,
    output: Vec<u8>,
    written: usize,
    is_flushed: bool,
    look: Interval,
    ping_interval: Duration,
    pinged: Instant,
}

impl Conn {
    /// `input` is what came behind the server's first answers.
    pub(super) fn new(stream: Stream, input: Input, ping_interval: Duration) -> Self {
        let now = Instant::now();
        let mut look = interval_at(now + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (output, written, is_flushed) = (Vec::new(), 0, true);
        Self { stream, input, needed: 0, output, written, is_flushed, look, ping_interval, pinged: now }
    }

    /// Reads and writes until the connection is lost.
    pub(super) async fn run(&mut self, shared: &Shared) -> Lost {
        poll_fn(|cx| self.poll(cx, shared)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Lost> {
        shared.wakes(cx.waker());
        // Until it has the task's waker again.
        while self.look.poll_tick(cx).is_ready() {
            if let Err(lost) = self.on_look(shared) {
                return Poll::Ready(lost);
            }
        }
        // Reading first: what those who are called publish goes out with the rest.
        for poll in [self.poll_read(cx, shared), self.poll_write(cx, shared)] {
            if let Poll::Ready(Err(lost)) = poll {
                return Poll::Ready(lost);
            }
        }
        Poll::Pending
    }

    fn on_look(&mut self, shared: &Shared) -> Result<(), Lost> {
        shared.tell_overflow();
        if shared.is_hopeless() {
            return Err(Lost::Hopeless);
        }
        let patience = self.ping_interval * INTERVALS_UNANSWERED;
        if shared.unanswered_since().is_some_and(|since| since.elapsed() >= patience) {
            return Err(Lost::Stale);
        }
        if self.pinged.elapsed() >= self.ping_interval {
            self.pinged = Instant::now();
            shared.ping();
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Result<(), Lost>> {
        for _ in 0..READS_AT_ONCE {
            self.digest(shared)?;
            if !ready!(self.input.poll_read(cx, &mut self.stream, self.needed))? {
                return Poll::Ready(Err(Lost::Closed));
            }
        }
        self.digest(shared)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Acts on every op that is whole.
    fn digest(&mut self, shared: &Shared) -> Result<(), Lost> {
        loop {
            let used = match decode(self.input.bytes())? {
                Decoded::Op(op, used) => {
                    on_op(op, shared);
                    used
                }
                Decoded::Part(needed) => {
                    self.needed = needed;
                    return Ok(());
                }
            };
            self.input.used(used);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Result<(), Lost>> {
        loop {
            if self.written == self.output.len() {
                self.written = 0;
                match shared.next(std::mem::take(&mut self.output)) {
                    Next::Piece(piece) => self.output = piece,
                    Next::Nothing => break,
                    Next::GiveUp => return Poll::Ready(Err(Lost::Hopeless)),
                }
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(Lost::Closed));
            }
            self.written += count;
            self.is_flushed = false;
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Pending
    }
}

fn on_op(op: ServerOp<'_>, shared: &Shared) {
    match op {
        ServerOp::Msg(msg) => shared.on_msg(&msg),
        ServerOp::Ping => shared.pong(),
        ServerOp::Pong => shared.on_pong(),
        ServerOp::Info(info) => shared.on_info(*info),
        ServerOp::Err(text) => shared.on_error(text),
        ServerOp::Ok => {}
    }
}
