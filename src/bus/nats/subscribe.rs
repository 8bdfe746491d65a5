//! The way in: one task per subscription, which hands each message on. Called by [`super::NatsBus`] and by
//! the fence.

use std::sync::{Arc, atomic::Ordering};

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, unconstrained},
};

use super::stats::{BusStats, count};
use crate::{
    bus::{BusMessage, OnMessage},
    subject::Subject,
};

/// Ends the subscription's task when dropped; the task takes the library's subscriber with it, which unsubscribes
/// without waiting.
pub(super) struct Reader {
    task: AbortHandle,
    stats: Arc<BusStats>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
        self.stats.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Subscribes and calls `on` for each message, in order.
///
/// The library's future is polled here once, so that the SUB has its place in the queue of commands before this
/// returns: a fence that is asked for afterwards comes after it, also when the queue is full.
pub(super) fn subscribe(
    (client, runtime, stats): (&Client, &Handle, &Arc<BusStats>),
    subject: &Subject,
    group: Option<&str>,
    on: impl Fn(Message) + Send + 'static,
) -> Reader {
    let name = async_nats::Subject::from(subject.as_str());
    let mut opening = match group.map(str::to_owned) {
        None => {
            let client = client.clone();
            async move { client.subscribe(name).await }.boxed()
        }
        Some(group) => {
            let client = client.clone();
            async move { client.queue_subscribe(name, group).await }.boxed()
        }
    };
    let task = match unconstrained(&mut opening).now_or_never() {
        Some(Ok(subscriber)) => runtime.spawn(read(subscriber, on)),
        Some(Err(error)) => {
            tracing::error!(%subject, %error, "cannot subscribe");
            runtime.spawn(std::future::ready(()))
        }
        None => runtime.spawn(async move {
            if let Ok(subscriber) = opening.await {
                read(subscriber, on).await;
            }
        }),
    };
    stats.subscriptions.fetch_add(1, Ordering::Relaxed);
    Reader { task: task.abort_handle(), stats: Arc::clone(stats) }
}

async fn read(mut subscriber: Subscriber, on: impl Fn(Message)) {
    while let Some(message) = subscriber.next().await {
        on(message);
    }
}

/// Wraps a caller's callback: counts, copies, calls.
pub(super) fn hand_on(stats: &Arc<BusStats>, on_message: OnMessage) -> impl Fn(Message) + Send + 'static {
    let stats = Arc::clone(stats);
    move |message| {
        count(&stats.received);
        on_message(BusMessage {
            subject: message.subject.as_str().into(),
            reply: message.reply.map(|reply| reply.as_str().into()),
            // What the library gives is a slice of its 64 KiB read buffer: kept, it would keep all of that.
            payload: Bytes::copy_from_slice(&message.payload),
        });
    }
}
