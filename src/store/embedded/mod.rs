//! The embedded store on fjall: one process, any number of nodes in it. For a first run and for one machine.
//!
//! Follow an append: `traits` encodes on the caller's task → `writer` (one thread, takes all that is waiting) →
//! `commit` (seqs, cids, heads, marks in one batch; in rooms `rooms` decides who may) → one fsync → answers. `keys` and `rows` define what is on the
//! disk, `folder` checks that the data folder is natter's, `reads` answers everything else. After a failed write the
//! writer opens the store again where the reason may pass (`fault`, `outage`).
//!
//! Damage: each commit has a number, and `watermark` says beside the data how far they had come (`keeper` writes it out).
//! `inspect` compares the two before the engine opens a folder, `rescue` makes a sound store of a damaged one where
//! somebody accepts the loss, `verify` checks everything.
//!
//! One thread writes because seqs need one order anyway, and a second one would wait for the same fsync.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    command::{Command, Reply},
    folder::Folder,
    recent::Recent,
    register::Unfinished,
    shared::{Shared, closed},
    tables::Tables,
    thread::Thread,
    writer::Writer,
};
use crate::{
    config::Config,
    model::{Device, room::RoomLimits},
    store::{STORE_DEADLINE, StoreError, StoreResult},
};

pub mod backup;
mod beside;
mod command;
mod commit;
mod devices;
mod fault;
mod fold_reads;
mod folder;
mod inspect;
mod journal;
mod keeper;
mod keys;
mod log_end;
mod manifest;
mod open_error;
mod outage;
mod people;
mod reads;
mod recent;
mod register;
mod rescue;
mod room_end;
mod room_fold;
mod room_reads;
mod room_rows;
mod rooms;
mod rows;
mod scan;
mod secrets;
mod shared;
mod stamps;
mod tables;
mod thread;
mod traits;
pub mod verify;
mod watermark;
mod writer;

pub use folder::{BACKUP_SOCKET, FORMAT, FolderState, look};
pub use open_error::OpenError;

/// How many reads run at once. More would only wait for the same disk, each with a thread of its own.
const READERS: usize = 16;

/// What an operator may set: the configuration holds every default.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedOptions {
    /// Memory for blocks read from the disk, in bytes.
    pub cache_bytes: u64,
    /// A damaged store goes on with what is left of it, instead of being refused. Never from the configuration: each
    /// loss is accepted by somebody.
    pub accept_loss: bool,
    /// How large rooms may become.
    pub rooms: RoomLimits,
}

impl From<&Config> for EmbeddedOptions {
    fn from(config: &Config) -> Self {
        let rooms = RoomLimits { members: config.limits.members_per_room };
        Self { cache_bytes: config.store.embedded.cache_bytes, accept_loss: false, rooms }
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

/// How much was written; messages per sync show how well commits are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Messages stored, retries not counted.
    pub messages: u64,
    /// Commits that waited for the disk.
    pub syncs: u64,
    /// Rows that the writer looked up for them: where logs end, cids, cursors.
    pub lookups: u64,
    /// Rows that were written.
    pub rows: u64,
}

/// The store, shared by all nodes of a process.
pub struct EmbeddedStore {
    queue: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
    /// New devices whose cursors are being copied.
    registrations: Semaphore,
    /// How far those came that ran out of time.
    unfinished: Mutex<HashMap<Device, Unfinished>>,
    /// Lives that ended in this process, the latest: their sessions are here if they are anywhere.
    retired: Mutex<Recent<Device, ()>>,
    thread: Thread,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.shared.tables().is_ok();
        f.debug_struct("EmbeddedStore").field("open", &open).field("failure", &self.shared.failure()).finish()
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating it where there is none, and starts its writer thread. This reads files
    /// and may take a second after a crash: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is in use, foreign, of another format, or cannot be read or written.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let folder = Arc::new(Folder::claim(dir, options.accept_loss)?);
        let (queue, waiting) = mpsc::channel(writer::QUEUE);
        let shared = Arc::new(Shared::default());
        shared.open(Arc::new(Tables::open(folder.clone(), options)?));
        let writer = Writer::new(folder, options, waiting, shared.clone());
        let thread = Thread::start(move || writer.run()).map_err(|source| OpenError::Io {
            dir: dir.into(),
            what: "start the writer thread",
            source,
        })?;
        let readers = Arc::new(Semaphore::new(READERS));
        let registrations = Semaphore::new(register::AT_ONCE);
        let (unfinished, retired) = (Mutex::default(), Mutex::new(Recent::new(register::RETIRED)));
        Ok(Arc::new(Self { queue, shared, readers, registrations, unfinished, retired, thread }))
    }

    /// What was written since the store was opened.
    pub fn written(&self) -> Written {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Written {
            messages: read(&self.shared.messages),
            syncs: read(&self.shared.syncs),
            lookups: read(&self.shared.lookups),
            rows: read(&self.shared.rows),
        }
    }

    /// Hands a command to the writer and waits for its answer.
    async fn ask<T>(&self, deadline: Duration, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> StoreResult<T> {
        // Checked here too, not only by the writer: a broken engine may block the writer forever.
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        self.ask_anyway(deadline, command).await
    }

    /// The same, also while the store is down.
    async fn ask_anyway<T>(
        &self,
        deadline: Duration,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> StoreResult<T> {
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
        let answer = self.ask(deadline, command).await?;
        self.shared.noted(answer)
    }

    /// Runs a read on a blocking thread. Most reads find all they need in memory and would be done sooner
    /// here, but it cannot be known beforehand which will wait for the disk, and one that does would block every
    /// socket of this worker. The switch costs ten microseconds, and no live message waits for a read.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tables) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let tables = self.shared.tables()?;
        let reading = async {
            let turn = self.readers.clone().acquire_owned().await.map_err(StoreError::unavailable)?;
            let reading = tokio::task::spawn_blocking(move || {
                let found = work(&tables);
                drop((turn, tables));
                found
            });
            reading.await.map_err(StoreError::unavailable)?
        };
        let read = tokio::time::timeout(STORE_DEADLINE, reading).await.unwrap_or_else(|_| Err(too_late()));
        self.shared.noted(read)
    }
}

fn too_late() -> StoreError {
    StoreError::unavailable("the disk did not answer in time; check its load and health")
}
