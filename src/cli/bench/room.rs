//! A run in one room: its members join one after the other, then all of them are there, and some write. Called by `drive`.

use std::{rc::Rc, task::Context};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    drive::GREETINGS,
    lane::{Lane, Side},
    payload::{Payload, Peek},
    plan::Plan,
    run_state::RunState,
    sender::Sender,
    stats::record,
    track::{Order, Seqs},
};
use crate::{
    client::{Client, ClientOptions, ConnectError, Connection, NewRoom},
    model::RoomId,
};

/// What the names of members have in common.
const SIDE: &str = "m";

/// Makes the room and has all members join. Returns the seq of the last join: what is there before it is nobody's business here.
pub(super) async fn join(plan: &Plan, members: usize, bar: &ProgressBar) -> anyhow::Result<u64> {
    let room = RoomId::new(&plan.room_id()).context("the room of the bench")?;
    let owner = client(plan, 0).await?;
    let new = NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() };
    owner.create_room(new).await.context("the room of the bench cannot be made")?;
    owner.close().await;
    let joins = (1..members).map(async |number| -> anyhow::Result<u64> {
        // Gone again before the next ones join: or each join would be handed out to all.
        let member = client(plan, number).await?;
        let joined = member.join_room(&room).await.context("a member of the bench cannot join")?;
        member.close().await;
        bar.set_message(format!("joining, {number} of {members}"));
        Ok(joined.seq.unwrap_or(0))
    });
    let last = stream::iter(joins).buffer_unordered(GREETINGS);
    last.try_fold(1, |last, seq| std::future::ready(Ok(last.max(seq)))).await
}

async fn client(plan: &Plan, number: usize) -> anyhow::Result<Client> {
    let user = plan.user(SIDE, number);
    let mut options = ClientOptions::new(url_of(plan, number), plan.token(&user)?, "bench");
    options.authorities = plan.authorities.clone();
    Client::connect(options).await.context("a member of the bench cannot connect")
}

fn url_of(plan: &Plan, number: usize) -> &str {
    &plan.urls[number % plan.urls.len()]
}

/// One lane for each member; the first of them write.
pub(super) fn start_lanes(shared: &Rc<RunState>, members: usize, joined: u64) -> JoinSet<()> {
    let (mut lanes, gate) = (JoinSet::new(), Rc::new(Semaphore::new(GREETINGS)));
    shared.room.top.set(joined);
    shared.room.reached.borrow_mut().fill(joined);
    let room = shared.plan.room_id();
    for number in 0..members {
        let sender = (number < shared.plan.pairs).then(|| Sender::new(shared.clone(), number, format!("#{room}")));
        let lane = Lane {
            shared: shared.clone(),
            number,
            user: shared.plan.user(SIDE, number),
            conv: format!("room:{room}"),
            url: url_of(&shared.plan, number).to_owned(),
            side: Member { shared: shared.clone(), number, sender },
            seqs: Seqs::behind(joined),
            caught_up: false,
            round: 0,
        };
        lanes.spawn_local(lane.run(gate.clone()));
    }
    lanes
}

/// A member, who may write.
struct Member {
    shared: Rc<RunState>,
    number: usize,
    sender: Option<Sender>,
}

impl Side for Member {
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64) {
        if order != Order::New {
            return;
        }
        if let (Some(reached), Some(seq)) = (self.shared.room.reached.borrow_mut().get_mut(self.number), frame.seq) {
            *reached = seq;
        }
        let mut stats = self.shared.stats.borrow_mut();
        let Some(payload) = frame.body.and_then(Payload::parse) else {
            return stats.error("foreign_message");
        };
        if self.shared.measured(payload.due) {
            record(&mut stats.received, now.saturating_sub(payload.due));
        }
        stats.delivered += u64::from(self.shared.measured(now));
    }

    fn on_frame(&mut self, frame: &Peek<'_>, now: u64) {
        if let ("sent", Some(seq)) = (frame.op, frame.seq) {
            let top = &self.shared.room.top;
            top.set(top.get().max(seq));
        }
        if let Some(sender) = &mut self.sender {
            sender.on_frame(frame, now);
        }
    }

    fn on_connected(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.on_connected();
        }
    }

    fn queue(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        self.sender.as_mut().map_or(Ok(()), |sender| sender.queue(connection, cx))
    }
}
