//! The writer thread: takes whatever is waiting, commits it as one, answers. Started and stopped by
//! [`super::EmbeddedStore`].
//!
//! There is no timer while the store is open. While one commit waits for the disk the next requests gather in the
//! queue, so commits grow with the load, and a lone append waits for one fsync and nothing else.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fjall::PersistMode;
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{
    EmbeddedOptions,
    command::{Command, Reply},
    commit::{Commit, Memory},
    fault::Fault,
    folder::Folder,
    outage::Outages,
    shared::{Shared, closed},
    tables::Tables,
};
use crate::{
    model::Device,
    store::{Appended, Entered, StoreError, StoreResult},
};

/// Requests that may wait. When the queue is full, callers wait for a place in it: nothing is lost.
pub(super) const QUEUE: usize = 4_096;
/// Requests that one commit takes from the queue.
const PER_COMMIT: usize = 4_096;
/// Bytes of rows in one commit: large bodies must not make the requests behind them wait for one long write.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// How long the thread sleeps at most between two looks at its queue while the store is down.
const GLANCE: Duration = Duration::from_millis(20);

/// What the thread owns.
pub(super) struct Writer {
    /// Kept while the tables are closed, so that no other process takes the folder meanwhile.
    folder: Arc<Folder>,
    options: EmbeddedOptions,
    /// `None` while the store is down.
    tables: Option<Arc<Tables>>,
    queue: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    memory: Memory,
    outages: Outages,
    /// A failure that was just seen and may pass.
    passing: Option<Fault>,
}

/// An answer that is given once its commit is written.
enum Deferred {
    Appended(oneshot::Sender<Vec<StoreResult<Appended>>>, Vec<StoreResult<Appended>>),
    Done(Reply<()>, StoreResult<()>),
    Entered(Reply<(Entered, Vec<Device>)>, StoreResult<(Entered, Vec<Device>)>),
    Retired(Reply<Option<Device>>, StoreResult<Option<Device>>),
    Kept(Reply<Vec<u8>>, StoreResult<Vec<u8>>),
    Destroyed(Reply<u64>, StoreResult<u64>),
}

impl Writer {
    /// A writer that takes from `queue`.
    pub(super) fn new(
        folder: Arc<Folder>,
        options: EmbeddedOptions,
        queue: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let tables = shared.tables().ok();
        let (memory, outages) = (Memory::new(), Outages::default());
        Self { folder, options, tables, queue, shared, memory, outages, passing: None }
    }

    /// Works until it is told to close or every sender of commands is dropped.
    pub(super) fn run(mut self) {
        let closed = self.work();
        let flushed = self.flush();
        // Closing may have been asked for while the store was being opened again.
        self.shared.take_tables();
        match (closed, flushed) {
            // The replies of what is still queued are dropped, which callers read as "closed".
            (Some(closed), flushed) => drop(closed.send(flushed)),
            (None, Err(error)) => tracing::error!(%error, "the store could not be written out when it was closed"),
            (None, Ok(())) => {}
        }
    }

    /// Returns the reply of a `Close`, with everything before it written.
    fn work(&mut self) -> Option<Reply<()>> {
        let mut waiting = Vec::new();
        while self.queue.blocking_recv_many(&mut waiting, PER_COMMIT) > 0 {
            let mut commands = waiting.drain(..);
            while commands.len() > 0 {
                if let Some(closed) = self.take_some(&mut commands) {
                    return Some(closed);
                }
            }
            if let Some(fault) = self.passing.take() {
                match self.recover(fault) {
                    Recovered::Up => {}
                    Recovered::Closed(closed) => return closed,
                }
            }
        }
        None
    }

    fn take_some(&mut self, commands: &mut impl Iterator<Item = Command>) -> Option<Reply<()>> {
        match (self.tables.clone(), self.shared.failure()) {
            (Some(tables), None) => self.commit_some(&tables, commands),
            (_, failure) => {
                let failure = failure.unwrap_or_else(closed);
                commands.find_map(|command| command.refuse(&failure))
            }
        }
    }

    /// Commits as many commands as fit in one commit and answers them. Returns the reply of a `Close`, with
    /// everything before it written.
    fn commit_some(&mut self, tables: &Tables, commands: &mut impl Iterator<Item = Command>) -> Option<Reply<()>> {
        let (mut deferred, mut pings) = (Vec::new(), Vec::new());
        let mut closing = None;
        let mut commit = Commit::new(tables, &mut self.memory);
        for command in commands {
            match command {
                Command::Ping(reply) => pings.push(reply),
                Command::Close(reply) => closing = Some(reply),
                Command::Enter { device, most, reply } => {
                    deferred.push(Deferred::Entered(reply, commit.enter(&device, most)));
                }
                Command::Retire { user, device, reply } => {
                    deferred.push(Deferred::Retired(reply, commit.retire(&user, &device)));
                }
                Command::Forget { keys, reply } => {
                    commit.forget(keys);
                    deferred.push(Deferred::Done(reply, Ok(())));
                }
                Command::See { seen, reply } => deferred.push(Deferred::Done(reply, commit.see(&seen))),
                Command::Block { user, other, on, reply } => {
                    deferred.push(Deferred::Done(reply, commit.block(&user, &other, on)));
                }
                Command::KeepKey { at, key, reply } => deferred.push(Deferred::Kept(reply, commit.keep_key(at, key))),
                Command::DestroyKeys { user, reply } => {
                    deferred.push(Deferred::Destroyed(reply, commit.destroy_keys(&user)));
                }
                Command::Start { device, starts, reply } => {
                    deferred.push(Deferred::Done(reply, commit.start(&device, starts)));
                }
                Command::Append { conv, messages, reply } => {
                    deferred.push(Deferred::Appended(reply, commit.append(&conv, messages)));
                }
                Command::RaiseCursor { device, conv, seq, reply } => {
                    deferred.push(Deferred::Done(reply, commit.raise_cursor(&device, &conv, seq)));
                }
                Command::RaiseReadMark { user, conv, mark, reply } => {
                    deferred.push(Deferred::Done(reply, commit.raise_read_mark(&user, &conv, mark)));
                }
            }
            if closing.is_some() || commit.bytes() >= COMMIT_BYTES {
                break;
            }
        }
        let touched = commit.take_touched();
        let written = write_and_count(commit, &self.shared).map_err(|fault| self.failed(fault));
        touched.iter().for_each(|user| self.shared.stamps.changed(user));
        self.shared.lookups.fetch_add(std::mem::take(&mut self.memory.lookups), Ordering::Relaxed);
        for answer in deferred {
            answer.give(&written);
        }
        if !pings.is_empty() {
            let health = self.persist(PersistMode::Buffer);
            pings.into_iter().for_each(|reply| drop(reply.send(health.clone())));
        }
        closing
    }

    fn flush(&mut self) -> StoreResult<()> {
        self.persist(PersistMode::SyncAll)?;
        if let Some(tables) = &self.tables {
            tables.closed_clean();
        }
        Ok(())
    }

    /// Writes out the journal. This also reports a failure in the engine's own threads.
    fn persist(&mut self, mode: PersistMode) -> StoreResult<()> {
        match (self.shared.failure(), &self.tables) {
            (Some(failure), _) => Err(failure),
            (None, Some(tables)) => tables.db.persist(mode).map_err(|error| self.failed(error.into())),
            (None, None) => Err(closed()),
        }
    }

    /// After a failed write nobody knows what is on the disk, so no further one is tried on these tables: either the
    /// store is opened again, which reads what is really there, or it stays readable until somebody has looked.
    fn failed(&mut self, fault: Fault) -> StoreError {
        if self.outages.may_pass(&fault) {
            tracing::warn!(%fault, "a write failed; the store is down and opens again by itself as soon as it can");
            self.shared.fail(&down(&fault));
            self.passing = Some(fault);
        } else {
            self.stay_down(&fault);
        }
        self.shared.failure().unwrap_or_else(closed)
    }

    fn stay_down(&self, fault: &Fault) {
        tracing::error!(%fault, "a write failed; the store takes no more until natter is restarted: check the disk first");
        self.shared.fail(&format!(
            "a write failed ({fault}); no more are taken until natter is restarted: check the disk, and restore a backup \
             if it is damaged"
        ));
    }

    /// Opens the store again, with growing waits. Meanwhile everything is refused: what became of an append that was
    /// under way shows when its sender tries again with the same cid.
    fn recover(&mut self, fault: Fault) -> Recovered {
        let (began, mut fault) = (Instant::now(), fault);
        self.memory = Memory::new();
        self.shared.take_tables();
        if let Err(closed) = self.let_go() {
            return Recovered::Closed(closed);
        }
        loop {
            self.shared.fail(&down(&fault));
            let wait = self.outages.wait();
            if let Err(closed) = self.refuse_for(wait) {
                return Recovered::Closed(closed);
            }
            match Tables::reopen(&self.folder, self.options) {
                Ok(tables) => {
                    self.come_back(tables);
                    tracing::info!(down_secs = began.elapsed().as_secs(), "the store is open again");
                    return Recovered::Up;
                }
                Err(next) if self.outages.may_pass(&next) => fault = next,
                Err(next) => {
                    self.stay_down(&next);
                    return Recovered::Up;
                }
            }
        }
    }

    /// Closes the tables, once the readers that are under way have let go of them: the engine opens its files only once.
    fn let_go(&mut self) -> Result<(), Option<Reply<()>>> {
        let Some(mut tables) = self.tables.take() else { return Ok(()) };
        loop {
            match Arc::try_unwrap(tables) {
                Ok(tables) => {
                    drop(tables);
                    return Ok(());
                }
                Err(held) => tables = held,
            }
            self.refuse_for(GLANCE)?;
        }
    }

    fn come_back(&mut self, tables: Tables) {
        let tables = Arc::new(tables);
        self.outages.end();
        self.tables = Some(tables.clone());
        self.shared.open(tables);
    }

    /// Refuses what comes for so long. Ends early, with the reply of a `Close` if there was one, when the store is
    /// closed or dropped.
    fn refuse_for(&mut self, wait: Duration) -> Result<(), Option<Reply<()>>> {
        let until = Instant::now() + wait;
        let failure = self.shared.failure().unwrap_or_else(closed);
        loop {
            match self.queue.try_recv() {
                Ok(command) => {
                    if let Some(closed) = command.refuse(&failure) {
                        return Err(Some(closed));
                    }
                }
                Err(TryRecvError::Disconnected) => return Err(None),
                Err(TryRecvError::Empty) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => std::thread::sleep(left.min(GLANCE)),
                    _ => return Ok(()),
                },
            }
        }
    }
}

/// How an attempt to come back ended.
enum Recovered {
    /// Open again, or down for good: back to the queue.
    Up,
    /// Closed meanwhile; with the reply of the `Close` if somebody waits for it.
    Closed(Option<Reply<()>>),
}

fn down(fault: &Fault) -> String {
    format!("a write failed ({fault}); the store opens again by itself as soon as it can")
}

fn write_and_count(commit: Commit<'_>, shared: &Shared) -> Result<(), Fault> {
    let (messages, durable) = (commit.messages(), commit.is_durable());
    let rows = commit.write()?;
    shared.rows.fetch_add(rows as u64, Ordering::Relaxed);
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
            (Self::Entered(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
            (Self::Retired(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
            (Self::Kept(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
            (Self::Destroyed(reply, answer), written) => drop(reply.send(written.clone().and(answer))),
        }
    }
}
