//! The scenario `room`: the members of one room join one after the other, then all of them are there, and some write.

use std::{num::NonZeroU32, ops::Range, rc::Rc, task::Context};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

use super::{
    drive::{self, GREETINGS},
    floor,
    lane::{Lane, Side},
    options::{Content, Flow, Timing},
    payload::Peek,
    plan::{Mesh, Plan, Setup, Shape},
    report::Report,
    run_state::RunState,
    sender::Sender,
    track::{Convs, Order},
};
use crate::{
    client::{Client, ClientOptions, ConnectError, Connection, NewRoom},
    model::RoomId,
};

/// Arguments of `natter bench room`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Members of the room, on all nodes
    #[arg(long, value_name = "N", default_value = "100")]
    members: NonZeroU32,
    /// So many of them write to all
    #[arg(long, value_name = "N", default_value = "4")]
    writers: NonZeroU32,
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    content: Content,
    /// No mesh, but a bare loop that writes the same bytes to as many sockets: what a delivery costs at least
    #[arg(long)]
    floor: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter bench room                                       beside a running natter dev
  natter bench room --members 2000 --in-flight 1          a message to a room of 2,000, again and again
  natter bench room --members 2000 --rate 100 --ack-every 32 --encoding msgpack
  natter bench room --members 2000 --floor                what that costs at least, without a mesh";

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<Box<dyn Report>> {
    let (members, writers) = (args.members.get() as usize, args.writers.get() as usize);
    if args.floor {
        return Ok(Box::new(floor::run(members, args.content.body as usize, args.timing.duration()).await?));
    }
    if members < writers {
        bail!("--writers must be at most the --members, of whom so many write: is {writers}");
    }
    let mesh = setup.mesh(members)?;
    let room = RoomId::new(&mesh.room_id()).context("the room of the bench")?;
    let joined = join(&mesh, &room, SIDE, 0..members).await?;
    let plan = Plan::new(mesh, Shape::Room { members, writers }, args.flow.load(), &args.timing, &args.content);
    Ok(Box::new(drive::run(plan, "room", |shared| start_lanes(shared, joined)).await?))
}

/// What the names of members have in common.
const SIDE: &str = "m";

/// Makes the room and has these users of a side join. Returns the seq of an event that is for all of them, unlike their joins: what is
/// there before it is nobody's business here.
pub(super) async fn join(mesh: &Mesh, room: &RoomId, side: &str, users: Range<usize>) -> anyhow::Result<u64> {
    let owner = client(mesh, side, users.start).await?;
    let new = NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() };
    owner.create_room(new).await.context("the room of the bench cannot be made")?;
    owner.close().await;
    let joins = (users.start + 1..users.end).map(async |number| -> anyhow::Result<()> {
        // Gone again before the next ones join: or each join would be handed out to all.
        let member = client(mesh, side, number).await?;
        member.join_room(room).await.context("a member of the bench cannot join")?;
        member.close().await;
        mesh.progress.step("joining", number, users.end);
        Ok(())
    });
    stream::iter(joins).buffer_unordered(GREETINGS).try_for_each(|()| std::future::ready(Ok(()))).await?;
    let owner = client(mesh, side, users.start).await?;
    let topic = owner.set_topic(room, Some("all are here".parse().map_err(anyhow::Error::msg)?)).await;
    owner.close().await;
    topic.context("the topic of the room")?.seq.context("the topic has no place in the log")
}

async fn client(mesh: &Mesh, side: &str, number: usize) -> anyhow::Result<Client> {
    let user = mesh.user(side, number);
    let mut options = ClientOptions::new(mesh.url(number), mesh.token(&user)?, "bench");
    options.authorities = mesh.authorities.clone();
    Client::connect(options).await.context("a member of the bench cannot connect")
}

/// One lane for each member; the first of them write.
fn start_lanes(shared: &Rc<RunState>, joined: u64) -> JoinSet<()> {
    let (mut lanes, gate) = (JoinSet::new(), drive::gate());
    shared.room.top.set(joined);
    shared.room.reached.borrow_mut().fill(joined);
    let (plan, mesh) = (&shared.plan, &shared.plan.mesh);
    let room = mesh.room_id();
    for number in 0..plan.lanes() {
        let sender = (number < plan.senders()).then(|| Sender::new(shared.clone(), number, vec![format!("#{room}")]));
        let member = Member { shared: shared.clone(), number, sender };
        let convs = Convs::new(plan.ack_every).behind(&format!("room:{room}"), joined);
        let lane = Lane::new(shared, number, (mesh.user(SIDE, number), mesh.url(number)), member, convs);
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
        if let Some(payload) = self.shared.payload_of(frame) {
            self.shared.on_delivered(&payload, now);
        }
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
