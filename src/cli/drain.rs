//! `natter drain`: has a node stop as SIGTERM does, and follows it to the end.

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use tokio::time::{Instant, timeout};

use super::{
    Global,
    operator::{Account, Gathered, Nodes, token},
    print,
    report::Hint,
};
use crate::{
    bus::nats::operator::Told,
    model::UserId,
    operators::{
        ask,
        wire::{Answered, DrainAsk, Draining, Ended, Nothing, Said, State, Status},
    },
    subject::Subject,
};

/// Arguments of `natter drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Which node
    #[arg(value_name = "NODE")]
    node: UserId,
    /// Also where no other node is there to take its clients
    #[arg(long)]
    last: bool,
    /// Say nothing before the end
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter drain n1
  natter drain n1 --quiet && systemctl start natter@n1

The node is not ready any more, then tells its clients to connect elsewhere, and its process ends when everything that was under
way is done. Whatever watches over the process may start it again: systemd does not with Restart=on-failure.
It fails when the drain time was over before that, or the node went away without a word.";

/// Beyond the times that the node names: slots are handed over, connections closed.
const GRACE: Duration = crate::node::ENDING;
/// How often it is asked how far it is.
const EVERY: Duration = Duration::from_millis(500);
/// Questions in a row without an answer after which it is gone.
const MISSED: usize = 4;

/// Runs the command.
///
/// # Errors
/// When the node does not answer or cannot drain now, or no other one is there.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let nodes = args.account.connect(global).await?;
    args.check(&nodes).await?;
    let (node, token) = (args.node.as_str(), token());
    let mut told = nodes.operator().hear(&Subject::told(node, &token)).await?;
    let Some(begun) = nodes.ask_one::<Draining>(node, ask::DRAIN, &DrainAsk { token }).await? else {
        bail!("{node} did not answer in time; it may drain all the same: natter nodes shows it");
    };
    args.say(&format!("{node} drains: {} sessions, not ready any more", begun.sessions))?;
    let clean = args.follow(&nodes, &mut told, begun).await?;
    if clean {
        print(&format!("{node} has drained: everything under way came to its end"))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{node} has ended; the drain time was over before all that was under way"))?;
    Ok(ExitCode::FAILURE)
}

impl Args {
    /// Refuses what cannot be, or would leave clients without a node.
    async fn check(&self, nodes: &Nodes) -> anyhow::Result<()> {
        let all: Gathered<Status> = nodes.ask_all(ask::STATUS, &Nothing {}).await?;
        let node = self.node.as_str();
        let names: Vec<_> = all.answers.iter().map(|(name, _)| name.as_str()).collect();
        let Some((_, status)) = all.answers.iter().find(|(name, _)| name == node) else {
            let what = anyhow!("no node called {node} answers");
            return Err(Hint::on(what, format!("these do: {}", names.join(", "))));
        };
        if status.state != State::Serving {
            bail!("{node} is stopping already");
        }
        let takes =
            |(name, status): &(String, Status)| name != node && status.state == State::Serving && status.store == "ok";
        if !self.last && !all.answers.iter().any(takes) {
            let what = anyhow!("{node} is the only node that takes connections: its clients would have nowhere to go");
            return Err(Hint::on(what, "start another one first, or drain it all the same with --last"));
        }
        Ok(())
    }

    /// Shows how far it is until it says that it has ended; whether all of it ended in time.
    async fn follow(&self, nodes: &Nodes, told: &mut Told, begun: Draining) -> anyhow::Result<bool> {
        let node = self.node.as_str();
        let most = Duration::from_secs(begun.notice_secs.saturating_add(begun.drain_secs)) + GRACE;
        let (until, mut shown, mut missed) = (Instant::now() + most, None, 0);
        while missed < MISSED {
            if let Ok(ended) = timeout(EVERY, told.next()).await {
                let payload = ended
                    .ok_or_else(|| anyhow!("the connection to NATS has ended; natter nodes shows how far {node} is"))?;
                return match serde_json::from_slice::<Answered<Ended>>(&payload)?.said {
                    Said::Ok(ended) => Ok(ended.clean),
                    Said::Error(words) => Err(anyhow!("{node}: {words}")),
                };
            }
            if Instant::now() > until {
                bail!("{node} is still there after {most:?}: look at its log");
            }
            match nodes.ask_one::<Status>(node, ask::STATUS, &Nothing {}).await? {
                Some(status) => {
                    missed = 0;
                    let now = (status.state, status.sessions);
                    if shown.replace(now) != Some(now) {
                        self.say(&format!("{node} {}: {} sessions left", word(status.state), status.sessions))?;
                    }
                }
                None => missed += 1,
            }
        }
        bail!("{node} went away without a word: look at its log")
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { print(text) }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Serving | State::Leaving => "still takes connections",
        State::Draining => "says goodbye",
    }
}
