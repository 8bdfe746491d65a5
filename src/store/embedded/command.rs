//! What the writer thread is asked for, and where its answers go. Sent by [`super::EmbeddedStore`].

use fjall::Slice;
use tokio::sync::oneshot;

use super::commit::QueuedMessage;
use crate::{
    model::{ConvId, Device, DeviceId, Millis, ReadMark, Seq, UserId},
    store::{Appended, Entered, StoreError, StoreResult},
};

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
        mark: ReadMark,
        /// Told when it is written.
        reply: Reply<()>,
    },
    /// Raises some rows of the table of cursors: a part of what a new device starts with.
    Start {
        /// Which device.
        device: Device,
        /// Their keys, and to what.
        starts: Vec<(Slice, Seq)>,
        /// Told when they are written.
        reply: Reply<()>,
    },
    /// A device logs in. One that is not known becomes so: its cursors are stored.
    Enter {
        /// Which, with the life that it begins where it is not known.
        device: Device,
        /// Of more devices of the user those that logged in longest ago are retired.
        most: usize,
        /// What became of it, and whose cursors are to be forgotten.
        reply: Reply<(Entered, Vec<Device>)>,
    },
    /// Makes a device unknown.
    Retire {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// Its last life, whose cursors are to be forgotten.
        reply: Reply<Option<Device>>,
    },
    /// Raises when users were last seen.
    See {
        /// Who, and when.
        seen: Vec<(UserId, Millis)>,
        /// Told when it is written.
        reply: Reply<()>,
    },
    /// A user blocks another one, or no more.
    Block {
        /// Who.
        user: UserId,
        /// Whom.
        other: UserId,
        /// Block, or unblock.
        on: bool,
        /// Told when it is on the disk.
        reply: Reply<()>,
    },
    /// Keeps a key that bodies are sealed with, where there is none.
    KeepKey {
        /// Where it is named.
        at: Slice,
        /// The key.
        key: Vec<u8>,
        /// The one that stands, when it is on the disk.
        reply: Reply<Vec<u8>>,
    },
    /// Destroys all keys of a user.
    DestroyKeys {
        /// Whose.
        user: UserId,
        /// How many, when they are gone from the disk.
        reply: Reply<u64>,
    },
    /// Removes rows of the table of cursors.
    Forget {
        /// Their keys.
        keys: Vec<Slice>,
        /// Told when it is written.
        reply: Reply<()>,
    },
    /// Asks whether the writer is at work and the engine takes writes.
    Ping(Reply<()>),
    /// Writes everything out and stops.
    Close(Reply<()>),
}

impl Command {
    /// Answers with an error instead of doing it. A `Close` is not refused: its reply is returned.
    pub(super) fn refuse(self, error: &StoreError) -> Option<Reply<()>> {
        let refused = Err(error.clone());
        match self {
            Self::Append { messages, reply, .. } => {
                drop(reply.send(messages.iter().map(|_| Err(error.clone())).collect()));
            }
            Self::RaiseCursor { reply, .. }
            | Self::RaiseReadMark { reply, .. }
            | Self::Start { reply, .. }
            | Self::Forget { reply, .. }
            | Self::See { reply, .. }
            | Self::Block { reply, .. }
            | Self::Ping(reply) => {
                drop(reply.send(refused));
            }
            Self::Enter { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Retire { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::KeepKey { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::DestroyKeys { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Close(reply) => return Some(reply),
        }
        None
    }
}
