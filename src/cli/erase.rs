//! `natter erase`: makes unreadable what a user has said, on all nodes.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    Global,
    operator::{Account, Gathered},
    print,
};
use crate::{
    model::UserId,
    operators::{ask, wire::EraseAsk},
    protocol::ask::Erased,
};

/// Arguments of `natter erase`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whom
    user: UserId,
    /// It cannot be taken back: say that you mean it
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter erase alice --yes

The keys of all that the user has said are destroyed: messages and edits, in direct conversations and rooms, are shown as deleted
from then on, on all nodes within half a minute. The user's devices are forgotten and their sessions end. What stays: that there was
a message, when and from whom; reactions, memberships and the topics of rooms. It needs sealing.on, and counts for what was
written since that is set. Backups made before hold the keys still. A user who may not come back must get no token any more.";

/// Runs the command.
///
/// # Errors
/// When the nodes cannot be asked, none answers, or one of them refuses.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if !args.yes {
        bail!("this cannot be taken back: run it again with --yes to erase {}", args.user);
    }
    let nodes = args.account.connect(global).await?;
    // All of them: each forgets at once what it has in memory.
    let gathered: Gathered<Erased> = nodes.ask_all(ask::ERASE, &EraseAsk { user: args.user.clone() }).await?;
    gathered.show_refusals();
    let most = |of: fn(&Erased) -> u64| gathered.answers.iter().map(|(_, erased)| of(erased)).max().unwrap_or(0);
    let erased =
        Erased { user: args.user, months: most(|erased| erased.months), devices: most(|erased| erased.devices) };
    if args.json {
        print(&serde_json::to_string(&erased)?)?;
    } else if !gathered.answers.is_empty() {
        let Erased { user, months, devices } = &erased;
        let (months, devices) = (counted(*months, "month"), counted(*devices, "device"));
        print(&format!("{user} is erased: the keys of {months} are destroyed, {devices} forgotten"))?;
    }
    let done = !gathered.answers.is_empty() && gathered.refusals.is_empty();
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}
