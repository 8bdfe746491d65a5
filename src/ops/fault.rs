//! What the store said, in the protocol's words and in the metrics. Called by every op that waits for the store.

use crate::{
    metrics::{Metrics, StoreOp},
    protocol::{ErrorCode, Refused},
    store::{StoreError, StoreResult},
};

/// The refusal for what the store said.
pub fn refused(error: &StoreError) -> Refused {
    let code = match error {
        StoreError::CidReused { .. } => ErrorCode::CidReused,
        StoreError::Unavailable(_) => ErrorCode::Unavailable,
        StoreError::Unsupported(_) => ErrorCode::Unsupported,
    };
    Refused::new(code, error.to_string())
}

/// Counts a failed store call and passes its result on.
///
/// # Errors
/// Those of the call.
pub fn counted<T>(metrics: &Metrics, op: StoreOp, result: StoreResult<T>) -> StoreResult<T> {
    if let Err(error) = &result {
        metrics.store_errors.of(op).inc();
        tracing::warn!(?op, %error, "a store call failed");
    }
    result
}
