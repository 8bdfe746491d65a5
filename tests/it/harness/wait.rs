//! Waiting for something to become true: the only way in which a test waits. It asks again and again, and gives up at a
//! deadline that even a loaded machine does not reach.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must happen: far more than it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two checks, which grows with the time waited so far: what happens soon is seen at once, and what
/// takes long is not slowed down by being checked.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Waits until `holds`, at most [`PATIENCE`].
///
/// # Panics
/// With `what`, reported as "waited … until `what`".
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, holds).await;
}

/// The same with a different time limit.
pub async fn until_within(patience: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    until_ok(patience, what, async || if holds().await { Ok(()) } else { Err(String::new()) }).await;
}

/// Waits until `ask` returns something, and passes it on.
///
/// # Panics
/// With `what`, and with what the last answer said was missing.
pub async fn until_ok<T>(patience: Duration, what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    try_until(patience, ask).await.unwrap_or_else(|missing| {
        let missing = if missing.is_empty() { missing } else { format!(": {missing}") };
        panic!("waited {patience:?} in vain until {what}{missing}")
    })
}

/// The same for callers that have more to report when it never happens: they get the last answer.
pub async fn try_until<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        // What never answers is no reason to wait for ever.
        let answer = timeout(patience + PATIENCE, ask()).await;
        match answer.unwrap_or_else(|_| Err("the last question was not answered at all".to_owned())) {
            Err(_) if begin.elapsed() < patience => sleep((begin.elapsed() / 50).clamp(PAUSES.0, PAUSES.1)).await,
            answer => return answer,
        }
    }
}
