//! Why a store was not opened: each says what to do. Made by [`super::folder`] and [`super::tables`].

use std::{io, path::PathBuf};

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store in this one, has the folder open.
    #[error("{dir} is in use by process {holder}; stop that process or choose another data folder")]
    InUse {
        /// The data folder.
        dir: PathBuf,
        /// The pid that the holder wrote, or `unknown`.
        holder: String,
    },
    /// The folder holds something else.
    #[error("{dir} holds files that are not a natter store ({example}); choose an empty or a new folder")]
    Foreign {
        /// The data folder.
        dir: PathBuf,
        /// One of the files.
        example: String,
    },
    /// The folder was written by another version.
    #[error(
        "{dir} has store format {found}, this build reads format {expected}; \
         use the natter version that wrote it, or choose a new folder"
    )]
    Version {
        /// The data folder.
        dir: PathBuf,
        /// What the folder says.
        found: String,
        /// What this build reads.
        expected: u32,
    },
    /// There is data, and no word of which format it has.
    #[error(
        "{dir} holds a store without its file FORMAT; nothing was changed. Put that file back from a copy of the folder, \
         or start with --accept-loss, which writes it anew where all the rest is whole"
    )]
    NoFormat {
        /// The data folder.
        dir: PathBuf,
    },
    /// Something that was answered may be gone.
    #[error(
        "the store in {dir} is damaged: {}; nothing was changed. Restore the last backup into another folder (natter \
         restore), or start with --accept-loss: natter then goes on with what can be read, and keeps the damaged files \
         beside it",
        .problems.join("; ")
    )]
    Damaged {
        /// The data folder.
        dir: PathBuf,
        /// What is missing or damaged.
        problems: Vec<String>,
    },
    /// Not even what is left can be read.
    #[error("nothing can be rescued from the store in {dir}: {cause}; nothing was changed: restore a backup")]
    Lost {
        /// The data folder.
        dir: PathBuf,
        /// What fails.
        cause: String,
    },
    /// The operating system refused something.
    #[error("cannot {what} in {dir}: {source}; check that the folder may be written and the disk has room")]
    Io {
        /// The data folder.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The engine could not read its files.
    #[error("cannot open the store in {dir}: {cause}; check the disk, or restore the folder from a copy")]
    Engine {
        /// The data folder.
        dir: PathBuf,
        /// The cause.
        cause: fjall::Error,
    },
}
