//! The values that labels may take, each a closed set, and counters with one slot per value. Used by
//! [`super::Metrics`] only through its public fields.
//!
//! A closed set bounds the number of time series: nothing a peer sends can become a label. It also makes counting one
//! atomic add, without a lock or a hash, and shows every series as 0 from the start.

use std::{fmt, marker::PhantomData};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter},
};

/// A closed set of label values.
pub trait Label: Copy + Send + Sync + fmt::Debug + 'static {
    /// The label's key.
    const KEY: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as it is written in the output.
    fn text(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident($key:literal) { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant),*];
            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels!(
    /// What a client's frame asks for.
    FrameOp("op") {
        /// The first frame of a session.
        Hello = "hello",
        /// A message.
        Send = "send",
        /// An acknowledgement.
        Ack = "ack",
        /// A read mark.
        Read = "read",
        /// A page of a log.
        History = "history",
        /// A page of the listing.
        Conversations = "conversations",
        /// A live signal.
        Signal = "signal",
        /// Who is online.
        Presence = "presence",
        /// Into a room.
        Join = "join",
        /// Out of a room.
        Leave = "leave",
        /// A fresh token.
        Token = "token",
        /// An op that the protocol does not have, or a frame that could not be read.
        Unknown = "unknown",
    }
);

impl FrameOp {
    /// The op by its name on the wire; [`FrameOp::Unknown`] for any other text.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().copied().find(|op| op.text() == name).unwrap_or(Self::Unknown)
    }
}

labels!(
    /// How a message reached a session.
    DeliveryPath("path") {
        /// Within the node that took it.
        Local = "local",
        /// Over NATS.
        Bus = "bus",
        /// Read from the store because the session was behind.
        Fill = "fill",
    }
);

labels!(
    /// Why heads and cursors were compared.
    ReconcileCause("cause") {
        /// A session started.
        Login = "login",
        /// Once more, about a second after a fence.
        Recheck = "recheck",
        /// The connection to NATS was made anew.
        Reconnect = "reconnect",
        /// The NATS client dropped messages on the way in.
        SlowConsumer = "slow_consumer",
        /// The slow pass over all sessions.
        Sweep = "sweep",
        /// The node's own event channel ran over.
        Lagged = "lagged",
    }
);

labels!(
    /// How a service's request ended.
    ServiceOutcome("outcome") {
        /// Stored and answered.
        Ok = "ok",
        /// Refused because the request was bad.
        Refused = "refused",
        /// The service may not speak as that user.
        Forbidden = "forbidden",
        /// The store did not answer.
        Unavailable = "unavailable",
    }
);

labels!(
    /// A call of the store, by its method.
    StoreOp("op") {
        /// Messages into a log.
        Append = "append",
        /// A page forward.
        ReadAfter = "read_after",
        /// A page backward.
        ReadBefore = "read_before",
        /// The top of a log.
        Top = "top",
        /// A page of an inbox.
        Inbox = "inbox",
        /// Heads against cursors.
        Gaps = "gaps",
        /// One cursor.
        Cursor = "cursor",
        /// One cursor, raised.
        RaiseCursor = "raise_cursor",
        /// How far any device of a user has acknowledged.
        Delivered = "delivered",
        /// One read mark.
        ReadMark = "read_mark",
        /// One read mark, raised.
        RaiseReadMark = "raise_read_mark",
        /// A device made known.
        RegisterDevice = "register_device",
        /// The check behind `/readyz`.
        Health = "health",
    }
);

/// One counter for each value of a closed label.
pub struct CounterBy<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> CounterBy<L> {
    /// The counter of one value.
    pub fn of(&self, value: L) -> &Counter {
        &self.counters[value.index()]
    }

    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

// A counter's clone shares its value: the registry holds one, `Metrics` the other.
impl<L> Clone for CounterBy<L> {
    fn clone(&self) -> Self {
        Self { counters: self.counters.clone(), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for CounterBy<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::ALL.iter().map(|l| (l.text(), self.of(*l).get()))).finish()
    }
}

impl<L: Label> EncodeMetric for CounterBy<L> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        for value in L::ALL {
            let labels = [(L::KEY, value.text())];
            self.of(*value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}
