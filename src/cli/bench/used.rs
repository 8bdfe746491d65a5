//! What an idle user did before it was idle: entered rooms that it shares with others, and got messages. Called by the idle run.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{
    link::{self, acknowledge, catch_up},
    plan::Mesh,
};
use crate::{
    client::{Connection, Incoming},
    model::room::Reach,
    protocol::{
        Body, ErrorCode, ServerFrame,
        client::{Changing, Outgoing},
    },
};

/// Users who share their rooms.
const GROUP: usize = 100;
/// Users who enter rooms at the same time: each is told of the others.
const ENTERING: usize = 8;
/// Bytes of a message.
const BODY: usize = 200;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where a node refuses for the moment and does not say how long.
const PAUSE: Duration = Duration::from_millis(100);

/// What each user does before it is measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    /// Rooms that it is in.
    pub(super) rooms: usize,
    /// Messages that it gets.
    pub(super) messages: usize,
    /// Until its memory is looked at; `None`: as long as it takes.
    pub(super) settle: Option<Duration>,
}

impl Use {
    pub(super) fn is_some(self) -> bool {
        self.rooms + self.messages > 0
    }

    /// Has each user enter its rooms, which the first one of a group makes, and go again: those who are there while others
    /// come would be told of each. Then each comes once more for what it missed, so that nothing is left to do.
    pub(super) async fn prepare(self, mesh: &Mesh, users: usize) -> anyhow::Result<()> {
        if self.rooms == 0 {
            return Ok(());
        }
        let each = |numbers: Vec<usize>| stream::iter(numbers.into_iter().map(|number| self.enter(mesh, number)));
        mesh.progress.step("entering rooms", 0, users);
        for numbers in [(0..users).step_by(GROUP).collect(), (0..users).filter(|n| n % GROUP != 0).collect()] {
            each(numbers).buffer_unordered(ENTERING).try_for_each(|()| std::future::ready(Ok(()))).await?;
        }
        let again = stream::iter((0..users).map(async |number| -> anyhow::Result<()> {
            caught_up(mesh, number).await?.close().await;
            Ok(())
        }));
        again.buffer_unordered(ENTERING).try_for_each(|()| std::future::ready(Ok(()))).await
    }

    async fn enter(self, mesh: &Mesh, number: usize) -> anyhow::Result<()> {
        let mut connection = link::open(mesh, mesh.url(0), &name(mesh, number), 1, READ_BUFFER).await?;
        for room in 0..self.rooms {
            let room = format!("{}-{}-{room}", mesh.room_id(), number / GROUP);
            let change = Changing { reference: Some(1), room: Some(&room), cid: None };
            let (topic, public, history) = (None, true, Reach::Join);
            let asked = match number % GROUP {
                0 => Outgoing::Create { change, topic, public, history, lifetime: None },
                _ => Outgoing::Join(change),
            };
            done(&mut connection, &asked).await.context("a user of the bench cannot enter a room")?;
        }
        connection.close().await;
        Ok(())
    }

    /// Has one user write to the next one.
    pub(super) async fn have(self, mesh: &Mesh, connection: &mut Connection, of: (usize, usize)) -> anyhow::Result<()> {
        let (number, users) = of;
        let (to, body) = (format!("@{}", name(mesh, (number + 1) % users)), Body::text(&"x".repeat(BODY)));
        for message in 0..self.messages {
            let (cid, reference, body) = (message.to_string(), Some(1), &body);
            let (to, cid) = (to.as_str(), cid.as_str());
            let send = Outgoing::Send { reference, to, cid, body, reply_to: None, mentions: &[], expires: None };
            done(connection, &send).await.context("a user of the bench cannot send")?;
        }
        Ok(())
    }
}

/// Small, so that this side of the connections does not fill the machine.
const READ_BUFFER: usize = 256;

/// Connects an idle user, and acknowledges what it missed.
pub(super) async fn caught_up(mesh: &Mesh, number: usize) -> anyhow::Result<Connection> {
    let mut connection = link::open(mesh, mesh.url(number), &name(mesh, number), 1, READ_BUFFER).await?;
    catch_up(&mut connection).await?;
    Ok(connection)
}

/// The name of an idle user.
fn name(mesh: &Mesh, number: usize) -> String {
    mesh.user("idle", number)
}

/// Asks, and acknowledges what comes before the answer.
async fn done(connection: &mut Connection, asked: &Outgoing<'_>) -> anyhow::Result<()> {
    loop {
        connection.send(asked).await?;
        let Some(pause) = timeout(PATIENCE, answer(connection)).await.context("no answer")?? else { return Ok(()) };
        sleep(pause).await;
    }
}

/// `Some`: it is to be asked again after so long.
async fn answer(connection: &mut Connection) -> anyhow::Result<Option<Duration>> {
    loop {
        let payload = match connection.next().await {
            Incoming::Frame(payload) => payload,
            Incoming::Closed { reason, .. } => bail!("{reason}"),
        };
        match ServerFrame::decode(connection.encoding(), &payload).map_err(|error| anyhow!("{error}"))? {
            ServerFrame::Sent(_) | ServerFrame::Changed(_) => return Ok(None),
            ServerFrame::Error { code: ErrorCode::RateLimited, retry_after_ms, .. } => {
                return Ok(Some(retry_after_ms.map_or(PAUSE, Duration::from_millis)));
            }
            ServerFrame::Error { message, .. } => bail!("{message}"),
            frame => acknowledge(connection, &frame)?,
        }
    }
}
