//! Which work starts next: four lines, first come, first served within each, and shares between them. Used by
//! [`super::turn`]; tests and simulations drive it with a clock of their own.
//!
//! Between the lines it is start-time fair queueing: each class has a virtual time that grows by what its work costs over
//! its share, and the class that is furthest back is next, the more urgent one of equals. Nothing that is small passes what is large: the next
//! one waits until there is room for it, and the others wait with it.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Class, Limits, Tick, bucket::Bucket, pace::Pace};

/// What a cost of one weighs in virtual time, before it is divided by a share.
const SCALE: u64 = 1_000;

/// All work of one node: what runs, and what waits with a `W` to be called by.
#[derive(Debug)]
pub struct Lines<W> {
    limits: Limits,
    lines: [Line<W>; 4],
    /// Cost of what runs.
    in_flight: u64,
    /// Of the metered classes together.
    rows: Bucket,
    pace: Pace,
    /// The virtual time at which the last work started.
    served_to: u64,
    next_ticket: u64,
}

#[derive(Debug)]
struct Line<W> {
    /// By ticket, so in order of arrival.
    waiting: BTreeMap<u64, Waiting<W>>,
    running: usize,
    /// Cost of what runs.
    in_flight: u64,
    virtual_time: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    cost: u64,
    waiter: W,
}

/// Work that starts now.
#[derive(Debug)]
pub struct Started<W> {
    /// Its class.
    pub class: Class,
    /// What was taken for it.
    pub cost: u64,
    /// Who waits for it.
    pub waiter: W,
}

impl<W> Lines<W> {
    /// Nothing runs.
    pub fn new(limits: Limits, now: Tick) -> Self {
        let rows = Bucket::full(limits.rows_per_sec, limits.rows_per_sec, now);
        let pace = Pace::new(limits.recovery_per_sec, now);
        let lines = [(); 4].map(|()| Line { waiting: BTreeMap::new(), running: 0, in_flight: 0, virtual_time: 0 });
        Self { limits, lines, in_flight: 0, rows, pace, served_to: 0, next_ticket: 0 }
    }

    /// Starts work at once where nothing waits and there is room: what almost all work finds. `false`: it has to
    /// [`Lines::wait`].
    pub fn try_start(&mut self, class: Class, cost: u64, now: Tick) -> bool {
        let free = self.lines.iter().all(|line| line.waiting.is_empty())
            && self.has_room(class, cost)
            && self.fits(cost)
            && self.delay_of(class, cost, now) == 0;
        if free {
            self.start(class, cost, now);
        }
        free
    }

    /// Puts work at the end of its line; the ticket takes it out again. [`Lines::started`] says when it starts.
    ///
    /// # Errors
    /// The waiter, when the line is full.
    pub fn wait(&mut self, class: Class, cost: u64, waiter: W) -> Result<u64, W> {
        let most = self.limits.lines[class as usize].waiting;
        let line = &mut self.lines[class as usize];
        if line.waiting.len() >= most {
            return Err(waiter);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        line.waiting.insert(ticket, Waiting { cost, waiter });
        Ok(ticket)
    }

    /// Takes out work that nobody waits for any more; `None` where it has started.
    pub fn leave(&mut self, class: Class, ticket: u64) -> Option<W> {
        self.lines[class as usize].waiting.remove(&ticket).map(|waiting| waiting.waiter)
    }

    /// Takes out all that waits in a line.
    pub fn clear(&mut self, class: Class) -> Vec<W> {
        let waiting = std::mem::take(&mut self.lines[class as usize].waiting);
        waiting.into_values().map(|waiting| waiting.waiter).collect()
    }

    /// Work ended: `taken` is what it was charged when it started, `used` what it cost, and `served` whether the store
    /// answered; `None` where it was not asked after all.
    pub fn end(&mut self, class: Class, taken: u64, used: u64, served: Option<bool>, now: Tick) {
        let held = self.held_by(taken);
        let line = &mut self.lines[class as usize];
        line.running = line.running.saturating_sub(1);
        line.in_flight = line.in_flight.saturating_sub(held);
        line.virtual_time = if used >= taken {
            line.virtual_time.saturating_add(weigh(class, used - taken))
        } else {
            line.virtual_time.saturating_sub(weigh(class, taken - used))
        };
        self.in_flight = self.in_flight.saturating_sub(held);
        if class.is_metered() {
            if used >= taken {
                self.rows.take(used - taken, now);
            } else {
                self.rows.give_back(taken - used, now);
            }
        }
        if let Some(served) = served {
            self.pace.on_end(served, now);
        }
    }

    /// The work that starts now, in its order. To be asked after everything that waits, leaves or ends, and when
    /// [`Lines::wake`] says.
    pub fn started(&mut self, now: Tick) -> Vec<Started<W>> {
        let mut started = Vec::new();
        while let Some((class, cost)) = self.next(now)
            && self.fits(cost)
            && self.delay_of(class, cost, now) == 0
        {
            let Some((_, waiting)) = self.lines[class as usize].waiting.pop_first() else { break };
            self.start(class, cost, now);
            started.push(Started { class, cost, waiter: waiting.waiter });
        }
        started
    }

    /// When [`Lines::started`] may have something though nothing ends; `None`: not before something does.
    pub fn wake(&mut self, now: Tick) -> Option<Tick> {
        let waits = Class::ALL.iter().filter_map(|class| Some((*class, self.head(*class)?))).collect::<Vec<_>>();
        waits
            .into_iter()
            .filter_map(|(class, cost)| Some(now + self.delay_of(class, cost, now)).filter(|at| *at > now))
            .min()
    }

    /// How much work of a class waits.
    pub fn waiting(&self, class: Class) -> usize {
        self.line(class).waiting.len()
    }

    /// How much work of a class runs.
    pub fn running(&self, class: Class) -> usize {
        self.line(class).running
    }

    /// The cost of all work that runs.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether the store is taken to fail, or to recover from that.
    pub fn is_recovering(&self) -> bool {
        self.pace.is_held()
    }

    fn line(&self, class: Class) -> &Line<W> {
        &self.lines[class as usize]
    }

    /// The cost of the first in line that may run as far as its class is concerned.
    fn head(&self, class: Class) -> Option<u64> {
        let (_, first) = self.line(class).waiting.first_key_value()?;
        self.has_room(class, first.cost).then_some(first.cost)
    }

    fn has_room(&self, class: Class, cost: u64) -> bool {
        let line = self.line(class);
        let most = self.limits.in_flight * class.room() / 100;
        let room = line.in_flight == 0 || line.in_flight + self.held_by(cost) <= most;
        room && line.running < self.limits.lines[class as usize].at_once
    }

    /// The class whose turn it is, and what its first in line costs. A class that waits for its rate is passed over, and so
    /// are those that share the rate: it would never get there otherwise.
    fn next(&mut self, now: Tick) -> Option<(Class, u64)> {
        let mut heads: Vec<_> = Class::ALL.iter().filter_map(|class| Some((*class, self.head(*class)?))).collect();
        let at = |class: Class| (self.line(class).virtual_time.max(self.served_to), class as usize);
        heads.sort_by_key(|(class, _)| Reverse(at(*class)));
        let metered = heads.iter().rev().find(|(class, _)| class.is_metered()).copied();
        if metered.is_some_and(|(_, cost)| self.rows.wait(cost, now) > 0) {
            heads.retain(|(class, _)| !class.is_metered());
        }
        heads.pop()
    }

    fn fits(&self, cost: u64) -> bool {
        self.in_flight == 0 || self.in_flight.saturating_add(self.held_by(cost)) <= self.limits.in_flight
    }

    /// What work of this cost takes of the room: never more than all of it.
    fn held_by(&self, cost: u64) -> u64 {
        cost.min(self.limits.in_flight)
    }

    fn delay_of(&mut self, class: Class, cost: u64, now: Tick) -> Tick {
        let rows = if class.is_metered() { self.rows.wait(cost, now) } else { 0 };
        rows.max(self.pace.wait(now))
    }

    fn start(&mut self, class: Class, cost: u64, now: Tick) {
        let held = self.held_by(cost);
        let line = &mut self.lines[class as usize];
        self.served_to = self.served_to.max(line.virtual_time);
        line.virtual_time = self.served_to.saturating_add(weigh(class, cost));
        line.running += 1;
        line.in_flight += held;
        self.in_flight += held;
        if class.is_metered() {
            self.rows.take(cost, now);
        }
        self.pace.on_start(now);
    }
}

fn weigh(class: Class, cost: u64) -> u64 {
    cost.saturating_mul(SCALE) / class.share()
}

#[cfg(test)]
mod tests;
