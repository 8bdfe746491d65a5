//! What a session wants done, and what comes back. Made by [`super::Session`] and [`super::Delivery`]; carried out by the
//! connection's task in the gateway, with the help of `ops`.

use std::sync::Arc;

use crate::{
    model::{ConvId, Gap, Row, Seq, Since},
    protocol::{Ask, CloseReason, LiveMessage, Refused, ServerFrame, server::Announcement},
};

/// Why the heads are compared: a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A session starts.
    Login,
    /// Once more, about a second after a fence.
    Recheck,
    /// The connection to NATS was made anew.
    Reconnect,
    /// Notices were dropped on the way to this node.
    SlowConsumer,
    /// The slow pass over all sessions.
    Sweep,
    /// More was published than this session keeps in memory.
    Lagged,
}

impl Cause {
    /// All causes, for the metric.
    pub const ALL: &[Self] =
        &[Self::Login, Self::Recheck, Self::Reconnect, Self::SlowConsumer, Self::Sweep, Self::Lagged];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Recheck => "recheck",
            Self::Reconnect => "reconnect",
            Self::SlowConsumer => "slow_consumer",
            Self::Sweep => "sweep",
            Self::Lagged => "lagged",
        }
    }

    /// How soon a comparison for this cause has to come.
    pub fn urgency(self) -> Urgency {
        if self == Self::Login { Urgency::Waited } else { Urgency::Background }
    }
}

/// Whether a comparison of heads keeps to the node's reconcile budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it: it starts at once.
    Waited,
    /// It waits for its share of the budget (R12).
    Background,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Effect {
    /// Hand a live message to the socket.
    HandLive(Arc<LiveMessage>),
    /// Hand a row to the socket.
    HandRow(ConvId, Row),
    /// Write a frame.
    Frame(ServerFrame),
    /// Carry out what the client asked, and bring the outcome back ([`super::Session::on_outcome`]).
    Ask {
        /// The request's `ref`.
        reference: Option<u64>,
        /// The request.
        ask: Ask,
    },
    /// Check a fresh token ([`super::Session::on_token`]).
    CheckToken {
        /// The request's `ref`.
        reference: Option<u64>,
        /// The JWT.
        token: String,
    },
    /// Do something for the session's own deliveries.
    Upkeep(Upkeep),
    /// Tell the client that its backlog was cut: from `first` on there is nothing that could be written to it, and what
    /// follows has the seq `from`.
    Cut {
        /// Which conversation.
        conv: ConvId,
        /// The first seq that is left out.
        first: Seq,
        /// The seq that follows.
        from: Seq,
    },
    /// Tell the client that it was away for too long to be handed everything: what follows has the seq `from`.
    LeftToHistory {
        /// Which conversation.
        conv: ConvId,
        /// The seq that follows.
        from: Seq,
    },
    /// The user is not in the room any more: the session listens there no longer.
    Unlisten(ConvId),
    /// Count the conversations that only a comparison of heads found to be behind.
    GapsFound {
        /// Why the heads were compared.
        cause: Cause,
        /// How many.
        found: usize,
    },
    /// Count a comparison that was not made, because nothing has changed since the last one.
    CompareSkipped {
        /// Why the heads were to be compared.
        cause: Cause,
    },
    /// Ping the peer.
    Ping,
    /// Close the connection.
    Close(CloseReason),
}

/// What a session needs for its own deliveries; no client asks for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Read a page of a log; from the stored cursor when `after` is `None`.
    Fill {
        /// Which log.
        conv: ConvId,
        /// The position.
        after: Option<Seq>,
        /// Most rows.
        rows: usize,
        /// About as many bytes as there is room for.
        bytes: usize,
    },
    /// Read the stored cursor: the message that follows it may be in hand.
    ReadCursor {
        /// Where.
        conv: ConvId,
    },
    /// Read how the user stands to a room and where the device begins there; a member's session listens there from then on.
    ReadRoom {
        /// The room's conversation.
        conv: ConvId,
        /// The seq to go on from; from the stored cursor when `None`.
        after: Option<Seq>,
        /// A seq that was heard of: no older state of the room is of use.
        at: Seq,
        /// The device begins no more rows than this below the last one, if it begins at the stored cursor.
        backlog: u64,
    },
    /// Find the first row behind a hole in a log.
    FindRow {
        /// Which log.
        conv: ConvId,
        /// The position.
        after: Seq,
        /// A seq that was heard of.
        upto: Seq,
    },
    /// Read the stamps of the inbox, before its heads.
    ReadStamps {
        /// Why.
        cause: Cause,
        /// How soon.
        urgency: Urgency,
    },
    /// Read one page of heads above cursors.
    Compare {
        /// Where the page before ended.
        after: Option<ConvId>,
        /// Few are expected to be behind: many may be looked at.
        sparse: bool,
        /// Why.
        cause: Cause,
        /// How soon.
        urgency: Urgency,
    },
    /// Read one page of the user's rooms; the session listens on those that the user is in from then on.
    CompareRooms {
        /// Where the page before ended.
        after: Option<ConvId>,
        /// Heads and cursors as well; otherwise only where the session does not listen as it should.
        all: bool,
        /// The device begins no more rows than this below the last one.
        backlog: u64,
        /// Why.
        cause: Cause,
        /// How soon.
        urgency: Urgency,
    },
    /// Read the top and the stored cursor for an acknowledgement that the session cannot judge by itself (R7).
    CheckAck(AckCheck),
    /// Raise the stored cursor, then tell the other side.
    RaiseCursor {
        /// Which conversation.
        conv: ConvId,
        /// Up to here.
        seq: Seq,
    },
    /// Tell the user's other nodes that this session exists (R11).
    Announce(Announcement),
    /// Tell push services of messages that lie unacknowledged too long.
    Undelivered {
        /// Which conversation.
        conv: ConvId,
        /// Acknowledged, or told of before.
        after: Seq,
        /// The last that was heard of.
        upto: Seq,
    },
}

impl Upkeep {
    /// Whether the session waits for an [`UpkeepDone`].
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Announce(_) | Self::Undelivered { .. })
    }
}

/// An `ack` that waits for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckCheck {
    /// The request's `ref`, for an error.
    pub reference: Option<u64>,
    /// Which conversation.
    pub conv: ConvId,
    /// Up to here.
    pub seq: Seq,
}

/// The stamps of a user's inbox, for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// What they are.
    pub since: Since,
    /// No change is under way: only then they say anything (R12).
    pub clean: bool,
    /// The session's device was retired: there are no cursors any more that it could go by.
    pub retired: bool,
    /// A room may have heard of the user.
    pub in_rooms: bool,
}

/// A page of conversations with head above cursor and some others, and where the next page starts.
pub type GapsPage = (Vec<Gap>, Option<ConvId>);

/// A room as it concerns one device. Everything up to `upto` is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomPlace {
    /// The recorded top of the log.
    pub upto: Seq,
    /// The last seq that is for the user: the top for a member, otherwise the one that put the user out.
    pub last: Seq,
    /// Where the device is: the seq after this one is for the user, as soon as the log goes that far. `None` where nothing is,
    /// and nothing will be unless the user joins again.
    pub start: Option<Seq>,
    /// Between the stored cursor and `start` there are rows for the user: too many to hand out.
    pub is_cut: bool,
}

/// A page of rooms: those in which there may be something to do, and where the next page starts.
pub type RoomsPage = (Vec<(ConvId, RoomPlace)>, Option<ConvId>);

/// What came of an [`Upkeep`]. Those that are not here need no answer.
#[derive(Debug)]
pub enum UpkeepDone {
    /// A page of a log.
    Filled {
        /// Which log.
        conv: ConvId,
        /// The stored cursor, where the page starts at it.
        cursor: Option<Seq>,
        /// The rows, or nothing where they could not be read.
        rows: Result<Vec<Row>, ()>,
    },
    /// The stored cursor, or nothing where it could not be read.
    CursorRead {
        /// Where.
        conv: ConvId,
        /// Up to where the device has acknowledged.
        cursor: Result<Seq, ()>,
    },
    /// A room as it concerns the device.
    RoomRead {
        /// The room's conversation.
        conv: ConvId,
        /// What was found, or nothing where it could not be read.
        place: Result<RoomPlace, ()>,
    },
    /// The first row behind a hole.
    RowFound {
        /// Which log.
        conv: ConvId,
        /// Its seq, nothing where there is no row, or an error where the store did not say.
        next: Result<Option<Seq>, ()>,
    },
    /// The stamps of the inbox.
    StampsRead {
        /// Why the heads are to be compared.
        cause: Cause,
        /// The stamps, or nothing where they could not be read.
        stamps: Result<Stamped, ()>,
    },
    /// A page of heads above cursors.
    Compared {
        /// Why the heads were compared.
        cause: Cause,
        /// The page, or nothing where it could not be read.
        page: Result<GapsPage, ()>,
    },
    /// A page of rooms.
    RoomsCompared {
        /// Why.
        cause: Cause,
        /// The page, or nothing where it could not be read.
        page: Result<RoomsPage, ()>,
    },
    /// The top and the cursor of a conversation.
    AckChecked {
        /// What waits for it.
        check: AckCheck,
        /// Top and cursor, or why not.
        found: Result<(Seq, Seq), Refused>,
    },
    /// A cursor write ended.
    CursorRaised {
        /// Which conversation.
        conv: ConvId,
        /// What the store confirmed.
        stored: Option<Seq>,
    },
}
