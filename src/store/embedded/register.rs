//! A new device: its cursors start at its user's read marks. Called by [`super::traits`].
//!
//! A user may have tens of thousands of conversations, and everybody's appends go through one writer. So the marks are
//! read here, on a blocking thread, and the writer gets the cursors in pieces, each in turn with whatever else waits.
//! The device itself is written last: a crash before that leaves a device that is still new. An attempt that runs out of
//! time is gone on with by the next one, so that it ends some time on the slowest disk; the cursors of its first part are
//! at the marks of then, which only means that some more is handed out.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use fjall::{Readable as _, Slice};
use tokio::time::timeout;

use super::{
    EmbeddedStore,
    command::Command,
    keys, reads,
    rows::{self, DeviceRow, InboxValue},
    tables::{Tables, unavailable},
    too_late,
};
use crate::{
    model::{ConvId, Device, DeviceId, MAX_SEQ, Seq, UserId, now_millis},
    store::{Entered, STORE_DEADLINE, StoreError, StoreResult},
};

/// Conversations in one piece: what a commit does for one new device, some hundred microseconds of the writer's time.
const PIECE: usize = 128;
/// Devices whose cursors are copied at once; more only wait, so that a commit holds no more pieces than this.
pub(super) const AT_ONCE: usize = 2;
/// Registrations that are remembered to be gone on with.
const UNFINISHED: usize = 1_024;
/// Lives that ended and are remembered, at least.
pub(super) const RETIRED: usize = 1_024;

/// A registration that ran out of time: the life that it began, and the last conversation whose cursor is stored.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    life: u64,
    stored: Option<ConvId>,
}

impl EmbeddedStore {
    /// [`crate::store::Marks::enter`].
    pub(super) async fn register(&self, device: Device, most: usize) -> StoreResult<Entered> {
        let device = Device { life: 0, ..device };
        let registering = async {
            let known = device.clone();
            let is_known = self.read(move |tables| is_known(tables, &known)).await?;
            let mut turn = None;
            let begun = if is_known {
                device.clone()
            } else {
                turn = Some(self.registrations.acquire().await.map_err(StoreError::unavailable)?);
                self.copy_marks(&device).await?
            };
            let entering = |reply| Command::Enter { device: begun, most, reply };
            let (entered, retired) = self.request(STORE_DEADLINE, entering).await?;
            drop(turn);
            // After the number was taken: what changes from now on changes them.
            let stamps = self.shared.stamps.of(&device.user);
            Ok((Entered { stamps, ..entered }, retired))
        };
        let (entered, retired) = timeout(STORE_DEADLINE, registering).await.unwrap_or_else(|_| Err(too_late()))?;
        for life in retired {
            self.end_life(life).await;
        }
        Ok(entered)
    }

    /// [`crate::store::Marks::refresh`].
    pub(super) async fn refresh_device(&self, device: Device, within: Duration) -> StoreResult<()> {
        let key = keys::device(&device);
        let row = self.read(move |tables| find(tables, &key)).await?;
        let Some(row) = row.filter(|row| row.life == device.life) else { return Ok(()) };
        if u128::from(now_millis().saturating_sub(row.seen)) < within.as_millis() {
            return Ok(());
        }
        // Life 0: one that is not known any more stays so.
        let device = Device { life: 0, ..device };
        self.request(STORE_DEADLINE, |reply| Command::Enter { device, most: usize::MAX, reply }).await.map(drop)
    }

    /// [`crate::store::Marks::retire`].
    pub(super) async fn retire_device(&self, user: UserId, device: DeviceId) -> StoreResult<bool> {
        let retired = self.request(STORE_DEADLINE, |reply| Command::Retire { user, device, reply }).await?;
        let Some(life) = retired else { return Ok(false) };
        self.end_life(life).await;
        Ok(true)
    }

    /// Whether a life ended. Sessions of it are in this process, so it was this process that ended it.
    pub(super) fn is_retired(&self, device: &Device) -> bool {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).get(device).is_some()
    }

    /// Forgets the cursors of a life that is over, in pieces. Nobody looks there any more: what a failure leaves behind
    /// only takes room.
    async fn end_life(&self, life: Device) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).put(life.clone(), ());
        loop {
            let of = life.clone();
            let Ok(keys) = self.read(move |tables| reads::some_cursors(tables, &of, PIECE)).await else { return };
            let is_last = keys.len() < PIECE;
            let forgotten = self.request(STORE_DEADLINE, |reply| Command::Forget { keys, reply }).await;
            if is_last || forgotten.is_err() {
                return;
            }
        }
    }

    /// Returns the device with the life that it begins.
    async fn copy_marks(&self, device: &Device) -> StoreResult<Device> {
        let begun = self.unfinished().get(device).cloned();
        let Unfinished { life, stored: mut after } =
            begun.unwrap_or_else(|| Unfinished { life: rand::random_range(1..=MAX_SEQ), stored: None });
        let (name, device) = (device, &Device { life, ..device.clone() });
        loop {
            let of = device.clone();
            let piece = self.read(move |tables| next_piece(tables, &of, after.as_ref())).await?;
            if !piece.starts.is_empty() {
                let (device, starts) = (device.clone(), piece.starts);
                self.request(STORE_DEADLINE, |reply| Command::Start { device, starts, reply }).await?;
            }
            let Some(next) = piece.next else {
                self.unfinished().remove(name);
                return Ok(device.clone());
            };
            self.remember(name, Unfinished { life, stored: Some(next.clone()) });
            after = Some(next);
        }
    }

    fn remember(&self, device: &Device, begun: Unfinished) {
        let mut unfinished = self.unfinished();
        if unfinished.len() >= UNFINISHED && !unfinished.contains_key(device) {
            unfinished.clear();
        }
        unfinished.insert(device.clone(), begun);
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<Device, Unfinished>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row of a device.
pub(super) fn find(tables: &Tables, key: &Slice) -> StoreResult<Option<DeviceRow>> {
    let found = tables.devices.get(key).map_err(unavailable)?;
    found.map(|value| DeviceRow::decode(&value)).transpose()
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
    let mut found = view.range(&tables.inbox, keys::directs(&device.user, after));
    let mut piece = Piece::default();
    for item in found.by_ref().take(PIECE) {
        let (key, value) = item.into_inner().map_err(unavailable)?;
        let conv = keys::conv_of(&key).ok_or_else(rows::unreadable)?;
        let read = InboxValue::decode(&value)?.read.seq;
        if read > 0 {
            piece.starts.push((keys::cursor(device, &conv), read));
            let delivered = keys::delivered(&device.user, &conv);
            // Nearly always there already, by another device: not even asked for by the writer then.
            if tables.cursor(&delivered)? < read {
                piece.starts.push((delivered, read));
            }
        }
        piece.next = Some(conv);
    }
    if found.next().is_none() {
        piece.next = None;
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{DeviceId, UserId},
        store::embedded::{
            EmbeddedOptions,
            commit::{Commit, Memory},
            folder::Folder,
        },
    };

    #[test]
    fn a_slower_registration_moves_no_cursor_of_a_device_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::claim(dir.path(), false).unwrap());
        let tables = Tables::open(folder, EmbeddedOptions::default()).unwrap();
        let user = UserId::new("alice").unwrap();
        let conv = ConvId::direct(&user, &UserId::new("bob").unwrap());
        let device = Device::new(user, DeviceId::new("phone").unwrap());
        let (cursor, mut memory) = (keys::cursor(&device, &conv), Memory::new());
        let mut commit = |start, register| {
            let mut commit = Commit::new(&tables, &mut memory);
            commit.start(&device, vec![(cursor.clone(), start)]).unwrap();
            if register {
                assert!(commit.enter(&Device::new(device.user.clone(), device.device.clone()), 9).is_err());
                assert!(commit.enter(&Device { life: 7, ..device.clone() }, 9).unwrap().0.is_new);
            }
            // The other one, in the same commit.
            commit.start(&device, vec![(cursor.clone(), 100 + u64::from(!register))]).unwrap();
            commit.write().unwrap();
        };
        commit(3, true);
        assert_eq!(tables.cursor(&cursor), Ok(3));
        commit(9, false);
        assert_eq!(tables.cursor(&cursor), Ok(3));
    }
}
