//! How much each service may ask per second, where that is limited. Used by `ops`, through whatever door a service comes.

use std::{collections::HashMap, fmt, time::Instant};

use parking_lot::Mutex;

use super::{Tick, bucket::Bucket};
use crate::model::UserId;

/// What may come at once, in seconds of the rate.
const BURST_SECS: u32 = 2;

/// What is left of the rate of each service that has one: as many as the configuration names.
pub struct Rates {
    begin: Instant,
    left: Mutex<HashMap<UserId, (u32, Bucket)>>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rates({} services)", self.left.lock().len())
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { begin: Instant::now(), left: Mutex::default() }
    }
}

impl Rates {
    /// Takes `cost` of what a service with this rate may ask. What is more than may come at once is owed.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn take(&self, service: &UserId, per_sec: u32, cost: u64) -> Result<(), u64> {
        if per_sec == 0 {
            return Ok(());
        }
        let now = Tick::try_from(self.begin.elapsed().as_millis()).unwrap_or(Tick::MAX);
        let burst = per_sec.saturating_mul(BURST_SECS);
        let mut left = self.left.lock();
        let (rate, bucket) = match left.get_mut(service) {
            Some(known) => known,
            None => left.entry(service.clone()).or_insert((per_sec, Bucket::full(per_sec, burst, now))),
        };
        if *rate != per_sec {
            bucket.set_rate(per_sec, burst, now);
            *rate = per_sec;
        }
        match bucket.wait(cost, now) {
            0 => {
                bucket.take(cost, now);
                Ok(())
            }
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_a_rate_of_its_own() {
        let rates = Rates::default();
        let [shop, billing] = ["shop", "billing"].map(|name| UserId::new(name).unwrap());
        assert!((0..2).all(|_| rates.take(&shop, 1, 1).is_ok()));
        let wait = rates.take(&shop, 1, 1).unwrap_err();
        assert!((1..=1_000).contains(&wait), "{wait}");
        // More than may come at once comes when nothing is owed, and is owed itself.
        assert!(rates.take(&billing, 1, 1_000).is_ok());
        assert!(rates.take(&billing, 1, 1).unwrap_err() > 900_000);
        assert!((0..9_999).all(|_| rates.take(&billing, 0, 1).is_ok()), "no limit any more");
    }
}
