//! `natter backup`: a copy of the embedded store in one file, also while a node has it open; and what the node does for
//! it. `serve` and `dev` call [`listen`].
//!
//! The node is asked over a socket in the data folder, which only its owner can reach: no password, no port. The file
//! is written by the command, where it runs.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt as _, net::UnixStream as BlockingStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};

use super::{Global, logging, print, report::Hint};
use crate::{
    config::{Config, StoreKind},
    store::embedded::{
        BACKUP_SOCKET, EmbeddedOptions, EmbeddedStore, FolderState,
        backup::{BackupError, Contents, check},
        look,
    },
};

/// A command that does not read, or a node that does not write, for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// After an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `natter backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder of the embedded store
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  natter backup --config natter.toml /backups/natter-$(date +%F).backup
  natter backup --data /srv/natter natter.backup

The copy is of one moment. A node that runs goes on meanwhile; run this as its user, on its machine.
A ScyllaDB or Cassandra cluster is backed up with its own snapshots: see docs/operations.md.";

/// Runs the command.
///
/// # Errors
/// When there is no embedded store, it cannot be read, or the file cannot be written.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let config = embedded_config(global, args.data.as_ref())?;
    let file = args.file;
    let work = move || back_up(&config, &file).map(|contents| (contents, file));
    let (contents, file) = tokio::task::spawn_blocking(work).await.context("making the backup")??;
    print(&format!("{}: {} messages in {} rows", file.display(), contents.messages, contents.rows))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration, where it says that the store is the embedded one.
pub(super) fn embedded_config(global: &Global, data: Option<&String>) -> anyhow::Result<Config> {
    let config = Config::load(&global.sources().flag("--data", "store.embedded.data_dir", data))?;
    logging::start(&config.log)?;
    if config.store.kind != StoreKind::Embedded {
        let what = anyhow::anyhow!("store.kind is not embedded, and this is for the embedded store");
        return Err(Hint::on(what, "use the cluster's own snapshots, as docs/operations.md says"));
    }
    Ok(config)
}

fn back_up(config: &Config, file: &Path) -> anyhow::Result<Contents> {
    anyhow::ensure!(!file.try_exists()?, "{} exists already; choose another name", file.display());
    let part = part_of(file);
    let made = write_and_check(config, &part);
    let done = made.and_then(|contents| {
        fs::rename(&part, file).with_context(|| format!("naming {}", file.display()))?;
        Ok(contents)
    });
    if done.is_err() {
        let _ = fs::remove_file(&part);
    }
    done
}

/// A backup that is not finished has another name.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write_and_check(config: &Config, part: &Path) -> anyhow::Result<Contents> {
    let dir = config.store.embedded.store_dir();
    // People's messages: for their owner only.
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(part);
    let file = file.with_context(|| format!("cannot write {}", part.display()))?;
    match look(&dir)? {
        FolderState::None => anyhow::bail!("{} holds no store; name the data folder with --data", dir.display()),
        FolderState::Free => {
            let store = EmbeddedStore::open(&dir, EmbeddedOptions::from(config))?;
            store.back_up(&file)?;
        }
        FolderState::Held(pid) => ask(&dir, &file).map_err(|error| {
            let what = error.context(format!("process {pid} has the store open and could not be asked"));
            Hint::on(what, "run this as the same user, on the same machine; or stop the node and try again")
        })?,
    }
    file.sync_all().with_context(|| format!("writing {}", part.display()))?;
    Ok(check(part)?)
}

fn ask(dir: &Path, mut file: &File) -> anyhow::Result<()> {
    let socket = dir.join(BACKUP_SOCKET);
    let mut stream = BlockingStream::connect(&socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    io::copy(&mut stream, &mut file)?;
    Ok(())
}

/// Gives a backup to whoever connects to the socket in the data folder, one at a time, as long as the store is there.
/// Where there can be no socket, backups are made with the node stopped.
pub(super) fn listen(store: &Arc<EmbeddedStore>, dir: &Path) {
    let path = dir.join(BACKUP_SOCKET);
    // That of a process that was killed: the folder is this one's now.
    let _ = fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "backups can only be made while the node is stopped");
            return;
        }
    };
    let store = Arc::downgrade(store);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(store) = store.upgrade() else { return };
            let given = tokio::task::spawn_blocking(move || give(&store, stream)).await;
            match given {
                Ok(Ok(Contents { rows, messages })) => tracing::info!(rows, messages, "a backup was made"),
                Ok(Err(error)) => tracing::warn!(%error, "a backup failed"),
                Err(error) => tracing::error!(%error, "a backup failed"),
            }
        }
    });
}

fn give(store: &EmbeddedStore, stream: UnixStream) -> Result<Contents, BackupError> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    store.back_up(stream)
}
