//! Who is home, in the store: `nodes` says which incarnations may write, `slots` who is home of what. Both change by
//! lightweight transactions only. An answer that does not come says nothing, so each change is asked for again until
//! the record shows what became of it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::Inner;
use crate::store::{
    StoreResult,
    scylla::{
        lwt::applied,
        retry::{AFTER_ERROR, Backoff},
        rows::{self, CqlError},
        signed, unsigned,
    },
    slots::{Incarnation, Slot, Term},
};

/// How many fenced incarnations are remembered.
const REMEMBERED: usize = 64;

/// Incarnations that were seen fenced at a quorum: none is ever alive again. Whoever takes hundreds of slots of one would
/// otherwise ask for its row as often, by lightweight transactions that wait for each other.
#[derive(Debug, Default)]
pub(super) struct Fenced(Mutex<VecDeque<Incarnation>>);

impl Fenced {
    fn knows(&self, who: &Incarnation) -> bool {
        self.0.lock().contains(who)
    }

    fn note(&self, who: &Incarnation) {
        let mut known = self.0.lock();
        if known.contains(who) {
            return;
        }
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back(who.clone());
    }
}

impl Inner {
    /// A number that no life of this name had (F1).
    pub(super) async fn new_incarnation(&self, node: &str) -> Result<Incarnation, CqlError> {
        let mut number = 1;
        loop {
            let last = rows::first::<(i64,)>(self.ask(&self.cql.last_incarnation, (node,)).await?)?;
            number = number.max(last.map_or(0, |(last,)| unsigned(last)) + 1);
            let added = self.ask(&self.cql.add_incarnation, (node, signed(number))).await?;
            if applied(&rows::rows_of(added)?)? {
                return Ok(Incarnation { node: node.into(), number });
            }
            number += 1;
        }
    }

    /// A quorum read (F5).
    pub(super) async fn is_alive(&self, who: &Incarnation) -> Result<bool, CqlError> {
        let key = (who.node.as_str(), signed(who.number));
        let row = rows::first::<(bool,)>(self.ask(&self.cql.is_fenced, key).await?)?;
        Ok(row == Some((false,)))
    }

    /// A serial read, which also commits at a quorum what it shows (F2).
    pub(super) async fn is_fenced_for_good(&self, who: &Incarnation) -> Result<bool, CqlError> {
        let key = (who.node.as_str(), signed(who.number));
        if self.homes.fenced.knows(who) {
            return Ok(true);
        }
        let row = rows::first::<(bool,)>(self.ask(&self.cql.is_fenced_serially, key).await?)?;
        if row == Some((true,)) {
            self.homes.fenced.note(who);
        }
        Ok(row != Some((false,)))
    }

    /// Returns when the incarnation is fenced at a quorum (F2).
    pub(super) async fn fence_incarnation(&self, who: &Incarnation) {
        let key = (who.node.as_str(), signed(who.number));
        let mut backoff = Backoff::new();
        while !self.homes.fenced.knows(who) {
            let done = match self.ask(&self.cql.fence, key).await.and_then(|done| applied(&rows::rows_of(done)?)) {
                Ok(true) => true,
                Ok(false) => self.is_fenced_for_good(who).await.unwrap_or(false),
                Err(_) => false,
            };
            if done {
                return self.homes.fenced.note(who);
            }
            backoff.wait(AFTER_ERROR).await;
        }
    }

    pub(super) async fn read_term(&self, slot: Slot) -> Result<Option<Term>, CqlError> {
        let answer = self.ask(&self.cql.term, (i32::from(slot.number()),)).await?;
        let row = rows::first::<(i64, String, i64)>(answer)?;
        Ok(row.map(|(epoch, node, number)| Term {
            epoch: unsigned(epoch),
            home: Incarnation { node: node.into(), number: unsigned(number) },
        }))
    }

    /// Proposes `to` as the home after `from`. An error says nothing.
    pub(super) async fn propose(&self, slot: Slot, from: Option<&Term>, to: &Incarnation) -> StoreResult<bool> {
        let number = i32::from(slot.number());
        let (node, life) = (to.node.as_str(), signed(to.number));
        let answer = match from {
            None => self.ask(&self.cql.first_term, (number, node, life)).await?,
            Some(Term { epoch, home }) => {
                let (old_node, old_life) = (home.node.as_str(), signed(home.number));
                let values = (signed(epoch + 1), node, life, number, signed(*epoch), old_node, old_life);
                self.ask(&self.cql.next_term, values).await?
            }
        };
        Ok(applied(&rows::rows_of(answer)?)?)
    }
}
