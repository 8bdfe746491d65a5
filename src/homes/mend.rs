//! Mending a conversation's heads where its home is: here, or at another node, which is asked under its own name. Called by
//! [`super::route`] as the store of `natter repair`, and by [`super::serve`] for the asker's side on another node.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Shared, Words, gather,
    route::{Seen, wait},
    takeover::Found,
    wire::{self, MendAnswer, MendRequest},
};
use crate::{
    bus::{BusMessage, RequestError},
    model::{ConvId, Seq},
    store::{
        STORE_DEADLINE, StoreError, StoreResult,
        slots::{Incarnation, Slot},
    },
    subject::Subject,
};

/// What became of one try.
enum Tried {
    /// It is over: mended, or it can never be.
    Over(StoreResult<Seq>),
    /// Not now, for this reason.
    Refused(Words),
    /// The home is elsewhere, or gone; this one was found silent.
    Nobody(Option<Incarnation>),
}

impl Tried {
    fn here(result: StoreResult<Seq>) -> Self {
        match result {
            Err(StoreError::NotHome) => Self::Nobody(None),
            Err(StoreError::Unavailable(words)) => Self::Refused(words),
            other => Self::Over(other),
        }
    }
}

impl Shared {
    /// As [`crate::store::Logs::mend`], wherever the home is.
    pub(super) async fn mend(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        let mut words: Words = "the conversation's home did not answer in time".into();
        let deadline = Instant::now() + STORE_DEADLINE;
        let mended = timeout_at(deadline, self.mend_at_home(Slot::of(conv), conv, &mut words)).await;
        mended.unwrap_or(Err(StoreError::Unavailable(words)))
    }

    async fn mend_at_home(self: &Arc<Self>, slot: Slot, conv: &ConvId, words: &mut Words) -> StoreResult<Seq> {
        let mut pause = None;
        loop {
            let tried = match self.slots.holds(slot) {
                true => Tried::here(self.logs.mend(conv).await),
                false => self.ask_to_mend(slot, conv).await,
            };
            let suspect = match tried {
                Tried::Over(result) => return result,
                Tried::Refused(why) => {
                    *words = why;
                    wait(&mut pause).await;
                    continue;
                }
                Tried::Nobody(suspect) => suspect,
            };
            self.hints.lock().remove(&slot);
            match self.find(slot, suspect).await {
                Ok(Found::Here) => {}
                Ok(Found::At(home)) => drop(self.hints.lock().insert(slot, home)),
                Err(why) => *words = why,
            }
            // The first search is what a mend begins with; only what comes back to it waits.
            if pause.is_some() {
                wait(&mut pause).await;
            }
            pause = pause.or(Some(super::route::FIRST_PAUSE));
        }
    }

    async fn ask_to_mend(&self, slot: Slot, conv: &ConvId) -> Tried {
        let Some(home) = self.hints.lock().get(&slot).cloned() else { return Tried::Nobody(None) };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let payload = wire::encode(&MendRequest { id, conv: conv.clone() });
        match self.wait_for_answer(&Subject::node(&home.node, "mend"), payload, (slot, id)).await {
            Ok(Ok(payload)) => match wire::decode::<MendAnswer>(&payload) {
                Ok(MendAnswer::Done(seq)) => Tried::Over(Ok(seq)),
                Ok(MendAnswer::NotHome) => Tried::Nobody(None),
                Ok(MendAnswer::Refused(words)) => Tried::Refused(words.into()),
                Err(error) => Tried::Refused(format!("the answer of the conversation's home: {error}").into()),
            },
            Ok(Err(RequestError::NoResponders)) => {
                tracing::debug!(%home, "nobody hears a mend: the node is gone, or too old for it");
                Tried::Nobody(None)
            }
            Ok(Err(_)) | Err(Seen::Waiting) => Tried::Nobody(None),
            // It is asked again, as itself.
            Err(Seen::At(home)) => Tried::Refused(format!("{home} did not get the request; try again").into()),
            Err(Seen::Nobody(suspect)) => Tried::Nobody(suspect),
        }
    }

    /// The home's side.
    pub(super) fn on_mend(self: &Arc<Self>, message: BusMessage) {
        let MendRequest { id, conv } = match wire::decode(&message.payload) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a mend of another node cannot be read");
                return self.reply(&message, &MendAnswer::Refused(error.to_string()));
            }
        };
        if !self.slots.holds(Slot::of(&conv)) {
            return self.reply(&message, &MendAnswer::NotHome);
        }
        let Some(held) = self.under_way.enter(id, message.payload.len()) else {
            let words = "the conversation's home has too much to do; try again";
            return self.reply(&message, &MendAnswer::Refused(words.to_owned()));
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let answer = match timeout(gather::LONGEST, shared.logs.mend(&conv)).await {
                Ok(Ok(seq)) => MendAnswer::Done(seq),
                Ok(Err(StoreError::NotHome)) => MendAnswer::NotHome,
                Ok(Err(error)) => MendAnswer::Refused(error.to_string()),
                Err(_) => MendAnswer::Refused("no answer of the store".to_owned()),
            };
            shared.reply(&message, &answer);
            drop(held);
        });
    }
}
