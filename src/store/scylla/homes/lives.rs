//! What this process has seen of incarnations: which are fenced and for how long it knows, and when its own was last seen
//! alive. So the record is not asked again for what cannot change, and nobody relies on what is too old.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::store::slots::Incarnation;

/// How many fenced incarnations are remembered, and how many that were seen alive.
const REMEMBERED: usize = 256;
/// How long one that was seen alive by somebody else is not asked about again.
const ALIVE: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Seen fenced at a quorum, since then: none is ever alive again. Whoever takes hundreds of slots of one would otherwise
    /// ask for its row as often, by lightweight transactions that wait for each other.
    fenced: VecDeque<(Incarnation, Instant)>,
    alive: VecDeque<(Incarnation, Instant)>,
    /// The own incarnation, and when a question was sent whose answer was that it is alive.
    valid: Option<(Incarnation, Instant)>,
}

impl Lives {
    pub(super) fn is_fenced(&self, who: &Incarnation) -> bool {
        self.fenced_for(who).is_some()
    }

    /// For how long this process has known that it is fenced at a quorum.
    pub(super) fn fenced_for(&self, who: &Incarnation) -> Option<Duration> {
        since(&self.0.lock().fenced, who)
    }

    pub(super) fn note_fenced(&self, who: &Incarnation) {
        let fenced = &mut self.0.lock().fenced;
        if since(fenced, who).is_none() {
            push(fenced, who);
        }
    }

    /// Whether somebody looked not long ago, and it was alive.
    pub(super) fn was_alive(&self, who: &Incarnation) -> bool {
        since(&self.0.lock().alive, who).is_some_and(|age| age < ALIVE)
    }

    pub(super) fn note_alive(&self, who: &Incarnation) {
        let alive = &mut self.0.lock().alive;
        alive.retain(|(other, _)| other != who);
        push(alive, who);
    }

    /// The own incarnation was alive after `asked`.
    pub(super) fn note_valid(&self, who: &Incarnation, asked: Instant) {
        let valid = &mut self.0.lock().valid;
        if valid.as_ref().is_none_or(|(other, at)| other != who || *at < asked) {
            *valid = Some((who.clone(), asked));
        }
    }

    /// The own incarnation was seen alive no longer ago than this.
    pub(super) fn is_valid_within(&self, who: &Incarnation, age: Duration) -> bool {
        self.0.lock().valid.as_ref().is_some_and(|(other, at)| other == who && at.elapsed() <= age)
    }
}

fn since(known: &VecDeque<(Incarnation, Instant)>, who: &Incarnation) -> Option<Duration> {
    known.iter().find(|(other, _)| other == who).map(|(_, at)| at.elapsed())
}

fn push(known: &mut VecDeque<(Incarnation, Instant)>, who: &Incarnation) {
    if known.len() == REMEMBERED {
        known.pop_front();
    }
    known.push_back((who.clone(), Instant::now()));
}
