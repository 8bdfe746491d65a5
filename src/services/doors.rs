//! The kinds of requests that services make over NATS, and how many came: for `nats micro stats`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::subject::Subject;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A message.
    Send,
    /// A live signal.
    Signal,
    /// Any op.
    Do,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Send, Self::Signal, Self::Do];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Signal => "signal",
            Self::Do => "do",
        }
    }

    /// Where its requests come in.
    pub fn subject(self) -> Subject {
        match self {
            Self::Send => Subject::all_sends(),
            Self::Signal => Subject::all_signals(),
            Self::Do => Subject::all_dos(),
        }
    }
}

/// What came through them.
#[derive(Debug, Default)]
pub struct Doors([Count; Door::ALL.len()]);

#[derive(Debug, Default)]
struct Count {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
}

impl Doors {
    pub(super) fn count(&self, door: Door, is_error: bool, took: Duration) {
        let count = &self.0[door as usize];
        count.requests.fetch_add(1, Ordering::Relaxed);
        count.errors.fetch_add(is_error.into(), Ordering::Relaxed);
        count.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests that came to their end, those that were refused, and the time that all took, in nanoseconds.
    pub fn counted(&self, door: Door) -> (u64, u64, u64) {
        let count = &self.0[door as usize];
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        (read(&count.requests), read(&count.errors), read(&count.nanos))
    }
}
