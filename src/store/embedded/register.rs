//! A new device: its cursors start at its user's read marks. Called by [`super::traits`].
//!
//! A user may have tens of thousands of conversations, and everybody's appends go through one writer. So the marks are
//! read here, on a blocking thread, and the writer gets the cursors in pieces, each in turn with whatever else waits.
//! The device itself is written last: a crash before that leaves a device that is still new, and the next attempt goes
//! on where this one ended, because what is stored already is not sent again.

use fjall::{Readable as _, Slice};
use tokio::time::timeout;

use super::{
    EmbeddedStore,
    command::Command,
    keys,
    rows::{self, InboxValue},
    tables::{Tables, unavailable},
    too_late,
};
use crate::{
    model::{ConvId, Device, Seq},
    store::{STORE_DEADLINE, StoreError, StoreResult},
};

/// Conversations in one piece: what a commit does for one new device, some hundred microseconds of the writer's time.
const PIECE: usize = 128;
/// Devices whose cursors are copied at once; more only wait, so that a commit holds no more pieces than this.
pub(super) const AT_ONCE: usize = 2;

impl EmbeddedStore {
    /// [`crate::store::Marks::register_device`].
    pub(super) async fn register(&self, device: Device) -> StoreResult<bool> {
        let registering = async {
            let known = device.clone();
            if self.read(move |tables| is_known(tables, &known)).await? {
                return Ok(false);
            }
            let _turn = self.registrations.acquire().await.map_err(StoreError::unavailable)?;
            self.copy_marks(&device).await?;
            self.request(STORE_DEADLINE, |reply| Command::Register { device, reply }).await
        };
        timeout(STORE_DEADLINE, registering).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn copy_marks(&self, device: &Device) -> StoreResult<()> {
        let mut after = None;
        loop {
            let device = device.clone();
            let piece = self.read(move |tables| next_piece(tables, &device, after.as_ref())).await?;
            if !piece.starts.is_empty() {
                let starts = piece.starts;
                self.request(STORE_DEADLINE, |reply| Command::Start { starts, reply }).await?;
            }
            match piece.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

fn is_known(tables: &Tables, device: &Device) -> StoreResult<bool> {
    tables.devices.contains_key(keys::device(device)).map_err(unavailable)
}

/// Rows of the table of cursors that must be raised.
#[derive(Default)]
struct Piece {
    starts: Vec<(Slice, Seq)>,
    next: Option<ConvId>,
}

fn next_piece(tables: &Tables, device: &Device, after: Option<&ConvId>) -> StoreResult<Piece> {
    let view = tables.db.snapshot();
    let mut found = view.range(&tables.inbox, keys::inboxes(&device.user, after));
    let mut piece = Piece::default();
    for item in found.by_ref().take(PIECE) {
        let (key, value) = item.into_inner().map_err(unavailable)?;
        let conv = keys::conv_of(&key).ok_or_else(rows::unreadable)?;
        let read = InboxValue::decode(&value)?.read;
        for row in [keys::cursor(device, &conv), keys::delivered(&device.user, &conv)] {
            if read > 0 && tables.cursor(&row)? < read {
                piece.starts.push((row, read));
            }
        }
        piece.next = Some(conv);
    }
    if found.next().is_none() {
        piece.next = None;
    }
    Ok(piece)
}
