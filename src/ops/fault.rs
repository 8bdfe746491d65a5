//! What the store said, in the protocol's words and in the metrics. Called by every op that waits for the store.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    metrics::{Metrics, StoreOp},
    model::{Millis, now_millis, room::Denied},
    overload::Busy,
    protocol::{ErrorCode, Refused},
    store::{StoreError, StoreResult},
};

pub(super) use crate::store::is_served;

/// Between two warnings about failed calls.
const SAY_AGAIN: Millis = 10_000;

/// When to come back with what found no room, in milliseconds: each at its own moment.
const BUSY_MS: std::ops::Range<u64> = 1_000..5_000;

/// The refusal for what the store said.
pub fn refused(error: &StoreError) -> Refused {
    let code = match error {
        StoreError::CidReused { .. } => ErrorCode::CidReused,
        StoreError::Unavailable(_) | StoreError::Damaged(_) => ErrorCode::Unavailable,
        // Whoever routes appends asks the home again; one that never found it is told to come back.
        StoreError::NotHome => ErrorCode::Unavailable,
        StoreError::Unsupported(_) => ErrorCode::Unsupported,
        StoreError::Denied(why) => denied(*why),
    };
    Refused::new(code, error.to_string())
}

fn denied(why: Denied) -> ErrorCode {
    match why {
        Denied::NoSuchRoom => ErrorCode::NoSuchRoom,
        Denied::NotMember => ErrorCode::NotMember,
        Denied::NoSuchMember => ErrorCode::NotFound,
        Denied::Role(_) | Denied::NotAuthor => ErrorCode::NotAllowed,
        Denied::NoTarget | Denied::NoReply | Denied::Gone(_) => ErrorCode::BadRef,
        Denied::Exists => ErrorCode::RoomExists,
        Denied::Full => ErrorCode::RoomFull,
        Denied::LastOwner => ErrorCode::LastOwner,
        // Whoever asks for a change takes this for done; nobody else can get it.
        Denied::Already => ErrorCode::Unavailable,
    }
}

/// The refusal for what would have to wait for too long.
pub(super) fn busy(busy: &Busy) -> Refused {
    Refused::new(ErrorCode::Unavailable, busy.to_string()).after(soon())
}

/// When to come back, in milliseconds.
pub(super) fn soon() -> u64 {
    rand::random_range(BUSY_MS)
}

/// Whether the store failed. What it refuses by the rules is an answer, and no operator's matter.
pub(super) fn is_failure(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(_) | StoreError::Damaged(_) | StoreError::NotHome => true,
        StoreError::CidReused { .. } | StoreError::Denied(_) | StoreError::Unsupported(_) => false,
    }
}

/// Counts a failed store call and passes its result on.
///
/// # Errors
/// Those of the call.
pub fn counted<T>(metrics: &Metrics, op: StoreOp, result: StoreResult<T>) -> StoreResult<T> {
    if let Err(error) = result.as_ref()
        && is_failure(error)
    {
        metrics.store_errors.of(op).inc();
        if is_time_to_say() {
            tracing::warn!(?op, %error, "a store call failed; further ones are counted, and logged once in ten seconds");
        } else {
            tracing::debug!(?op, %error, "a store call failed");
        }
    }
    result
}

/// Once in [`SAY_AGAIN`]: when the store is down every session fails again and again, and a full disk needs no long log.
fn is_time_to_say() -> bool {
    static SAID: AtomicU64 = AtomicU64::new(0);
    let (said, now) = (SAID.load(Ordering::Relaxed), now_millis());
    now.saturating_sub(said) >= SAY_AGAIN
        && SAID.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
