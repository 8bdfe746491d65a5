//! `natter presence`: who is online, and with `--watch` who comes and goes.

use std::process::ExitCode;

use anyhow::bail;

use super::{Global, identity::Identity, print, table::table, tail::interrupted};
use crate::{
    client::{Client, ClientOptions, Event},
    model::{UserId, now_millis},
    protocol::ask::{PRESENCE_LIMIT, Presences, Seen},
};

/// Arguments of `natter presence`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whose
    #[arg(value_name = "USER", required = true)]
    whose: Vec<UserId>,
    #[command(flatten)]
    identity: Identity,
    /// Go on, and print a line for each change; Ctrl-C ends it
    #[arg(long)]
    watch: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-presence")]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  natter presence bob carol --user alice
  natter presence bob --user alice --watch --json | jq -r 'select(.online) | .user'";

/// Runs the command.
///
/// # Errors
/// When there is no connection, or the node refused.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Messages for this device are left unacknowledged: nobody has seen them.
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    let client = args.identity.connect(options).await?;
    let done = tokio::select! {
        done = args.show(&client) => done,
        () = interrupted() => Ok(ExitCode::SUCCESS),
    };
    client.close().await;
    done
}

impl Args {
    async fn show(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let (mut items, mut refused) = (Vec::new(), Vec::new());
        for some in self.whose.chunks(PRESENCE_LIMIT) {
            let found =
                if self.watch { client.watch(some.to_vec()).await } else { client.presence(some.to_vec()).await };
            let Presences { items: more, refused: others, .. } = found?;
            items.extend(more);
            refused.extend(others);
        }
        if !refused.is_empty() {
            let names: Vec<_> = refused.iter().map(UserId::as_str).collect();
            eprintln!(
                "not to be known of {}: no conversation and no room with this user, or a block",
                names.join(", ")
            );
        }
        if self.json {
            items.iter().try_for_each(line)?;
        } else {
            print(&table(["user", "online", "last seen"], items.iter().map(row)))?;
        }
        if self.watch {
            self.follow(client).await?;
        }
        Ok(if items.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn follow(&self, client: &Client) -> anyhow::Result<()> {
        loop {
            match client.next().await {
                Some(Event::Presence(seen)) if self.json => line(&seen)?,
                Some(Event::Presence(seen)) => print(&format!("{} is {}", seen.user, word(&seen)))?,
                Some(Event::Closed(error)) => bail!(error),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

fn line(seen: &Seen) -> anyhow::Result<()> {
    print(&serde_json::to_string(seen)?)
}

fn word(seen: &Seen) -> &'static str {
    match seen.online {
        Some(true) => "online",
        Some(false) => "offline",
        None => "unknown",
    }
}

fn row(seen: &Seen) -> [String; 3] {
    let ago = |at: u64| format!("{} s ago", now_millis().saturating_sub(at) / 1_000);
    [seen.user.to_string(), word(seen).to_owned(), seen.last_seen.map(ago).unwrap_or_default()]
}
