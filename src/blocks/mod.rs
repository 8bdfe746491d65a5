//! Who blocks whom, as far as this node needs to know it now: each user's blocks, both ways, read once and then remembered
//! for `timing.blocks_known_ms` (R24). A node that is told of a change reads it again; what it is not told of it goes by no
//! longer than that.
//!
//! Asked by `ops` (sends, signals, receipts) and `presence` (who is told what of whom), always about a user who acts or
//! listens here: so one read serves whatever that user does, to whomever.

mod remembered;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::remembered::Remembered;
use crate::{
    metrics::{Metrics, StoreOp},
    model::UserId,
    overload::{Class, Overload, cost},
    store::{People, StoreError, StoreResult, Tie, is_served},
};

/// Users whose blocks are remembered, about.
const USERS: usize = 65_536;
/// Pairs of those who have too many.
const PAIRS: usize = 65_536;
/// Blocks of a user that are remembered as one; of whoever has more each is asked for alone.
const MOST: usize = 4_096;
/// Rows of one read.
const PAGE: usize = 1_024;
/// Pages of one user: those that were unblocked again stand there too.
const PAGES: usize = 16;
/// How long a read waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a user stands to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stand {
    /// The user blocks the other one.
    pub blocks: bool,
    /// The other one blocks the user.
    pub blocked: bool,
}

impl Stand {
    /// Either of it: nothing that is only of the moment passes between them.
    pub fn is_apart(self) -> bool {
        self.blocks || self.blocked
    }
}

/// How a user stands to everybody.
#[derive(Debug, Default)]
pub struct Ties {
    stands: HashMap<UserId, Stand>,
    /// There are more than are held here.
    is_part: bool,
}

impl Ties {
    /// Whoever blocks the user or is blocked; none where there are too many to say.
    pub fn apart(&self) -> Option<impl Iterator<Item = &UserId>> {
        (!self.is_part).then(|| self.stands.keys())
    }

    fn of(&self, other: &UserId) -> Stand {
        self.stands.get(other).copied().unwrap_or_default()
    }

    fn add(&mut self, tie: Tie) {
        let Tie { other, blocks, blocked } = tie;
        if blocks || blocked {
            self.stands.insert(other, Stand { blocks, blocked });
        }
    }
}

/// What this node knows of blocks. Cheap to clone.
#[derive(Clone)]
pub struct Blocks(Arc<Inner>);

struct Inner {
    people: Arc<dyn People>,
    overload: Overload,
    metrics: Arc<Metrics>,
    users: Arc<Remembered<UserId, Ties>>,
    pairs: Arc<Remembered<(UserId, UserId), Stand>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} reads)", self.0.tasks.len())
    }
}

impl Blocks {
    /// Knows nothing yet, and believes what it reads for `known`.
    pub fn new(people: Arc<dyn People>, overload: Overload, metrics: Arc<Metrics>, known: Duration) -> Self {
        let (users, pairs) = (Remembered::new(known, USERS), Remembered::new(known, PAIRS));
        Self(Arc::new(Inner { people, overload, metrics, users, pairs, tasks: TaskTracker::new() }))
    }

    /// Calls `then` with how `user` stands to `other`: from this call where it is known. Calls about one pair keep their
    /// order.
    pub fn stand(&self, user: &UserId, other: &UserId, then: impl FnOnce(StoreResult<Stand>) + Send + 'static) {
        let (inner, pair) = (self.0.clone(), (user.clone(), other.clone()));
        self.ties(user, move |ties| match ties {
            Ok(ties) if ties.is_part => inner.pair(pair, then),
            ties => then(ties.map(|ties| ties.of(&pair.1))),
        });
    }

    /// The same for whoever can wait.
    ///
    /// # Errors
    /// When the store did not say.
    pub async fn stand_of(&self, user: &UserId, other: &UserId) -> StoreResult<Stand> {
        let (told, answer) = oneshot::channel();
        self.stand(user, other, move |stand| drop(told.send(stand)));
        answer.await.unwrap_or_else(unread)
    }

    /// Calls `then` with all blocks of a user.
    pub fn ties(&self, user: &UserId, then: impl FnOnce(StoreResult<Arc<Ties>>) + Send + 'static) {
        let (inner, of) = (self.0.clone(), user.clone());
        self.0.users.get(user, &self.0.tasks, move || inner.clone().read_ties(of.clone()), then);
    }

    /// The same for whoever can wait.
    ///
    /// # Errors
    /// When the store did not say.
    pub async fn ties_of(&self, user: &UserId) -> StoreResult<Arc<Ties>> {
        let (told, answer) = oneshot::channel();
        self.ties(user, move |ties| drop(told.send(ties)));
        answer.await.unwrap_or_else(unread)
    }

    /// One of the two has blocked the other, or unblocked: what is known of them is read again.
    pub fn forget(&self, user: &UserId, other: &UserId) {
        for (one, two) in [(user, other), (other, user)] {
            self.0.users.forget(one);
            self.0.pairs.forget(&(one.clone(), two.clone()));
        }
    }

    /// Waits until nobody waits for a read.
    pub async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }
}

fn unread<T>(_: oneshot::error::RecvError) -> StoreResult<T> {
    Err(StoreError::unavailable("the blocks could not be read"))
}

impl Inner {
    fn pair(self: &Arc<Self>, pair: (UserId, UserId), then: impl FnOnce(StoreResult<Stand>) + Send + 'static) {
        let (inner, of) = (self.clone(), pair.clone());
        let load = move || inner.clone().read_pair(of.clone());
        self.pairs.get(&pair, &self.tasks, load, move |stand| then(stand.map(|stand| *stand)));
    }

    async fn read_pair(self: Arc<Self>, (user, other): (UserId, UserId)) -> StoreResult<Stand> {
        let read = self.counted(1, async { Ok((self.people.tie(&user, &other).await?, 1)) }).await?;
        Ok(Stand { blocks: read.blocks, blocked: read.blocked })
    }

    async fn read_ties(self: Arc<Self>, user: UserId) -> StoreResult<Ties> {
        let read = async {
            let (mut ties, mut after, mut rows) = (Ties { is_part: true, ..Ties::default() }, None, 0);
            for _ in 0..PAGES {
                let page = self.people.ties(&user, after.as_ref(), PAGE).await?;
                rows += page.len();
                let is_last = page.len() < PAGE;
                after = page.last().map(|tie| tie.other.clone());
                page.into_iter().for_each(|tie| ties.add(tie));
                if is_last || ties.stands.len() > MOST {
                    ties.is_part = ties.stands.len() > MOST;
                    break;
                }
            }
            if ties.is_part {
                ties.stands = HashMap::new();
            }
            Ok((ties, rows))
        };
        self.counted(1, read).await
    }

    /// A read in its turn, with the rows that it has read.
    async fn counted<T>(&self, rows: usize, read: impl Future<Output = StoreResult<(T, usize)>>) -> StoreResult<T> {
        let turn = self.overload.turn_within(PATIENCE, Class::Fill, cost(rows, 0)).await;
        let turn = turn.map_err(StoreError::unavailable)?;
        let read = read.await;
        let rows = read.as_ref().map_or(0, |(_, rows)| *rows);
        turn.end(cost(rows.max(1), 0), is_served(&read));
        if read.is_err() {
            self.metrics.store_errors.of(StoreOp::Blocks).inc();
        }
        read.map(|(found, _)| found)
    }
}
