//! `natter tail`: prints messages as they arrive, after those that this device has missed.

use std::{collections::HashMap, fmt::Write as _, process::ExitCode};

use anyhow::bail;

use super::{
    Global,
    identity::Identity,
    print,
    table::{printable, text_of},
};
use crate::{
    client::{Client, ClientOptions, Event},
    model::{
        ConvId, Kind, Reacted, Reacting, RoomId, Seq,
        room::{Change, Role},
    },
    protocol::{HistoryFrom, Message},
};

/// Arguments of `natter tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    identity: Identity,
    /// The device to connect as; messages printed on it before are not printed again
    #[arg(long, value_name = "NAME", default_value = "natter-tail")]
    device: String,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Only of this room; what comes elsewhere is left for another time
    #[arg(long, value_name = "ROOM")]
    room: Option<RoomId>,
    /// Print all conversations, or the room, from the first message
    #[arg(long)]
    from_start: bool,
    /// End when everything missed has been printed
    #[arg(long)]
    once: bool,
    /// End after this many messages
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  natter tail --user bob                     beside a running natter dev; Ctrl-C ends it
  natter tail --user bob --once --json       what was missed, for a script
  natter tail --user bob --room lobby        one room, and nothing else
  natter tail --user bob --device archive --from-start --json >> bob.jsonl";

/// The page size for reading history.
const PAGE: usize = 200;

/// Runs the command.
///
/// # Errors
/// When there is no connection, or it ends for good.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    let client = args.identity.connect(options).await?;
    let mut tail = Tail { args, client, printed: HashMap::new(), left: u64::MAX };
    tail.left = tail.args.count.unwrap_or(u64::MAX);
    let done = tokio::select! {
        done = tail.follow() => done,
        () = interrupted() => Ok(()),
    };
    // Writes the last acknowledgements.
    tail.client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Somebody, or something, ends the command.
pub(super) async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

struct Tail {
    args: Args,
    client: Client,
    /// Printed from history: these arrive once more as missed messages.
    printed: HashMap<ConvId, Seq>,
    left: u64,
}

impl Tail {
    async fn follow(&mut self) -> anyhow::Result<()> {
        if self.args.from_start {
            self.all_logs().await?;
        }
        while self.left > 0 {
            match self.client.next().await {
                Some(Event::Message(message)) => self.on_message(message).await?,
                Some(Event::CaughtUp) if self.args.once => break,
                Some(Event::Closed(error)) => bail!(error),
                Some(event) => notice(&event),
                None => break,
            }
        }
        Ok(())
    }

    async fn on_message(&mut self, message: Message) -> anyhow::Result<()> {
        if self.args.room.as_ref().is_some_and(|room| message.conv != ConvId::room(room)) {
            return Ok(());
        }
        if self.printed.get(&message.conv).is_none_or(|printed| *printed < message.seq) {
            self.show(&message)?;
        }
        // Only now: what was not printed is delivered again next time.
        self.client.ack(&message.conv, message.seq).await?;
        Ok(())
    }

    async fn all_logs(&mut self) -> anyhow::Result<()> {
        if let Some(room) = &self.args.room {
            return self.log_of(ConvId::room(room)).await;
        }
        let mut after = None;
        loop {
            let page = self.client.conversations(after, 100).await?;
            for item in page.items {
                self.log_of(item.conv).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn log_of(&mut self, conv: ConvId) -> anyhow::Result<()> {
        let mut last = 0;
        while self.left > 0 {
            let page = self.client.history(&conv, HistoryFrom::After(last), PAGE).await?;
            for message in page.messages.iter().take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
                self.show(message)?;
                last = message.seq;
            }
            if last > 0 {
                self.client.ack(&conv, last).await?;
            }
            if !page.more {
                break;
            }
        }
        self.printed.insert(conv, last);
        Ok(())
    }

    fn show(&mut self, message: &Message) -> anyhow::Result<()> {
        self.left = self.left.saturating_sub(1);
        print(&if self.args.json { serde_json::to_string(message)? } else { line(message) })
    }
}

/// Everything other than messages goes to standard error.
fn notice(event: &Event) {
    let words = match event {
        Event::Disconnected(error) => format!("{error}; reconnecting"),
        Event::Truncated { conv, from } => format!("{conv}: cut; the messages before {from} are in its history"),
        Event::Refused { code, message } => format!("{}: {message}", code.word()),
        _ => return,
    };
    eprintln!("natter: {words}");
}

/// A message as a line, for people.
pub(super) fn line(message: &Message) -> String {
    let secs = message.ts / 1000 % 86_400;
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let Message { conv, seq, from, .. } = message;
    format!("{hour:02}:{minute:02}:{second:02}Z {conv} {seq} {from}{}", printable(&said(message)))
}

/// What somebody wrote or did, for people, behind the name.
pub(super) fn said(message: &Message) -> String {
    let text = message.body.as_ref().map_or_else(String::new, text_of);
    let re = message.re.unwrap_or(0);
    let change = message.body.as_ref().and_then(|body| Change::of_row(message.kind, body));
    let reacting = message.body.as_ref().and_then(|body| Reacting::of_row(message.kind, body));
    match (message.kind, change, reacting) {
        (_, Some(change), _) => format!(" {}", happened(&change)),
        (_, _, Some(Reacting { reaction, set: true })) => format!(" reacted to {re} with {reaction}"),
        (_, _, Some(Reacting { reaction, set: false })) => format!(" took {reaction} back from {re}"),
        (Kind::Edit, ..) => format!(" changed {re}: {text}"),
        (Kind::Delete, ..) => format!(" deleted {re}"),
        _ => format!("{}: {}", marks(message), made_of(message, &text)),
    }
}

/// What a message refers to.
fn marks(message: &Message) -> String {
    message.reply_to.map_or_else(String::new, |seq| format!(" (to {seq})"))
}

/// Its text with what was made of it.
fn made_of(message: &Message, text: &str) -> String {
    if let Some(user) = &message.deleted {
        return format!("(deleted by {user})");
    }
    let mut words = if message.expired { "(expired)".to_owned() } else { text.to_owned() };
    if message.edited.is_some() {
        words.push_str(" (edited)");
    }
    for Reacted { reaction, count, .. } in &message.reactions {
        let _ = write!(words, " [{reaction} {count}]");
    }
    words
}

/// What somebody did in a room.
fn happened(change: &Change) -> String {
    match change {
        Change::Created { .. } => "made the room".into(),
        Change::Joined => "joined".into(),
        Change::Left => "left".into(),
        Change::Invited { user } => format!("invited {user}"),
        Change::Kicked { user } => format!("put {user} out"),
        Change::Role { user, role } => {
            let role = match role {
                Role::Owner => "an owner",
                Role::Moderator => "a moderator",
                Role::Member => "a member",
            };
            format!("made {user} {role}")
        }
        Change::Topic { topic: Some(topic) } => format!("set the topic: {topic}"),
        Change::Topic { topic: None } => "removed the topic".into(),
        Change::Lifetime { lifetime: Some(lifetime) } => format!("lets messages last {} s", lifetime.secs()),
        Change::Lifetime { lifetime: None } => "lets messages stay".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::UserId, protocol::Body};

    #[test]
    fn a_line_cannot_play_with_the_terminal() {
        let (conv, alice) = (ConvId::new("dm:alice:bob").unwrap(), UserId::new("alice").unwrap());
        let message = Message::new(conv, 3, alice, 86_400_000 + 3_723_000, Body::text("hä\u{1b}[2J\nnext"));
        assert_eq!(line(&message), "01:02:03Z dm:alice:bob 3 alice: hä\\u{1b}[2J\\nnext");
        let object = Message { body: Some(serde_json::from_str(r#"{"a":[1]}"#).unwrap()), ..message };
        assert!(line(&object).ends_with(r#"alice: {"a":[1]}"#));
        let kicked = Change::Kicked { user: UserId::new("bob").unwrap() };
        let event = Message { kind: Kind::Event, body: Some(kicked.to_body()), ..object.clone() };
        assert!(line(&event).ends_with("3 alice put bob out"), "{}", line(&event));
        assert!(line(&Message { body: event.body, ..object }).ends_with(r#"alice: {"event":"kicked","user":"bob"}"#));
    }
}
