//! Who is home, in the store: `nodes` says which incarnations may write, `slots` who is home of what. Both change by
//! lightweight transactions only. An answer that does not come says nothing, so each change is asked for again until
//! the record shows what became of it.

use std::time::Instant;

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

    /// Whether this process' own incarnation is alive: a quorum read (F5).
    pub(super) async fn is_alive(&self, me: &Incarnation) -> Result<bool, CqlError> {
        let asked = Instant::now();
        let key = (me.node.as_str(), signed(me.number));
        let row = rows::first::<(bool,)>(self.ask(&self.cql.is_fenced, key).await?)?;
        let alive = row == Some((false,));
        if alive {
            self.homes.lives.note_valid(me, asked);
        }
        Ok(alive)
    }

    /// Whether this process has known for long enough that an incarnation is fenced; looks whether it is, if that is
    /// not known.
    pub(in crate::store::scylla) async fn is_long_gone(&self, who: &Incarnation) -> Result<bool, CqlError> {
        let lives = &self.homes.lives;
        if let Some(known) = lives.fenced_for(who) {
            return Ok(known >= self.gone_after);
        }
        if *who != self.homes.me.read().who && !lives.was_alive(who) {
            self.is_fenced_for_good(who).await?;
            if !lives.is_fenced(who) {
                lives.note_alive(who);
            }
        }
        Ok(false)
    }

    /// A serial read, which also commits at a quorum what it shows (F2).
    pub(super) async fn is_fenced_for_good(&self, who: &Incarnation) -> Result<bool, CqlError> {
        let key = (who.node.as_str(), signed(who.number));
        if self.homes.lives.is_fenced(who) {
            return Ok(true);
        }
        let row = rows::first::<(bool,)>(self.ask(&self.cql.is_fenced_serially, key).await?)?;
        if row == Some((true,)) {
            self.homes.lives.note_fenced(who);
        }
        Ok(row != Some((false,)))
    }

    /// Returns when the incarnation is fenced at a quorum (F2).
    pub(super) async fn fence_incarnation(&self, who: &Incarnation) {
        let key = (who.node.as_str(), signed(who.number));
        let mut backoff = Backoff::new();
        while !self.homes.lives.is_fenced(who) {
            let done = match self.ask(&self.cql.fence, key).await.and_then(|done| applied(&rows::rows_of(done)?)) {
                Ok(true) => true,
                Ok(false) => self.is_fenced_for_good(who).await.unwrap_or(false),
                Err(_) => false,
            };
            if done {
                return self.homes.lives.note_fenced(who);
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
