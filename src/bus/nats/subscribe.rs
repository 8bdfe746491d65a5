//! The way in: one task per subscription, which hands on each message. Called by [`super::NatsBus`], also for the
//! bus's own subscriptions.

use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, unconstrained},
};

use crate::{
    bus::{BusMessage, OnMessage},
    metrics::Metrics,
    subject::Subject,
};

/// Ends the subscription's task when dropped. The task owns the library's subscriber, whose drop unsubscribes
/// without waiting.
pub(super) struct Reader {
    task: AbortHandle,
    metrics: Arc<Metrics>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
        self.metrics.subscriptions.dec();
    }
}

/// Subscribes and calls `on` for each message, in order.
///
/// The library's future is polled here once, so that the SUB has its place in the queue of commands before this
/// returns: a fence requested afterwards comes after it, even when the queue is full.
pub(super) fn subscribe(
    (client, runtime, metrics): (&Client, &Handle, &Arc<Metrics>),
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
    metrics.subscriptions.inc();
    Reader { task: task.abort_handle(), metrics: Arc::clone(metrics) }
}

async fn read(mut subscriber: Subscriber, on: impl Fn(Message)) {
    while let Some(message) = subscriber.next().await {
        on(message);
    }
}

/// Wraps a caller's callback: counts, copies, calls.
pub(super) fn hand_on(metrics: &Arc<Metrics>, on_message: OnMessage) -> impl Fn(Message) + Send + 'static {
    let metrics = Arc::clone(metrics);
    move |message| {
        metrics.nats_received.inc();
        on_message(BusMessage {
            subject: message.subject.as_str().into(),
            reply: message.reply.map(|reply| reply.as_str().into()),
            // The library's payload is a slice of its 64 KiB read buffer: to keep it would keep the whole buffer.
            payload: Bytes::copy_from_slice(&message.payload),
        });
    }
}
