//! The values that labels may take, each a closed set, and counters with one slot per value. Used by
//! [`super::Metrics`] only through its public fields.
//!
//! A closed set bounds the number of time series: nothing a peer sends can become a label. It also makes counting one
//! atomic add, without a lock or a hash, and shows every series as 0 from the start.

use std::{fmt, marker::PhantomData};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, gauge::Gauge},
};

use crate::{
    overload::Class,
    protocol::{Op, event::EventKind},
    session::Cause,
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

impl Label for Op {
    const KEY: &'static str = "op";
    const ALL: &'static [Self] = Op::ALL;
    fn text(self) -> &'static str {
        self.word()
    }
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for EventKind {
    const KEY: &'static str = "kind";
    const ALL: &'static [Self] = EventKind::ALL;
    fn text(self) -> &'static str {
        self.word()
    }
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Class {
    const KEY: &'static str = "class";
    const ALL: &'static [Self] = Class::ALL;
    fn text(self) -> &'static str {
        self.label()
    }
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Cause {
    const KEY: &'static str = "cause";
    const ALL: &'static [Self] = Cause::ALL;
    fn text(self) -> &'static str {
        self.label()
    }
    fn index(self) -> usize {
        self as usize
    }
}

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
    /// What became of a message of the durable way in.
    Queued("outcome") {
        /// Stored.
        Stored = "stored",
        /// Not stored yet: it is tried again.
        Again = "again",
        /// Given up, and kept with the reason.
        Dead = "dead",
    }
);

labels!(
    /// How a post to a webhook ended.
    PostOutcome("outcome") {
        /// The target took it.
        Ok = "ok",
        /// The target answered, but not with success.
        Refused = "refused",
        /// There was no answer.
        Failed = "failed",
    }
);

labels!(
    /// What the service that checks messages made of one.
    HookOutcome("outcome") {
        /// It may be sent as it is.
        Allowed = "allowed",
        /// It may be sent with another body.
        Changed = "changed",
        /// It was refused.
        Refused = "refused",
        /// There was no answer in time, or none that can be read.
        Unanswered = "unanswered",
    }
);

labels!(
    /// A call of the store, by its method.
    StoreOp("op") {
        /// Messages into a log.
        Append = "append",
        /// A page forward.
        ReadAfter = "read_after",
        /// The place of a message by its cid.
        Placed = "placed",
        /// A page backward.
        ReadBefore = "read_before",
        /// The top of a log.
        Top = "top",
        /// How many messages a log has up to a seq.
        Counts = "counts",
        /// A page of an inbox.
        Inbox = "inbox",
        /// Heads against cursors.
        Gaps = "gaps",
        /// The stamps of an inbox.
        Stamps = "stamps",
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
        /// A device that logs in: entered, and its connection numbered.
        Enter = "enter",
        /// The devices of a user.
        Devices = "devices",
        /// A device made unknown.
        Retire = "retire",
        /// Rooms, their members, and cursors in them.
        Rooms = "rooms",
        /// The keys of a user, destroyed.
        Erase = "erase",
        /// Who blocks whom.
        Blocks = "blocks",
        /// When users were last seen.
        LastSeen = "last_seen",
        /// The check behind `/readyz`.
        Health = "health",
    }
);

/// One metric for each value of a closed label.
pub struct By<L, M> {
    metrics: Box<[M]>,
    label: PhantomData<L>,
}

/// One counter for each value.
pub type CounterBy<L> = By<L, Counter>;
/// One gauge for each value.
pub type GaugeBy<L> = By<L, Gauge>;

impl<L: Label, M> By<L, M> {
    /// The metric of one value.
    pub fn of(&self, value: L) -> &M {
        &self.metrics[value.index()]
    }
}

impl<L: Label> CounterBy<L> {
    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.metrics.iter().map(Counter::get).sum()
    }
}

impl<L: Label, M: Default> Default for By<L, M> {
    fn default() -> Self {
        Self { metrics: L::ALL.iter().map(|_| M::default()).collect(), label: PhantomData }
    }
}

// A metric's clone shares its value: the registry holds one, `Metrics` the other.
impl<L, M: Clone> Clone for By<L, M> {
    fn clone(&self) -> Self {
        Self { metrics: self.metrics.clone(), label: PhantomData }
    }
}

impl<L: Label, M: fmt::Debug> fmt::Debug for By<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::ALL.iter().map(|l| (l.text(), self.of(*l)))).finish()
    }
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for By<L, M> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        for value in L::ALL {
            let labels = [(L::KEY, value.text())];
            self.of(*value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
