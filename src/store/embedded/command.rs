//! What the writer thread is asked for, and where its answers go. Sent by [`super::EmbeddedStore`].

use fjall::Slice;
use tokio::sync::oneshot;

use super::commit::QueuedMessage;
use crate::{
    model::{ConvId, Device, ReadMark, Seq, UserId},
    store::{Appended, StoreError, StoreResult},
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
    /// Makes a device known, whose cursors are stored.
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
            | Self::Ping(reply) => {
                drop(reply.send(refused));
            }
            Self::Register { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Close(reply) => return Some(reply),
        }
        None
    }
}
