//! `natter conversations`: a user's conversations, most recent first.

use std::process::ExitCode;

use super::{Global, identity::Identity, print, table::table, tail::said};
use crate::{client::ClientOptions, protocol::ask::Conversation};

/// Arguments of `natter conversations`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    identity: Identity,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    count: usize,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-conversations")]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  natter conversations --user alice
  natter conversations --user alice --json | jq -r 'select(.unread > 0) | .conv'";

/// The largest page.
const PAGE: usize = 100;

/// Runs the command.
///
/// # Errors
/// When there is no connection, or the node refused.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Messages for this device are left unacknowledged: nobody has seen them.
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    let client = args.identity.connect(options).await?;
    let (mut all, mut after) = (Vec::new(), None);
    let listed = loop {
        let page = match client.conversations(after, PAGE.min(args.count - all.len()).max(1)).await {
            Ok(page) => page,
            Err(error) => break Err(error),
        };
        all.extend(page.items);
        after = page.next;
        if after.is_none() || all.len() >= args.count {
            break Ok(());
        }
    };
    client.close().await;
    listed?;
    all.truncate(args.count);
    if args.json {
        for item in &all {
            print(&serde_json::to_string(item)?)?;
        }
    } else {
        print(&table(["conversation", "unread", "head", "read", "last"], all.iter().map(row)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Of the last message as much as fits in a line.
fn row(item: &Conversation) -> [String; 5] {
    let last =
        item.last.as_ref().map(|last| format!("{}{}", last.from, said(last).chars().take(60).collect::<String>()));
    let Conversation { conv, unread, head, read, .. } = item;
    [conv.to_string(), unread.to_string(), head.to_string(), read.to_string(), last.unwrap_or_default()]
}
