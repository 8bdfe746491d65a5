//! `natter edit`, `natter delete` and `natter react`: what is done to a message that stands already.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::json;

use super::{Global, identity::Identity, print};
use crate::{
    client::{Client, ClientOptions, RequestError, SentInfo},
    model::{ConvId, Reaction, Seq},
    protocol::Body,
};

/// Which message, and as whom.
#[derive(Debug, clap::Args)]
struct Which {
    /// The conversation, such as dm:alice:bob (the smaller name first) or room:lobby
    #[arg(value_name = "CONVERSATION")]
    conv: ConvId,
    /// The message: its number in the conversation, as natter tail and natter history show it
    seq: Seq,
    #[command(flatten)]
    identity: Identity,
    /// Print {"conv","seq","ts"} of the row that says it
    #[arg(long)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-about")]
    device: String,
    /// How long to wait for the answer, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    timeout: u64,
}

/// Arguments of `natter edit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  natter edit --user alice dm:alice:bob 7 \"hello, I meant\"
  natter edit --user alice room:lobby 12 --json \"at nine\"")]
pub(super) struct Edit {
    #[command(flatten)]
    which: Which,
    /// What the message says from now on
    text: String,
}

/// Arguments of `natter delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  natter delete --user alice dm:alice:bob 7
  natter delete --user moderator room:lobby 12      what others wrote, as a moderator or an owner")]
pub(super) struct Delete {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `natter react`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  natter react --user bob dm:alice:bob 7 👍
  natter react --user bob room:lobby 12 +1 --remove")]
pub(super) struct React {
    #[command(flatten)]
    which: Which,
    /// With what: a short text, mostly an emoji
    reaction: Reaction,
    /// Take the reaction back
    #[arg(long)]
    remove: bool,
}

/// Runs `natter edit`.
///
/// # Errors
/// When there is no connection, or the node refused.
pub(super) async fn edit(args: Edit, global: &Global) -> anyhow::Result<ExitCode> {
    let Which { conv, seq, .. } = &args.which;
    args.which.run(global, async |client| client.edit(conv, *seq, Body::text(&args.text)).await).await
}

/// Runs `natter delete`.
///
/// # Errors
/// As [`edit`].
pub(super) async fn delete(args: Delete, global: &Global) -> anyhow::Result<ExitCode> {
    let Which { conv, seq, .. } = &args.which;
    args.which.run(global, async |client| client.delete(conv, *seq).await).await
}

/// Runs `natter react`.
///
/// # Errors
/// As [`edit`].
pub(super) async fn react(args: React, global: &Global) -> anyhow::Result<ExitCode> {
    let (Which { conv, seq, .. }, reaction) = (&args.which, &args.reaction);
    let react = async |client: &Client| match args.remove {
        false => client.react(conv, *seq, reaction.clone()).await,
        true => client.unreact(conv, *seq, reaction.clone()).await,
    };
    args.which.run(global, react).await
}

impl Which {
    async fn run(
        &self,
        global: &Global,
        ask: impl AsyncFnOnce(&Client) -> Result<SentInfo, RequestError>,
    ) -> anyhow::Result<ExitCode> {
        // Messages for this device are left unacknowledged: nobody has seen them.
        let options = ClientOptions { auto_ack: false, ..self.identity.options(global, &self.device)? };
        let client = self.identity.connect(options).await?;
        let answer = tokio::time::timeout(Duration::from_secs(self.timeout), ask(&client)).await;
        client.close().await;
        let SentInfo { conv, seq, ts, .. } =
            answer.context("no answer in time: whether it is done is unknown")?.context("not done")?;
        print(&if self.json {
            json!({ "conv": conv, "seq": seq, "ts": ts }).to_string()
        } else {
            format!("{conv} {seq}")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
