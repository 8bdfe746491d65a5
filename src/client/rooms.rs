//! Rooms, for a program: the changes and the lists. Each change carries an id of its own, so that it is made once though it is
//! sent again after a reconnect.

use super::{
    Client, RequestError,
    handle::mismatch,
    requests::{Call, Reply},
};
use crate::{
    model::{
        Cid, RoomId, Seq, UserId,
        room::{Change, Lifetime, Reach, Role, Topic},
    },
    protocol::ask::{ChangeRoom, MembersPage, Readers, ReadersPage, RoomChanged, RoomView, RoomsPage},
};

/// A room that is to be made. Fill it up with `..NewRoom::default()`: a later version may have more fields.
#[derive(Debug, Clone, Default)]
pub struct NewRoom {
    /// Its name; without one it gets one of its own.
    pub room: Option<RoomId>,
    /// What it is about.
    pub topic: Option<Topic>,
    /// Everybody may join it.
    pub public: bool,
    /// Which part of its log members may read with `history`.
    pub history: Reach,
    /// How long its messages last, where their senders do not say less.
    pub lifetime: Option<Lifetime>,
}

impl Client {
    /// Makes a room, whose owner the user is.
    ///
    /// ```no_run
    /// # async fn open(client: &natter::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use natter::{client::NewRoom, model::RoomId, protocol::Body};
    ///
    /// let lobby = RoomId::new("lobby")?;
    /// client.create_room(NewRoom { room: Some(lobby), public: true, ..NewRoom::default() }).await?;
    /// client.send("#lobby", Body::text("welcome")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn create_room(&self, new: NewRoom) -> Result<RoomChanged, RequestError> {
        let NewRoom { room, topic, public, history, lifetime } = new;
        self.change(room, Change::Created { topic, public, history, lifetime }).await
    }

    /// Enters a room.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn join_room(&self, room: &RoomId) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Joined).await
    }

    /// Leaves a room, or declines an invitation.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn leave_room(&self, room: &RoomId) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Left).await
    }

    /// Lets a user join a room.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn invite(&self, room: &RoomId, user: &UserId) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Invited { user: user.clone() }).await
    }

    /// Puts a user out of a room, or takes an invitation back.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn kick(&self, room: &RoomId, user: &UserId) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Kicked { user: user.clone() }).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn set_role(&self, room: &RoomId, user: &UserId, role: Role) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Role { user: user.clone(), role }).await
    }

    /// Gives a room another topic, or none.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn set_topic(&self, room: &RoomId, topic: Option<Topic>) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Topic { topic }).await
    }

    /// Says how long messages of a room last from now on; `None`: until their senders say.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn set_lifetime(&self, room: &RoomId, lifetime: Option<Lifetime>) -> Result<RoomChanged, RequestError> {
        self.change_room(room, Change::Lifetime { lifetime }).await
    }

    /// Any of these changes.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn change_room(&self, room: &RoomId, change: Change) -> Result<RoomChanged, RequestError> {
        self.change(Some(room.clone()), change).await
    }

    async fn change(&self, room: Option<RoomId>, change: Change) -> Result<RoomChanged, RequestError> {
        match self.ask(Call::ChangeRoom(ChangeRoom { room, cid: Some(Cid::fresh()), change })).await? {
            Reply::Changed(changed) => Ok(changed),
            other => Err(mismatch(&other)),
        }
    }

    /// A room as the user sees it.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn room(&self, room: &RoomId) -> Result<RoomView, RequestError> {
        match self.ask(Call::Room { room: room.clone() }).await? {
            Reply::Room(view) => Ok(*view),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of the user's rooms, at most 100, those included that the user is invited to. `after` is the `next` of the
    /// page before.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn rooms(&self, after: Option<RoomId>, limit: usize) -> Result<RoomsPage, RequestError> {
        match self.ask(Call::Rooms { after, limit }).await? {
            Reply::Rooms(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of a room's members, at most 100. `after` is the `next` of the page before.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn members(
        &self,
        room: &RoomId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<MembersPage, RequestError> {
        match self.ask(Call::Members { room: room.clone(), after, limit }).await? {
            Reply::Members(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of the members who have read the room up to `seq`, at most 100. It may be smaller and have a next one all the
    /// same.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn readers(
        &self,
        room: &RoomId,
        seq: Seq,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<ReadersPage, RequestError> {
        match self.ask(Call::Readers(Readers { room: room.clone(), seq, after, limit })).await? {
            Reply::Readers(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}
