//! Why the store did not do what it was asked. Every engine answers with these; the gateway turns them into error codes.

use std::sync::Arc;

use crate::model::{Seq, room::Denied};

/// Why a store call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The cid is stored in this conversation with another body.
    #[error("this cid was already used for another body, as seq {seq}")]
    CidReused {
        /// Where the other body stands.
        seq: Seq,
    },
    /// The store did not answer in time or refuses; what was asked may have happened or not.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// What is stored can be read no more: the disk has changed it. Somebody has to look.
    #[error("the store is damaged: {0}; stop natter, run natter verify, restore a backup or start with --accept-loss")]
    Damaged(Arc<str>),
    /// Another process is home of the conversation, or none is: nothing was stored; ask the home.
    #[error("this node is not home of the conversation")]
    NotHome,
    /// The sender may not write this to the room: nothing was stored.
    #[error("{0}")]
    Denied(Denied),
    /// Not served: by this store, or by this version.
    #[error("{0} are not supported yet")]
    Unsupported(&'static str),
}

impl StoreError {
    /// What the home of a conversation does not know.
    pub const UNSERVED: Self = Self::Unsupported("rows of this kind");

    /// An [`StoreError::Unavailable`] with its cause in words.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::Unavailable(cause.to_string().into())
    }
}

/// The result of a store call.
pub type StoreResult<T> = Result<T, StoreError>;

/// Whether the store did its part: what it refuses it has answered.
pub fn is_served<T>(result: &StoreResult<T>) -> bool {
    !matches!(result, Err(StoreError::Unavailable(_)))
}
