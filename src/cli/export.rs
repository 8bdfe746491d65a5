//! `natter export`: all that natter has of a user, and all that the user may read, as one stream of JSON lines.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Global, identity::Identity, report};
use crate::{
    client::{Client, ClientOptions, Event},
    model::{ConvId, Millis, Seq, UserId, now_millis},
    protocol::{
        HistoryFrom, Message,
        ask::{Conversation, RoomView, SeenDevice},
    },
};

/// Arguments of `natter export`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whom; needs access to the node's secret. With --token: whom that names
    #[arg(value_name = "WHOM", conflicts_with = "token")]
    whom: Option<UserId>,
    #[command(flatten)]
    identity: Identity,
    /// The file to write; it must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Of the messages only those that the user has written
    #[arg(long)]
    own: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter export alice --out alice.jsonl
  natter export alice --own | gzip > alice.jsonl.gz
  natter export --token \"$TOKEN\" --url wss://chat.example.org/v1/ws

One JSON object a line, its kind in \"line\": export, device, blocked, room, conversation, message, and at last end, with how many
messages there were: a file without it is cut off. Messages are as they are in the log, edits, deletions and reactions as rows of their
own. Nothing is acknowledged or marked as read.";

/// The largest pages.
const MESSAGES: usize = 200;
const LISTED: usize = 100;
/// The device that the export connects as.
const DEVICE: &str = "natter-export";

/// One line of the export.
#[derive(Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line<'a> {
    Export { version: u32, user: &'a UserId, at: Millis },
    Device(&'a SeenDevice),
    Blocked { user: &'a UserId },
    Room(&'a RoomView),
    Conversation(&'a Conversation),
    Message(&'a Message),
    End { conversations: usize, messages: u64 },
}

/// Runs the command.
///
/// # Errors
/// When there is no connection, the node refused, or the file cannot be written.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let Args { whom, mut identity, out, own } = args;
    identity.act_as(whom);
    let options = ClientOptions { auto_ack: false, ..identity.options(global, DEVICE)? };
    let client = identity.connect(options).await?;
    let out: Box<dyn Write + Send> = match &out {
        None => Box::new(io::stdout()),
        Some(path) => Box::new(create(path).with_context(|| format!("cannot write {}", path.display()))?),
    };
    let user = whose(&client).await?;
    let export = Export { client: &client, user, out: BufWriter::new(out), own, messages: 0, progress: progress() };
    let done = tokio::select! {
        done = export.all() => done,
        // What comes meanwhile is taken, so that answers come through.
        () = ended(&client) => Err(anyhow::anyhow!("the connection was closed")),
    };
    client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// As whom the node has let it in.
async fn whose(client: &Client) -> anyhow::Result<UserId> {
    while let Some(event) = client.next().await {
        if let Event::Connected(welcome) = event {
            return Ok(welcome.user);
        }
    }
    bail!("the connection was closed")
}

async fn ended(client: &Client) {
    while client.next().await.is_some() {}
}

/// Only its owner may read it.
fn create(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} rows, {per_sec}, {eta} left");
    style.map_or_else(|_| ProgressBar::hidden(), |style| ProgressBar::new(0).with_style(style))
}

struct Export<'a, W: Write> {
    client: &'a Client,
    user: UserId,
    out: BufWriter<W>,
    own: bool,
    messages: u64,
    progress: ProgressBar,
}

impl<W: Write> Export<'_, W> {
    async fn all(mut self) -> anyhow::Result<()> {
        let user = self.user.clone();
        self.line(&Line::Export { version: 1, user: &user, at: now_millis() })?;
        for device in self.client.sessions().await?.devices.iter().filter(|seen| seen.device.as_str() != DEVICE) {
            self.line(&Line::Device(device))?;
        }
        self.blocked().await?;
        let mut logs = self.rooms().await?;
        logs.extend(self.conversations().await?);
        self.progress.set_length(logs.iter().map(|(_, head)| head).sum());
        for (conv, head) in &logs {
            self.log(conv, *head, &user).await?;
        }
        self.line(&Line::End { conversations: logs.len(), messages: self.messages })?;
        self.progress.finish_and_clear();
        self.written(|out| out.flush())
    }

    async fn blocked(&mut self) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = self.client.blocks(after, LISTED).await?;
            for user in &page.users {
                self.line(&Line::Blocked { user })?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The rooms, and how far the logs of those go that the user may read.
    async fn rooms(&mut self) -> anyhow::Result<Vec<(ConvId, Seq)>> {
        let (mut logs, mut after) = (Vec::new(), None);
        loop {
            let page = self.client.rooms(after, LISTED).await?;
            for room in &page.items {
                self.line(&Line::Room(room))?;
                logs.extend(room.log.as_ref().map(|log| (room.conv.clone(), log.head)));
            }
            after = page.next;
            if after.is_none() {
                return Ok(logs);
            }
        }
    }

    async fn conversations(&mut self) -> anyhow::Result<Vec<(ConvId, Seq)>> {
        let (mut logs, mut after) = (Vec::new(), None);
        loop {
            let page = self.client.conversations(after, LISTED).await?;
            for item in &page.items {
                self.line(&Line::Conversation(item))?;
                logs.push((item.conv.clone(), item.head));
            }
            after = page.next;
            if after.is_none() {
                return Ok(logs);
            }
        }
    }

    /// A log up to where it went when it was listed.
    async fn log(&mut self, conv: &ConvId, head: Seq, user: &UserId) -> anyhow::Result<()> {
        let mut after = 0;
        loop {
            let page = self.client.raw_history(conv, HistoryFrom::After(after), MESSAGES).await?;
            for message in page.messages.iter().filter(|message| message.seq <= head) {
                if !self.own || message.from == *user {
                    self.messages += 1;
                    self.line(&Line::Message(message))?;
                }
            }
            let last = page.next.or(page.messages.last().map(|message| message.seq)).unwrap_or(head);
            self.progress.inc(last.min(head).saturating_sub(after));
            after = last;
            if !page.more || after >= head {
                return Ok(());
            }
        }
    }

    fn line(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.written(|out| out.write_all(&text))
    }

    /// Whoever reads the output may have had enough.
    fn written(&mut self, write: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>) -> anyhow::Result<()> {
        match write(&mut self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(report::ReaderGone.into()),
            other => other.context("cannot write the export"),
        }
    }
}
