//! `natter history`: prints a conversation's log, or a part of it.

use std::process::ExitCode;

use super::{Global, identity::Identity, print, tail::line};
use crate::{
    client::{Client, ClientOptions, RequestError},
    model::{ConvId, MAX_SEQ, Seq},
    protocol::{HistoryFrom, Message},
};

/// Arguments of `natter history`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The conversation, such as dm:alice:bob (the smaller name first) or room:lobby
    #[arg(value_name = "CONVERSATION")]
    conv: ConvId,
    #[command(flatten)]
    identity: Identity,
    /// Only messages before this seq
    #[arg(long, value_name = "SEQ", conflicts_with = "after")]
    before: Option<Seq>,
    /// Only messages after this seq, and the first of them instead of the last
    #[arg(long, value_name = "SEQ")]
    after: Option<Seq>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    count: usize,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-history")]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  natter history --user alice dm:alice:bob              the last 50 messages
  natter history --user alice room:lobby -n 1000 --json
  natter history --user alice dm:alice:bob --after 0    from the first one on";

/// The largest page.
const PAGE: usize = 200;

/// Runs the command.
///
/// # Errors
/// When there is no connection, or the node refused.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Messages for this device are left unacknowledged: nobody has seen them.
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    let client = args.identity.connect(options).await?;
    let found = match args.after {
        Some(after) => args.forward(&client, after).await,
        None => args.backward(&client, args.before.unwrap_or(MAX_SEQ)).await,
    };
    client.close().await;
    for message in found? {
        print(&if args.json { serde_json::to_string(&message)? } else { line(&message) })?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    async fn forward(&self, client: &Client, mut after: Seq) -> Result<Vec<Message>, RequestError> {
        let mut all = Vec::new();
        while all.len() < self.count {
            let limit = PAGE.min(self.count - all.len());
            let page = client.history(&self.conv, HistoryFrom::After(after), limit).await?;
            after = page.next.unwrap_or(after);
            all.extend(page.messages);
            if !page.more {
                break;
            }
        }
        Ok(all)
    }

    /// Oldest first.
    async fn backward(&self, client: &Client, mut before: Seq) -> Result<Vec<Message>, RequestError> {
        let mut pages = Vec::new();
        let mut count = 0;
        while count < self.count {
            let limit = PAGE.min(self.count - count);
            let page = client.history(&self.conv, HistoryFrom::Before(before), limit).await?;
            before = page.next.unwrap_or(before);
            count += page.messages.len();
            pages.push(page.messages);
            if !page.more {
                break;
            }
        }
        Ok(pages.into_iter().rev().flatten().collect())
    }
}
