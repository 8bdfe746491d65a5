//! How many bytes may wait for the store on a node: a stalled store must not fill the memory. Used by the appender.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A budget of bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WaitingBytes(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    most: usize,
    held: AtomicUsize,
}

/// Bytes that wait; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl WaitingBytes {
    /// Room for so many.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Budget { most, held: AtomicUsize::new(0) }))
    }

    /// Holds so many; `None` when there is no room. With nothing held there is room for anything: one message larger
    /// than the budget must not wait for ever.
    pub fn hold(&self, bytes: usize) -> Option<Held> {
        let room = |held: usize| (held == 0 || held.saturating_add(bytes) <= self.0.most).then_some(held + bytes);
        self.0.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Held { budget: self.0.clone(), bytes })
    }

    /// How many are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Acquire)
    }
}

impl Held {
    /// Holds only so many from now on.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.budget.held.fetch_sub(less, Ordering::AcqRel);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room() {
        let bytes = WaitingBytes::new(10);
        let (first, second) = (bytes.hold(6).unwrap(), bytes.hold(4).unwrap());
        assert!(bytes.hold(1).is_none());
        drop(first);
        assert_eq!(bytes.held(), 4);
        assert!(bytes.hold(7).is_none() && bytes.hold(6).is_some());
        drop(second);
        let mut third = bytes.hold(8).unwrap();
        third.shrink_to(3);
        assert_eq!(bytes.held(), 3);
        drop(third);
        assert!(bytes.hold(1_000).is_some(), "alone, whatever its size");
        assert_eq!(bytes.held(), 0);
    }
}
