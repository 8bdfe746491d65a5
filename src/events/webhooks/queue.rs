//! The events that wait for one target: bounded in number and bytes, the oldest are dropped. Kept by [`super::target`].

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Bytes that may wait for one target.
const BYTES: usize = 64 << 20;

/// An event to be posted.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) id: CompactString,
    pub(super) payload: Bytes,
    pub(super) since: Instant,
}

/// Those that wait, the oldest first.
pub(super) struct Queue {
    waiting: Mutex<(VecDeque<Post>, usize)>,
    most: usize,
    wake: Notify,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most, wake: Notify::new() }
    }

    /// One more; returns how many had to make room for it.
    pub(super) fn push(&self, post: Post) -> usize {
        let mut waiting = self.waiting.lock();
        let (posts, bytes) = &mut *waiting;
        let mut dropped = 0;
        while !posts.is_empty() && (posts.len() >= self.most || *bytes + post.payload.len() > BYTES) {
            *bytes -= posts.pop_front().map_or(0, |oldest| oldest.payload.len());
            dropped += 1;
        }
        *bytes += post.payload.len();
        posts.push_back(post);
        drop(waiting);
        self.wake.notify_one();
        dropped
    }

    /// The oldest, as soon as there is one.
    pub(super) async fn pop(&self) -> Post {
        loop {
            let (post, more) = {
                let mut waiting = self.waiting.lock();
                let (posts, bytes) = &mut *waiting;
                let post = posts.pop_front();
                *bytes -= post.as_ref().map_or(0, |post| post.payload.len());
                (post, !posts.is_empty())
            };
            if more {
                // Of several pushes one may have woken nobody.
                self.wake.notify_one();
            }
            match post {
                Some(post) => return post,
                None => self.wake.notified().await,
            }
        }
    }

    /// Forgets all, and returns how many there were.
    pub(super) fn clear(&self) -> usize {
        mem::take(&mut *self.waiting.lock()).0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(id: &str, bytes: usize) -> Post {
        Post { id: id.into(), payload: Bytes::from(vec![7; bytes]), since: Instant::now() }
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_the_rest_keeps_its_order() {
        let queue = Queue::new(3);
        let dropped: Vec<_> = ["a", "b", "c", "d", "e"].map(|id| queue.push(post(id, 1))).into();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        for id in ["c", "d"] {
            assert_eq!(queue.pop().await.id, id);
        }
        assert_eq!(queue.push(post("large", BYTES)), 1, "by bytes as well");
        assert_eq!(queue.pop().await.id, "large");
        assert_eq!((queue.push(post("f", 1)), queue.clear()), (0, 1));
        assert_eq!(queue.waiting.lock().1, 0);
    }
}
