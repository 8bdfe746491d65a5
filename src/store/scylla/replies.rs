//! Whether there is a message that a reply is to, in the part of its log that its sender may read (R25). Asked before the
//! message waits for its place, so that the log waits for no read: what a member can read once the member can always read.
//! Called by [`Logs::append`](crate::store::Logs::append).

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use crate::{
    model::{
        ConvId, NewMessage, Seq, UserId,
        room::{Denied, Reach},
    },
    store::{Appended, Span, StoreError, StoreResult},
};

fn reply_of(message: &NewMessage) -> Option<Seq> {
    message.refs.as_ref().and_then(|refs| refs.reply_to)
}

impl Inner {
    /// Appends, in their order, those messages whose replies lead somewhere.
    pub(super) async fn append_checked(
        self: &Arc<Self>,
        conv: &ConvId,
        batch: Vec<NewMessage>,
        deadline: Instant,
    ) -> Vec<StoreResult<Appended>> {
        if batch.iter().all(|message| reply_of(message).is_none()) {
            return self.append(conv, batch, deadline).await;
        }
        let checked = join_all(batch.iter().map(|message| self.check_reply(conv, message)));
        let Ok(checked) = timeout_at(deadline, checked).await else {
            return vec![Err(StoreError::unavailable("no answer in time")); batch.len()];
        };
        let sound = batch.into_iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
        let sound: Vec<_> = sound.map(|(message, _)| message).collect();
        let answers = if sound.is_empty() { Vec::new() } else { self.append(conv, sound, deadline).await };
        let mut answers = answers.into_iter();
        let lost = || Err(StoreError::unavailable("no answer for a message"));
        checked.into_iter().map(|checked| checked.and_then(|()| answers.next().unwrap_or_else(lost))).collect()
    }

    async fn check_reply(self: &Arc<Self>, conv: &ConvId, message: &NewMessage) -> StoreResult<()> {
        let Some(at) = reply_of(message) else { return Ok(()) };
        let no_reply = || StoreError::Denied(Denied::NoReply);
        let before = at.checked_sub(1).ok_or_else(no_reply)?;
        let row = self.read_after(conv, before, Span { rows: 1, bytes: 0 }).await?.pop();
        let is_there = row.is_some_and(|row| row.seq == at && row.kind.is_message());
        if is_there && self.may_read(conv, &message.sender, at).await? { Ok(()) } else { Err(no_reply()) }
    }

    async fn may_read(&self, conv: &ConvId, user: &UserId, at: Seq) -> StoreResult<bool> {
        let Some(id) = conv.as_room() else { return Ok(true) };
        let member = self.member(&id, user).await?;
        if member.role().is_none() {
            // The message is refused where it would get its place, unless it stands there already.
            return Ok(true);
        }
        let room = self.room_at(&id).await?.room;
        let reach = room.map_or(Reach::Join, |room| room.reach);
        Ok(member.readable_after(at.saturating_sub(1), reach) == Some(at))
    }
}
