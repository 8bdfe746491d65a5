//! What a failure of the engine means: whether its reason may pass by itself. Called by the writer, which opens the
//! store again after those that may, and when a store is opened.
//!
//! Too many open files and a full disk pass: somebody closes connections, somebody makes room. A disk that cannot read
//! or write (EIO), or rows that are damaged, do not: each further write could make it worse.

use std::{error::Error as _, fmt, io};

use super::open_error::OpenError;
use crate::store::StoreError;

/// Whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// The reason is known and may pass: out of descriptors, memory or room.
    Passing,
    /// The engine's own threads failed, and it does not tell why.
    Unknown,
    /// Somebody has to look at the disk.
    Lasting,
}

/// Why a write failed.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    words: String,
    /// Whether waiting helps.
    pub(super) outlook: Outlook,
}

impl Fault {
    /// One for which waiting does not help.
    pub(super) fn lasting(words: String) -> Self {
        Self { words, outlook: Outlook::Lasting }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words.fmt(f)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::lasting(error.to_string())
    }
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        let words = match &error {
            fjall::Error::Io(error) => error.to_string(),
            fjall::Error::Poisoned => "the engine failed in the background, the log has the cause".to_owned(),
            error => error.to_string(),
        };
        Self { words, outlook: outlook_of(&error) }
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        let outlook = match &error {
            OpenError::Io { source, .. } => outlook_of_io(source),
            OpenError::Engine { cause, .. } => outlook_of(cause),
            _ => Outlook::Lasting,
        };
        Self { words: error.to_string(), outlook }
    }
}

fn outlook_of(error: &fjall::Error) -> Outlook {
    match error {
        fjall::Error::Io(error) => outlook_of_io(error),
        // An error of the operating system inside of one of the engine's layers, or damage that one of them found.
        fjall::Error::Storage(inner) => {
            let source = inner.source().and_then(|source| source.downcast_ref());
            source.map_or(Outlook::Lasting, outlook_of_io)
        }
        // Its old threads have not ended yet.
        fjall::Error::Locked => Outlook::Passing,
        fjall::Error::Poisoned => Outlook::Unknown,
        _ => Outlook::Lasting,
    }
}

fn outlook_of_io(error: &io::Error) -> Outlook {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EAGAIN | libc::EINTR) => {
            Outlook::Passing
        }
        _ => Outlook::Lasting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let outlook = |code| Fault::from(fjall::Error::Io(io::Error::from_raw_os_error(code))).outlook;
        let inner = |code| {
            let inner = fjall::LsmError::Io(io::Error::from_raw_os_error(code));
            Fault::from(fjall::Error::Storage(inner)).outlook
        };
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::EDQUOT] {
            assert_eq!((outlook(code), inner(code)), (Outlook::Passing, Outlook::Passing), "{code}");
        }
        for code in [libc::EIO, libc::EROFS, libc::EFBIG, libc::EACCES] {
            assert_eq!((outlook(code), inner(code)), (Outlook::Lasting, Outlook::Lasting), "{code}");
        }
        assert_eq!(Fault::from(fjall::Error::Storage(fjall::LsmError::Unrecoverable)).outlook, Outlook::Lasting);
        assert_eq!(Fault::from(fjall::Error::InvalidTrailer).outlook, Outlook::Lasting);
        assert_eq!(Fault::from(fjall::Error::Poisoned).outlook, Outlook::Unknown);
    }
}
