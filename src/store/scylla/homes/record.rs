//! Who is home, in the store: `nodes` says which incarnations may write, `slots` who is home of what. Both change by
//! lightweight transactions only. An answer that does not come says nothing, so each change is asked for again until
//! the record shows what became of it.

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

    /// A serial read, which also commits at a quorum what it shows (F2). A fence is for ever, so one is read once.
    pub(super) async fn is_fenced_for_good(&self, who: &Incarnation) -> Result<bool, CqlError> {
        if self.homes.is_known_fenced(who) {
            return Ok(true);
        }
        let fenced = self.read_fence(who).await?;
        if fenced {
            self.homes.know_fenced(who);
        }
        Ok(fenced)
    }

    async fn read_fence(&self, who: &Incarnation) -> Result<bool, CqlError> {
        let key = (who.node.as_str(), signed(who.number));
        let row = rows::first::<(bool,)>(self.ask(&self.cql.is_fenced_serially, key).await?)?;
        Ok(row != Some((false,)))
    }

    /// Returns when the incarnation is fenced at a quorum (F2).
    pub(super) async fn fence_incarnation(&self, who: &Incarnation) {
        let key = (who.node.as_str(), signed(who.number));
        let mut backoff = Backoff::new();
        while !self.homes.is_known_fenced(who) {
            let done = match self.ask(&self.cql.fence, key).await.and_then(|done| applied(&rows::rows_of(done)?)) {
                Ok(true) => true,
                Ok(false) => self.is_fenced_for_good(who).await.unwrap_or(false),
                Err(_) => false,
            };
            if done {
                return self.homes.know_fenced(who);
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
