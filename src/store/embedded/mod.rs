//! The embedded store on fjall: one process, any number of nodes in it. For a first run and for one machine.
//!
//! Follow an append: [`EmbeddedStore::append`] encodes on the caller's task → `writer` (one thread, takes all that
//! is waiting) → `commit` (seqs, cids, heads, marks in one batch) → one fsync → answers. `keys` and `rows` say what
//! is on the disk, `folder` whether it is ours, `reads` answers everything else.
//!
//! One thread writes because seqs need one order anyway, and a second one would wait for the same fsync.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    commit::Incoming,
    folder::Folder,
    tables::Tables,
    thread::Thread,
    writer::{Command, Reply, Shared, Writer},
};
use crate::{
    config,
    model::{ConvId, DeviceId, Parties, Seq, UserId},
    store::{Appended, Gap, Head, NewMessage, Page, Row, STORE_DEADLINE, Span, Store, StoreError, StoreResult},
};

mod commit;
mod folder;
mod keys;
mod log_end;
mod reads;
mod recent;
mod rows;
mod tables;
mod thread;
mod writer;

pub use folder::{FORMAT, FolderState, OpenError, look};

/// How many reads run at once. More would only wait for the same disk, each with a thread of its own.
const READERS: usize = 16;
/// How long [`Store::health`] waits for the writer.
const HEALTH_DEADLINE: Duration = Duration::from_secs(1);

/// What an operator may set: `[store.embedded]` of the configuration, which holds every default.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedOptions {
    /// Memory for blocks read from the disk, in bytes.
    pub cache_bytes: u64,
}

impl From<&config::Embedded> for EmbeddedOptions {
    fn from(embedded: &config::Embedded) -> Self {
        Self { cache_bytes: embedded.cache_bytes }
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self::from(&config::Embedded::default())
    }
}

/// How much was written; messages per sync show how well commits are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Messages stored, retries not counted.
    pub messages: u64,
    /// Commits that waited for the disk.
    pub syncs: u64,
}

/// The store, shared by all nodes of a process.
pub struct EmbeddedStore {
    /// `None` once closed, so that the folder is free although somebody still holds the store.
    tables: RwLock<Option<Arc<Tables>>>,
    queue: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
    thread: Thread,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.tables.read().unwrap_or_else(PoisonError::into_inner).is_some();
        f.debug_struct("EmbeddedStore").field("open", &open).field("failure", &self.shared.failure.get()).finish()
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating it where there is none, and starts its writer thread. This reads files
    /// and may take a second after a crash: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is in use, foreign, of another format, or cannot be read or written.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let tables = Arc::new(Tables::open(Folder::claim(dir)?, options)?);
        let (queue, waiting) = mpsc::channel(writer::QUEUE);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(tables.clone(), waiting, shared.clone());
        let thread = Thread::start(move || writer.run()).map_err(|source| OpenError::Io {
            dir: dir.into(),
            what: "start the writer thread",
            source,
        })?;
        let readers = Arc::new(Semaphore::new(READERS));
        Ok(Arc::new(Self { tables: RwLock::new(Some(tables)), queue, shared, readers, thread }))
    }

    /// What was written since the store was opened.
    pub fn written(&self) -> Written {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Written { messages: read(&self.shared.messages), syncs: read(&self.shared.syncs) }
    }

    /// Hands a command to the writer and waits for its answer.
    async fn ask<T>(&self, deadline: Duration, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> StoreResult<T> {
        // Asked here too, not only by the writer: a broken engine may hold up the writer for ever.
        if let Some(failure) = self.shared.failure.get() {
            return Err(failure.clone());
        }
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let asking = async {
            self.queue.send(command).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())
        };
        tokio::time::timeout(deadline, asking).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// As [`Self::ask`], for answers that are results themselves.
    async fn request<T>(&self, deadline: Duration, command: impl FnOnce(Reply<T>) -> Command) -> StoreResult<T> {
        self.ask(deadline, command).await?
    }

    /// Runs a read on a blocking thread. Most reads find all they need in memory and would be done sooner
    /// here, but nobody can tell beforehand which will wait for the disk, and one that does would hold up every
    /// socket of this worker. The ten microseconds that the hop costs are not on the way of a live message.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tables) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let reading = async {
            let turn = self.readers.clone().acquire_owned().await.map_err(StoreError::unavailable)?;
            let reading = tokio::task::spawn_blocking(move || {
                let found = work(&tables);
                drop((turn, tables));
                found
            });
            reading.await.map_err(StoreError::unavailable)?
        };
        tokio::time::timeout(STORE_DEADLINE, reading).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn append_all(&self, conv: &ConvId, batch: Vec<NewMessage>) -> StoreResult<Vec<StoreResult<Appended>>> {
        direct(conv)?;
        let messages = batch.iter().map(|message| incoming(conv, message)).collect::<StoreResult<Vec<_>>>()?;
        let conv = conv.clone();
        self.ask(STORE_DEADLINE, |reply| Command::Append { conv, messages, reply }).await
    }
}

fn incoming(conv: &ConvId, message: &NewMessage) -> StoreResult<Incoming> {
    Ok(Incoming {
        cid: keys::cid(conv, &message.sender, &message.cid),
        sender: message.sender.clone(),
        row: rows::encode(message)?,
        ts: message.ts,
    })
}

fn closed() -> StoreError {
    StoreError::unavailable("the store is closed")
}

fn too_late() -> StoreError {
    StoreError::unavailable("the disk did not answer in time; check its load and health")
}

/// Rooms are not served yet.
fn direct(conv: &ConvId) -> StoreResult<()> {
    match conv.parties() {
        Parties::Direct(..) => Ok(()),
        Parties::Room(_) => Err(StoreError::Unsupported("rooms")),
    }
}

impl Store for EmbeddedStore {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(async move {
            let asked = batch.len();
            if asked == 0 {
                return Vec::new();
            }
            self.append_all(conv, batch).await.unwrap_or_else(|error| vec![Err(error); asked])
        })
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>> {
        Box::pin(async move {
            direct(conv)?;
            let conv = conv.clone();
            self.read(move |tables| reads::read_after(tables, &conv, after, span)).await
        })
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>> {
        Box::pin(async move {
            direct(conv)?;
            let conv = conv.clone();
            self.read(move |tables| reads::read_before(tables, &conv, before, span)).await
        })
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        Box::pin(async move {
            direct(conv)?;
            let conv = conv.clone();
            self.read(move |tables| tables.top(&tables.db.snapshot(), &conv)).await
        })
    }

    fn inbox<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Head>>> {
        let (user, after) = (user.clone(), after.cloned());
        Box::pin(self.read(move |tables| reads::inbox(tables, &user, after.as_ref(), limit)))
    }

    fn gaps<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Gap>>> {
        let (user, device, after) = (user.clone(), device.clone(), after.cloned());
        Box::pin(self.read(move |tables| reads::gaps(tables, &user, &device, after.as_ref(), limit)))
    }

    fn cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
    ) -> BoxFuture<'a, StoreResult<Seq>> {
        Box::pin(async move {
            direct(conv)?;
            let key = keys::cursor(user, device, conv);
            self.read(move |tables| tables.cursor(&key)).await
        })
    }

    fn raise_cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
        seq: Seq,
    ) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            direct(conv)?;
            let (user, device, conv) = (user.clone(), device.clone(), conv.clone());
            let raise = |reply| Command::RaiseCursor { user, device, conv, seq, reply };
            self.request(STORE_DEADLINE, raise).await
        })
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        Box::pin(async move {
            direct(conv)?;
            let key = keys::delivered(user, conv);
            self.read(move |tables| tables.cursor(&key)).await
        })
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        Box::pin(async move {
            direct(conv)?;
            let (user, conv) = (user.clone(), conv.clone());
            self.read(move |tables| tables.inbox(&user, &conv).map(|row| row.read)).await
        })
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, seq: Seq) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            direct(conv)?;
            let (user, conv) = (user.clone(), conv.clone());
            self.request(STORE_DEADLINE, |reply| Command::RaiseMark { user, conv, seq, reply }).await
        })
    }

    fn register_device<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> BoxFuture<'a, StoreResult<bool>> {
        let (user, device) = (user.clone(), device.clone());
        Box::pin(self.request(STORE_DEADLINE, |reply| Command::Register { user, device, reply }))
    }

    fn health(&self) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(self.request(HEALTH_DEADLINE, Command::Ping))
    }

    fn close(&self) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(async move {
            let written = self.request(STORE_DEADLINE, Command::Close).await;
            // Reads in flight hold the tables a moment longer; the last one lets the folder go.
            let tables = self.tables.write().unwrap_or_else(PoisonError::into_inner).take();
            let last = tokio::task::spawn_blocking(move || drop(tables));
            last.await.map_err(StoreError::unavailable)?;
            self.thread.ended().await;
            written
        })
    }
}
