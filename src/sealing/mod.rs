//! Bodies at rest. What a user says is sealed under a key of that user and month before it goes to the store, and opened when it
//! is read; whoever destroys the keys has erased everything that the user ever said, in every log, backup excepted, with one
//! write (R29). With a master key the disk tells nobody anything at all.
//!
//! [`Sealing::over`] puts itself between a node and its store: nothing else knows of it but whoever shows a body, for whom one
//! that is still sealed is gone. Called by [`crate::node`]; `erase` by the op of that name.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use self::{
    form::Of,
    keyring::Keyring,
    logs::SealedLogs,
    reads::{SealedFolds, SealedInbox, SealedRooms},
};
use crate::{
    model::{Body, ConvId, Folded, Kind, NewMessage, Row, UserId},
    store::{Preview, Store, StoreError, StoreResult, keys::Month},
};

mod form;
mod keyring;
mod logs;
mod master;
mod reads;

pub use master::Masters;

/// Keys that are read at once for one page.
const KEYS_AT_ONCE: usize = 16;

/// How it is done.
#[derive(Debug)]
pub struct Settings {
    /// What is written is sealed.
    pub on: bool,
    /// What keys are sealed with.
    pub masters: Masters,
    /// How long a key is taken for what the store has.
    pub known_for: Duration,
}

/// Seals, opens and erases. Cheap to clone.
#[derive(Clone)]
pub struct Sealing {
    keys: Arc<Keyring>,
    seals: bool,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("seals", &self.seals).finish_non_exhaustive()
    }
}

/// Whether what a row of this kind says is sealed: the rest is what the store itself must read.
fn is_sealed(kind: Kind) -> bool {
    matches!(kind, Kind::Message | Kind::Edit)
}

impl Sealing {
    /// The store with everything sealed that is written from now on, where that is `on`, and everything opened that was sealed.
    pub fn over(store: Store, settings: Settings) -> (Store, Self) {
        let Settings { on, masters, known_for } = settings;
        let sealing = Self { keys: Arc::new(Keyring::new(store.keys.clone(), masters, known_for)), seals: on };
        let own = || sealing.clone();
        let store = Store {
            logs: Arc::new(SealedLogs { inner: store.logs.clone(), sealing: own() }),
            inbox: Arc::new(SealedInbox { inner: store.inbox.clone(), sealing: own() }),
            rooms: Arc::new(SealedRooms { inner: store.rooms.clone(), sealing: own() }),
            folds: Arc::new(SealedFolds { inner: store.folds.clone(), sealing: own() }),
            ..store
        };
        (store, sealing)
    }

    /// Destroys the keys of a user: nobody can read any more what the user has said, here at once, on other nodes within
    /// [`Settings::known_for`]. What the user says in that time through another node may be erased with it. Returns for how many months there was
    /// a key.
    ///
    /// # Errors
    /// When the store cannot do it; then it may be done or not, and is asked for again.
    pub async fn erase(&self, user: &UserId) -> StoreResult<u64> {
        self.keys.destroy(user).await
    }

    /// Whether what is written is sealed: only then can it be erased.
    pub fn is_on(&self) -> bool {
        self.seals
    }

    /// The sealed body of a message; nothing where it goes as it is.
    async fn seal(&self, conv: &ConvId, message: &NewMessage) -> StoreResult<Option<Body>> {
        if !is_sealed(message.kind) {
            return Ok(None);
        }
        let NewMessage { kind, sender, cid, ts, body, .. } = message;
        let month = Month::of(*ts);
        let key = self.keys.make(sender, month).await?;
        let sealed = form::seal(&key, month, Of { conv, sender, cid, kind: *kind }, body);
        sealed.map(Some).ok_or_else(|| StoreError::unavailable("a body could not be sealed"))
    }

    /// The body as it was written, of a row that was read before `read`; still sealed where nobody can open it any more.
    ///
    /// What this node knows may be older than the row: its sender was erased meanwhile, and went on under another key. So
    /// nothing is taken for erased by what was known before the row was read.
    async fn open(&self, of: Of<'_>, body: Body, read: Instant) -> StoreResult<Body> {
        let Some(month) = form::month_of(&body) else { return Ok(body) };
        for since in [None, Some(read)] {
            let key = self.keys.find(of.sender, month, since).await?;
            if let Some(opened) = key.and_then(|key| form::open(&key, of, &body)) {
                return Ok(opened);
            }
        }
        Ok(body)
    }

    async fn open_row(&self, conv: &ConvId, row: Row) -> StoreResult<Row> {
        self.open_at(conv, row, Instant::now()).await
    }

    async fn open_at(&self, conv: &ConvId, mut row: Row, read: Instant) -> StoreResult<Row> {
        let body = std::mem::replace(&mut row.body, Body::null());
        let of = Of { conv, sender: &row.sender, cid: &row.cid, kind: row.kind };
        row.body = self.open(of, body, read).await?;
        Ok(row)
    }

    /// Reads the keys of several bodies at once, so that a page of many senders waits for the store once and not for each. What
    /// goes wrong shows when they are opened.
    async fn find_all<'a>(&self, bodies: impl Iterator<Item = (&'a UserId, &'a Body)>) {
        let mut keys: Vec<_> = bodies.filter_map(|(sender, body)| Some((sender, form::month_of(body)?))).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() > 1 {
            let find = |(sender, month)| async move { drop(self.keys.find(sender, month, None).await) };
            stream::iter(keys).for_each_concurrent(KEYS_AT_ONCE, find).await;
        }
    }

    async fn open_rows(&self, conv: &ConvId, rows: Vec<Row>) -> StoreResult<Vec<Row>> {
        self.find_all(rows.iter().map(|row| (&row.sender, &row.body))).await;
        let (mut opened, read) = (Vec::with_capacity(rows.len()), Instant::now());
        for row in rows {
            opened.push(if row.body.is_sealed() { self.open_at(conv, row, read).await? } else { row });
        }
        Ok(opened)
    }

    /// The last messages of several conversations.
    async fn open_previews(&self, mut lasts: Vec<(ConvId, &mut Preview)>) -> StoreResult<()> {
        self.find_all(lasts.iter().map(|(_, last)| (&last.sender, &last.body))).await;
        for (conv, last) in &mut lasts {
            self.open_preview(conv, last).await?;
        }
        Ok(())
    }

    async fn open_preview(&self, conv: &ConvId, last: &mut Preview) -> StoreResult<()> {
        if last.body.is_sealed() {
            let body = std::mem::replace(&mut last.body, Body::null());
            last.body = self
                .open(Of { conv, sender: &last.sender, cid: &last.cid, kind: last.kind }, body, Instant::now())
                .await?;
        }
        self.open_edit(conv, &mut last.folded).await
    }

    async fn open_edit(&self, conv: &ConvId, folded: &mut Folded) -> StoreResult<()> {
        let Some(edited) = folded.edited.as_mut().filter(|edited| edited.body.is_sealed()) else { return Ok(()) };
        let body = std::mem::replace(&mut edited.body, Body::null());
        let of = Of { conv, sender: &edited.sender, cid: &edited.cid, kind: Kind::Edit };
        edited.body = self.open(of, body, Instant::now()).await?;
        Ok(())
    }
}
