//! Edits, deletions and reactions, for a program. Each carries an id of its own, so that it is stored once though it is sent
//! again after a reconnect.

use super::{
    Client, HistoryPage, RequestError, SentInfo,
    handle::mismatch,
    requests::{Call, Reply},
};
use crate::{
    model::{Cid, ConvId, Reacting, Reaction, Seq},
    protocol::{
        Body, HistoryFrom,
        ask::{About, Say},
    },
};

impl Client {
    /// Gives the message at `re`, which the user wrote, another text.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn edit(&self, conv: &ConvId, re: Seq, body: Body) -> Result<SentInfo, RequestError> {
        self.about(conv, re, Say::Edit(body)).await
    }

    /// Deletes the message at `re`: one's own, in a room as an owner or a moderator anybody's.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn delete(&self, conv: &ConvId, re: Seq) -> Result<SentInfo, RequestError> {
        self.about(conv, re, Say::Delete).await
    }

    /// Reacts to the message at `re`.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn react(&self, conv: &ConvId, re: Seq, reaction: Reaction) -> Result<SentInfo, RequestError> {
        self.about(conv, re, Say::React(Reacting { reaction, set: true })).await
    }

    /// Takes a reaction back.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn unreact(&self, conv: &ConvId, re: Seq, reaction: Reaction) -> Result<SentInfo, RequestError> {
        self.about(conv, re, Say::React(Reacting { reaction, set: false })).await
    }

    /// A page of a conversation's log as it is, with edits, deletions and reactions as rows of their own.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn raw_history(
        &self,
        conv: &ConvId,
        from: HistoryFrom,
        limit: usize,
    ) -> Result<HistoryPage, RequestError> {
        self.page(conv, from, limit, true).await
    }

    async fn about(&self, conv: &ConvId, re: Seq, what: Say) -> Result<SentInfo, RequestError> {
        let cid = Cid::fresh();
        match self.ask(Call::About(About { conv: conv.clone(), re, cid, what })).await? {
            Reply::Sent(info) => Ok(info),
            other => Err(mismatch(&other)),
        }
    }
}
