//! `natter disconnect`: ends a user's sessions on all nodes.

use std::process::ExitCode;

use serde_json::json;

use super::{
    Global,
    operator::{Account, Gathered},
    print,
};
use crate::{
    model::{DeviceId, UserId},
    operators::{
        ask, end,
        wire::{DisconnectAsk, Disconnected},
    },
};

/// Arguments of `natter disconnect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whose sessions
    user: UserId,
    /// Only those of this device
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceId>,
    /// The close code: 4103 (the client stays away), 4000 or 4002 (it connects again)
    #[arg(long, value_name = "CODE", default_value_t = 4103, value_parser = code)]
    code: u16,
    /// Print one JSON object per session
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter disconnect alice
  natter disconnect alice --device phone --code 4000     the client connects again at once

It ends what is connected and forbids nothing: a user who may not come back must get no token any more. What such a device
has not acknowledged waits for it. It fails when the user had no session.";

fn code(text: &str) -> Result<u16, String> {
    let code = text.parse::<u16>().map_err(|error| error.to_string())?;
    end::reason(code).map(|reason| reason.code())
}

/// Runs the command.
///
/// # Errors
/// When the nodes cannot be asked, or none answers.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let nodes = args.account.connect(global).await?;
    let asked = DisconnectAsk { user: args.user.clone(), device: args.device.clone(), code: args.code };
    let gathered: Gathered<Disconnected> = nodes.ask_all(ask::DISCONNECT, &asked).await?;
    gathered.show_refusals();
    let ended: usize = gathered.answers.iter().map(|(_, answer)| answer.sessions.len()).sum();
    if args.json {
        for (node, answer) in &gathered.answers {
            for session in &answer.sessions {
                print(&json!({ "node": node, "device": session.device, "session": session.session }).to_string())?;
            }
        }
    } else {
        print(&words(&args.user, &gathered.answers))?;
    }
    Ok(if ended > 0 && gathered.refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(user: &UserId, answers: &[(String, Disconnected)]) -> String {
    let ended: usize = answers.iter().map(|(_, answer)| answer.sessions.len()).sum();
    let with = answers.iter().filter(|(_, answer)| !answer.sessions.is_empty());
    let nodes: Vec<_> = with
        .map(|(node, answer)| {
            let devices: Vec<_> = answer.sessions.iter().map(|session| session.device.as_str()).collect();
            format!("{} on {node}", devices.join(", "))
        })
        .collect();
    match ended {
        0 => {
            let asked: Vec<_> = answers.iter().map(|(node, _)| node.as_str()).collect();
            format!("{user} has no such session on {}", asked.join(", "))
        }
        1 => format!("1 session of {user} ended: {}", nodes.join("; ")),
        ended => format!("{ended} sessions of {user} ended: {}", nodes.join("; ")),
    }
}
