//! `natter send`: sends one message, or one for each line of standard input.

use std::{io::BufRead as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Global, identity::Identity, print};
use crate::{
    client::{Client, ClientOptions, SentInfo},
    model::{Cid, Seq, UserId, room::Lifetime, wide_integer},
    protocol::{Body, ask::SendOptions},
};

/// Arguments of `natter send`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The recipient: @user or #room
    #[arg(long, value_name = "@USER|#ROOM")]
    to: String,
    /// The text to send; - reads standard input, one message per line
    text: String,
    #[command(flatten)]
    identity: Identity,
    /// Your own id for the message: sending it again with the same id stores it only once
    #[arg(long, value_name = "ID")]
    cid: Option<String>,
    /// The message that this one replies to
    #[arg(long, value_name = "SEQ")]
    reply_to: Option<Seq>,
    /// A user whom the message mentions; may be given several times
    #[arg(long = "mention", value_name = "USER")]
    mentions: Vec<UserId>,
    /// After so many seconds nobody is shown the message any more
    #[arg(long, value_name = "SECS")]
    expires: Option<Lifetime>,
    /// The text is JSON: an object, a number …
    #[arg(long)]
    json_body: bool,
    /// Print {"conv","seq","ts"} for each message
    #[arg(long)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-send")]
    device: String,
    /// How long to wait for each answer, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    timeout: u64,
}

const EXAMPLES: &str = "\
Examples:
  natter send --user alice --to @bob \"hello\"             beside a running natter dev
  natter send --token \"$T\" --to '#lobby' \"hello all\"
  dmesg -w | natter send --user logger --to @alice -
  natter send --user alice --to @bob --json-body '{\"text\":\"hi\",\"lang\":\"en\"}' --json
  natter send --user alice --to '#lobby' --reply-to 7 --mention bob \"yes\"
  natter send --user alice --to @bob --cid order-17 \"paid\" stores it once, however often it is run";

/// Runs the command.
///
/// # Errors
/// When there is no connection, or a message was refused.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if args.text == "-" && args.cid.is_some() {
        bail!("--cid is for one message, not for the lines of standard input");
    }
    // Messages for this device are left unacknowledged: nobody has seen them.
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    // A bad body is reported before connecting.
    let single = (args.text != "-").then(|| args.body(&args.text)).transpose()?;
    let client = args.identity.connect(options).await?;
    let done = match single {
        Some(body) => args.send(&client, body).await,
        None => args.send_lines(&client).await,
    };
    client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

impl Args {
    fn body(&self, text: &str) -> anyhow::Result<Body> {
        if !self.json_body {
            return Ok(Body::text(text));
        }
        let body = serde_json::from_str(text).with_context(|| format!("{text:?} is not JSON"))?;
        // Read into a body it is a float already, and a node would take it: with other digits than were typed.
        if let Some(integer) = wide_integer(text.as_bytes()) {
            bail!("an integer beyond 64 bits ({integer:.40}): put it in quotes, as a string");
        }
        Ok(body)
    }

    async fn send(&self, client: &Client, body: Body) -> anyhow::Result<()> {
        let sending = async {
            let (reply_to, mentions, expires) = (self.reply_to, self.mentions.clone(), self.expires);
            let options = SendOptions { reply_to, mentions, expires };
            let cid = self.cid.clone().unwrap_or_else(|| Cid::fresh().to_string());
            client.send_with(&self.to, &cid, body, options).await
        };
        let sent = tokio::time::timeout(Duration::from_secs(self.timeout), sending);
        let sent = sent.await.context("no answer in time: whether the message is stored is unknown")?;
        self.show(&sent.context("not sent")?)
    }

    /// One after the other: only then is their order certain.
    async fn send_lines(&self, client: &Client) -> anyhow::Result<()> {
        let (lines, mut next) = tokio::sync::mpsc::channel(1);
        // Reading standard input cannot be cancelled, so it runs on a thread that nothing waits for.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        while let Some(line) = next.recv().await {
            let line = line.context("cannot read standard input")?;
            self.send(client, self.body(&line)?).await?;
        }
        Ok(())
    }

    fn show(&self, sent: &SentInfo) -> anyhow::Result<()> {
        if self.json {
            print(&json!({ "conv": sent.conv, "seq": sent.seq, "ts": sent.ts }).to_string())
        } else {
            print(&format!("{} {}", sent.conv, sent.seq))
        }
    }
}
