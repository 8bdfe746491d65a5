//! The writer thread: takes whatever is waiting, commits it as one, answers. Started and stopped by
//! [`super::EmbeddedStore`].
//!
//! There is no timer. While one commit waits for the disk the next requests gather in the queue, so commits grow
//! with the load, and a lone append waits for one fsync and nothing else.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use fjall::PersistMode;
use tokio::sync::{mpsc, oneshot};

use super::{
    commit::{Commit, Memory, QueuedMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{ConvId, Device, Seq, UserId},
    store::{Appended, StoreError, StoreResult},
};

/// Requests that may wait. When the queue is full, callers wait for a place in it: nothing is lost.
pub(super) const QUEUE: usize = 4_096;
/// Requests that one commit takes from the queue.
const PER_COMMIT: usize = 4_096;
/// Bytes of rows in one commit: large bodies must not make the requests behind them wait for one long write.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Where an answer goes. Dropped where the caller no longer waits.
pub(super) type Reply<T> = oneshot::Sender<StoreResult<T>>;

/// A request for the writer.
pub(super) enum Command {
    /// Appends messages to a direct conversation.
    Append {
        /// The conversation.
        conv: ConvId,
        /// The messages, in order.
        messages: Vec<QueuedMessage>,
        /// An answer per message.
        reply: oneshot::Sender<Vec<StoreResult<Appended>>>,
    },
    /// Raises a device's cursor.
    RaiseCursor {
        /// Whose.
        device: Device,
        /// Where.
        conv: ConvId,
        /// To what.
        seq: Seq,
        /// Told when it is written.
        reply: Reply<()>,
    },
    /// Raises a read mark.
    RaiseReadMark {
        /// Whose.
        user: UserId,
        /// Where.
        conv: ConvId,
        /// To what.
        seq: Seq,
        /// Told when it is written.
        reply: Reply<()>,
    },
    /// Makes a device known.
    Register {
        /// Which.
        device: Device,
        /// True when it is new.
        reply: Reply<bool>,
    },
    /// Asks whether the writer is at work and the engine takes writes.
    Ping(Reply<()>),
    /// Writes everything out and stops.
    Close(Reply<()>),
}

/// What the store reads of the writer.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    /// Why the store takes no more writes; set once, by the first write that fails.
    pub(super) failure: OnceLock<StoreError>,
    /// Commits that waited for the disk.
    pub(super) syncs: AtomicU64,
    /// Messages stored.
    pub(super) messages: AtomicU64,
}

/// What the thread owns.
pub(super) struct Writer {
    tables: Arc<Tables>,
    queue: mpsc::Receiver<Command>,
    shared: Arc<WriterState>,
    memory: Memory,
}

/// An answer that is given once its commit is written.
enum Deferred {
    Appended(oneshot::Sender<Vec<StoreResult<Appended>>>, Vec<StoreResult<Appended>>),
    Done(Reply<()>, StoreResult<()>),
    Registered(Reply<bool>, StoreResult<bool>),
}

impl Writer {
    /// A writer that takes from `queue`.
    pub(super) fn new(tables: Arc<Tables>, queue: mpsc::Receiver<Command>, shared: Arc<WriterState>) -> Self {
        Self { tables, queue, shared, memory: Memory::new() }
    }

    /// Works until it is told to close or every sender of commands is dropped.
    pub(super) fn run(mut self) {
        let mut waiting = Vec::new();
        while self.queue.blocking_recv_many(&mut waiting, PER_COMMIT) > 0 {
            let mut commands = waiting.drain(..);
            while commands.len() > 0 {
                if let Some(closed) = self.commit_some(&mut commands) {
                    // The replies of what is still queued are dropped, which callers read as "closed".
                    let _ = closed.send(self.flush());
                    return;
                }
            }
        }
        if let Err(error) = self.flush() {
            tracing::error!(%error, "the store could not be written out when it was closed");
        }
    }

    /// Commits as many commands as fit in one commit and answers them. Returns the reply of a `Close`, with
    /// everything before it written.
    fn commit_some(&mut self, commands: &mut impl Iterator<Item = Command>) -> Option<Reply<()>> {
        let (mut deferred, mut pings) = (Vec::new(), Vec::new());
        let mut closing = None;
        let mut commit = Commit::new(&self.tables, &mut self.memory);
        for command in commands {
            match command {
                Command::Ping(reply) => pings.push(reply),
                Command::Close(reply) => closing = Some(reply),
                Command::Register { device, reply } => {
                    deferred.push(Deferred::Registered(reply, commit.register(&device)));
                }
                Command::Append { conv, messages, reply } => {
                    deferred.push(Deferred::Appended(reply, commit.append(&conv, messages)));
                }
                Command::RaiseCursor { device, conv, seq, reply } => {
                    deferred.push(Deferred::Done(reply, commit.raise_cursor(&device, &conv, seq)));
                }
                Command::RaiseReadMark { user, conv, seq, reply } => {
                    deferred.push(Deferred::Done(reply, commit.raise_read_mark(&user, &conv, seq)));
                }
            }
            if closing.is_some() || commit.bytes() >= COMMIT_BYTES {
                break;
            }
        }
        let written = match self.shared.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => write_and_count(commit, &self.shared),
        };
        let written = self.remember_failure(written);
        for answer in deferred {
            answer.give(&written);
        }
        if !pings.is_empty() {
            let health = self.persist(PersistMode::Buffer);
            pings.into_iter().for_each(|reply| drop(reply.send(health.clone())));
        }
        closing
    }

    fn flush(&self) -> StoreResult<()> {
        self.persist(PersistMode::SyncAll)
    }

    /// Writes out the journal. This also reports a failure in the engine's own threads.
    fn persist(&self, mode: PersistMode) -> StoreResult<()> {
        let written = match self.shared.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => self.tables.db.persist(mode).map_err(unavailable),
        };
        self.remember_failure(written)
    }

    /// After a failed write nobody knows what is on the disk, so no further write is tried: the store stays
    /// readable, and a restart reads what is really there.
    fn remember_failure(&self, written: StoreResult<()>) -> StoreResult<()> {
        let Err(error) = written else { return Ok(()) };
        let failure = self.shared.failure.get_or_init(|| {
            tracing::error!(%error, "a write failed; the store takes no more until it is opened again");
            StoreError::unavailable(format_args!(
                "a write failed ({error}); no more are taken until natter is restarted"
            ))
        });
        Err(failure.clone())
    }
}

fn write_and_count(commit: Commit<'_>, shared: &WriterState) -> StoreResult<()> {
    let (messages, durable) = (commit.messages(), commit.is_durable());
    commit.write()?;
    shared.messages.fetch_add(messages as u64, Ordering::Relaxed);
    shared.syncs.fetch_add(u64::from(durable), Ordering::Relaxed);
    Ok(())
}

impl Deferred {
    /// Sends the answer, or the error if what it rests on was not written.
    fn give(self, written: &StoreResult<()>) {
        match (self, written) {
            (Self::Appended(reply, answers), Ok(())) => drop(reply.send(answers)),
            (Self::Appended(reply, answers), Err(error)) => {
                drop(reply.send(answers.iter().map(|_| Err(error.clone())).collect()));
            }
            (Self::Done(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
            (Self::Registered(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
        }
    }
}
