//! Who is online, and whom the user blocks, for a program.

use super::{
    Client, RequestError,
    handle::mismatch,
    requests::{Call, Reply},
};
use crate::{
    model::UserId,
    protocol::ask::{BlocksPage, Presences},
};

impl Client {
    /// Who of these is online, at most 100.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn presence(&self, users: Vec<UserId>) -> Result<Presences, RequestError> {
        self.ask_presence(users, None).await
    }

    /// The same, and from now on each change is an [`Event::Presence`](super::Event::Presence). Goes on over reconnects: after
    /// one, how it is then comes as such events.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn watch(&self, users: Vec<UserId>) -> Result<Presences, RequestError> {
        self.ask_presence(users, Some(true)).await
    }

    /// Ends that for these.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn unwatch(&self, users: Vec<UserId>) -> Result<Presences, RequestError> {
        self.ask_presence(users, Some(false)).await
    }

    async fn ask_presence(&self, users: Vec<UserId>, watch: Option<bool>) -> Result<Presences, RequestError> {
        match self.ask(Call::Presence { users, watch }).await? {
            Reply::Presences(found) => Ok(found),
            other => Err(mismatch(&other)),
        }
    }

    /// Takes nothing more from a user.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn block(&self, user: &UserId) -> Result<(), RequestError> {
        self.set_block(user, true).await
    }

    /// Takes it again.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn unblock(&self, user: &UserId) -> Result<(), RequestError> {
        self.set_block(user, false).await
    }

    async fn set_block(&self, user: &UserId, on: bool) -> Result<(), RequestError> {
        match self.ask(Call::Block { user: user.clone(), on }).await? {
            Reply::Blocking => Ok(()),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of those whom the user blocks, at most 100. `after` is the `next` of the page before.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn blocks(&self, after: Option<UserId>, limit: usize) -> Result<BlocksPage, RequestError> {
        match self.ask(Call::Blocks { after, limit }).await? {
            Reply::Blocks(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}
