//! One read of a room for all who ask at the same time: the members of a room come back together, and each of them wants its
//! head. Used by [`super::room_places`] and [`super::room_sweep`].
//!
//! Nobody gets the answer of a read that began before the question: it may be older than what the asker listens on. So who
//! asks while a read is under way shares the *next* one.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::room_places::ROOMS;
use crate::{
    model::RoomId,
    store::{RoomRow, Rooms, StoreError, StoreResult},
};

/// Reads of one run that are under way at once.
const AT_ONCE: usize = 4;

type Found = HashMap<RoomId, RoomRow>;

/// Who asks, and for which rooms.
#[derive(Default)]
struct Next {
    is_running: bool,
    rooms: HashSet<RoomId>,
    waiting: Vec<oneshot::Sender<StoreResult<Arc<Found>>>>,
}

/// The reads of a node.
pub(super) struct RoomRows {
    store: Arc<dyn Rooms>,
    next: Mutex<Next>,
}

impl RoomRows {
    pub(super) fn new(store: Arc<dyn Rooms>) -> Arc<Self> {
        Arc::new(Self { store, next: Mutex::default() })
    }

    /// Those of these rooms that there are.
    pub(super) async fn read(self: &Arc<Self>, rooms: &[RoomId]) -> StoreResult<Vec<RoomRow>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let (sender, answer) = oneshot::channel();
        let leads = {
            let mut next = self.next.lock();
            next.rooms.extend(rooms.iter().cloned());
            next.waiting.push(sender);
            !mem::replace(&mut next.is_running, true)
        };
        if leads {
            // A task of its own: the others must get their answer although this caller may be dropped.
            tokio::spawn(run(self.clone()));
        }
        let found = answer.await.unwrap_or_else(|_| Err(StoreError::unavailable("the read of rooms ended early")))?;
        Ok(rooms.iter().filter_map(|room| found.get(room).cloned()).collect())
    }

    async fn read_all(&self, rooms: HashSet<RoomId>) -> StoreResult<Arc<Found>> {
        let rooms: Vec<_> = rooms.into_iter().collect();
        let pages: Vec<_> = rooms.chunks(ROOMS).map(|page| self.store.rooms(page)).collect();
        let pages: Vec<_> = stream::iter(pages).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Arc::new(pages.into_iter().flatten().flatten().map(|row| (row.id.clone(), row)).collect()))
    }
}

async fn run(shared: Arc<RoomRows>) {
    let guard = FreeOnPanic(&shared);
    loop {
        let (rooms, waiting) = {
            let mut next = shared.next.lock();
            if next.waiting.is_empty() {
                // Under the same lock: nobody may join a run that is over.
                next.is_running = false;
                break;
            }
            (mem::take(&mut next.rooms), mem::take(&mut next.waiting))
        };
        let found = shared.read_all(rooms).await;
        for sender in waiting {
            let _ = sender.send(found.clone());
        }
    }
    mem::forget(guard);
}

/// A store that panics costs those who wait their answer, and nobody else.
struct FreeOnPanic<'a>(&'a RoomRows);

impl Drop for FreeOnPanic<'_> {
    fn drop(&mut self) {
        *self.0.next.lock() = Next::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        model::{
            Counts, Device, Seq, UserId,
            room::{Member, Reach, Room},
        },
        store::StoreFuture,
    };

    /// Rooms whose head grows with each read; a read waits until it is let through.
    struct Slow {
        reads: AtomicUsize,
        gate: Semaphore,
    }

    impl Rooms for Slow {
        fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>> {
            Box::pin(async move {
                let head = self.reads.fetch_add(1, Ordering::AcqRel) as Seq;
                self.gate.acquire().await.unwrap().forget();
                let room = Room {
                    topic: None,
                    public: true,
                    reach: Reach::Join,
                    created: 0,
                    members: 1,
                    owners: 1,
                    applied: 0,
                    lifetime: None,
                };
                let row = |id: &RoomId| RoomRow {
                    id: id.clone(),
                    room: room.clone(),
                    head,
                    event: 0,
                    ts: 0,
                    last: None,
                    counts: Counts::default(),
                    noted: 0,
                };
                Ok(rooms.iter().map(|id| (id.as_str() != "none").then(|| row(id))).collect())
            })
        }

        fn member<'a>(&'a self, _: &'a RoomId, _: &'a UserId) -> StoreFuture<'a, Member> {
            unreachable!("only rooms are read")
        }

        fn members<'a>(
            &'a self,
            _: &'a RoomId,
            _: Option<&'a UserId>,
            _: usize,
        ) -> StoreFuture<'a, Vec<(UserId, Member)>> {
            unreachable!("only rooms are read")
        }

        fn rooms_of<'a>(
            &'a self,
            _: &'a UserId,
            _: Option<&'a RoomId>,
            _: usize,
        ) -> StoreFuture<'a, Vec<(RoomId, Member)>> {
            unreachable!("only rooms are read")
        }

        fn room_cursors<'a>(
            &'a self,
            _: &'a Device,
            _: Option<&'a RoomId>,
            _: usize,
        ) -> StoreFuture<'a, Vec<(RoomId, Seq)>> {
            unreachable!("only rooms are read")
        }
    }

    #[tokio::test]
    async fn askers_share_the_next_read_never_a_running_one() {
        let store = Arc::new(Slow { reads: AtomicUsize::new(0), gate: Semaphore::new(0) });
        let rows = RoomRows::new(store.clone());
        let ids = ["a", "none", "b"].map(|name| RoomId::new(name).unwrap());
        let first = tokio::spawn({
            let (rows, ids) = (rows.clone(), ids.clone());
            async move { rows.read(&ids).await }
        });
        while store.reads.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..100)
            .map(|_| {
                let (rows, room) = (rows.clone(), ids[2].clone());
                tokio::spawn(async move { rows.read(&[room]).await })
            })
            .collect();
        while rows.next.lock().waiting.len() < 100 {
            tokio::task::yield_now().await;
        }
        store.gate.add_permits(2);
        let first = first.await.unwrap().unwrap();
        assert_eq!(first.iter().map(|row| (row.id.as_str(), row.head)).collect::<Vec<_>>(), [("a", 0), ("b", 0)]);
        for rows in later {
            assert_eq!(
                rows.await.unwrap().unwrap().iter().map(|row| row.head).collect::<Vec<_>>(),
                [1],
                "not that of the first read"
            );
        }
        assert_eq!(store.reads.load(Ordering::Acquire), 2);
    }
}
