//! Who is home of what, as the store has it: for `natter doctor`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use scylla::{
    client::{pager::QueryPager, session::Session},
    statement::unprepared::Statement,
};

use crate::store::{
    scylla::unsigned,
    slots::{Incarnation, SLOTS},
};

/// Rows per page: there is a life for each start of a node.
const PAGE: i32 = 1_000;

/// The homes on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Homed {
    /// By name and number.
    pub homes: Vec<HomeSeen>,
    /// Slots that never had a home.
    pub vacant: usize,
    /// Lives of nodes, ever.
    pub lives: usize,
    /// Those of them that were fenced.
    pub fenced: usize,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeSeen {
    /// Who.
    pub who: Incarnation,
    /// Of how many slots.
    pub slots: usize,
    /// What the store knows of it.
    pub state: HomeState,
}

/// What the store knows of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeState {
    /// Nothing against it. Whether the process is there, the store does not know.
    Current,
    /// It was fenced: whoever is asked next takes its slots.
    Fenced,
    /// A later life of the same node began.
    Over,
}

pub(super) async fn look(session: &Session, ks: &str) -> Result<Homed, String> {
    let mut seen = Seen::default();
    let slots = pages(session, &format!("SELECT home, incarnation FROM {ks}.slots")).await?;
    let mut slots = slots.rows_stream::<(String, i64)>().map_err(words)?;
    while let Some((home, number)) = slots.try_next().await.map_err(words)? {
        seen.on_slot(home, number);
    }
    let cql = format!("SELECT name, incarnation, fenced FROM {ks}.nodes");
    let lives = pages(session, &cql).await?;
    let mut lives = lives.rows_stream::<(String, i64, bool)>().map_err(words)?;
    while let Some((name, number, fenced)) = lives.try_next().await.map_err(words)? {
        seen.on_life(name, number, fenced);
    }
    Ok(seen.homed())
}

async fn pages(session: &Session, cql: &str) -> Result<QueryPager, String> {
    let mut statement = Statement::new(cql);
    statement.set_page_size(PAGE);
    session.query_iter(statement, &[]).await.map_err(words)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What is kept of the rows: names and homes, not lives.
#[derive(Default)]
struct Seen {
    slots: BTreeMap<(String, i64), usize>,
    fenced_homes: BTreeSet<(String, i64)>,
    latest: BTreeMap<String, i64>,
    lives: usize,
    fenced: usize,
}

impl Seen {
    fn on_slot(&mut self, home: String, number: i64) {
        *self.slots.entry((home, number)).or_default() += 1;
    }

    fn on_life(&mut self, name: String, number: i64, fenced: bool) {
        self.lives += 1;
        self.fenced += usize::from(fenced);
        let life = (name, number);
        if fenced && self.slots.contains_key(&life) {
            self.fenced_homes.insert(life.clone());
        }
        let latest = self.latest.entry(life.0).or_default();
        *latest = number.max(*latest);
    }

    fn homed(self) -> Homed {
        let state = |life: &(String, i64)| {
            if self.fenced_homes.contains(life) {
                HomeState::Fenced
            } else if self.latest.get(&life.0).is_some_and(|latest| *latest > life.1) {
                HomeState::Over
            } else {
                HomeState::Current
            }
        };
        let homes = self.slots.iter().map(|(life, slots)| HomeSeen {
            who: Incarnation { node: life.0.as_str().into(), number: unsigned(life.1) },
            slots: *slots,
            state: state(life),
        });
        let homes: Vec<_> = homes.collect();
        let held: usize = homes.iter().map(|home| home.slots).sum();
        let vacant = usize::from(SLOTS).saturating_sub(held);
        Homed { homes, vacant, lives: self.lives, fenced: self.fenced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_current_fenced_or_over() {
        let mut seen = Seen::default();
        for (home, number) in [("n1", 2), ("n1", 2), ("n2", 1), ("n3", 4)] {
            seen.on_slot(home.to_owned(), number);
        }
        for (name, number, fenced) in
            [("n1", 2, false), ("n1", 1, true), ("n2", 1, true), ("n3", 5, false), ("n3", 4, false)]
        {
            seen.on_life(name.to_owned(), number, fenced);
        }
        let homed = seen.homed();
        let homes: Vec<_> = homed.homes.iter().map(|home| (home.who.to_string(), home.slots, home.state)).collect();
        assert_eq!(
            homes,
            [
                ("n1/2".to_owned(), 2, HomeState::Current),
                ("n2/1".to_owned(), 1, HomeState::Fenced),
                ("n3/4".to_owned(), 1, HomeState::Over),
            ]
        );
        assert_eq!((homed.vacant, homed.lives, homed.fenced), (1020, 5, 2));
    }
}
