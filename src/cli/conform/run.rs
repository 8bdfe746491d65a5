//! Runs scenarios, many at the same time, each with a program of its own. Called by the command.

use std::collections::HashMap;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Duration, Instant, timeout};

use super::{
    referee::Verdict,
    rules::Fault,
    script::{Line, Scenario},
    stage::Stage,
};

/// Longer than any scenario takes, even with a client that is late everywhere.
const MOST: Duration = Duration::from_secs(180);
/// What was acknowledged is told by then.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a scenario went.
#[derive(Debug)]
pub(super) struct Ran {
    pub scenario: Scenario,
    /// The rule that was broken, and at which step.
    pub fault: Option<(Fault, String)>,
    /// What passed.
    pub transcript: Vec<String>,
    /// The end of what the program said on standard error.
    pub complaints: String,
    pub took: Duration,
    cids: Vec<String>,
}

/// How to run them.
#[derive(Debug, Clone)]
pub(super) struct How {
    /// The client's program, and its arguments.
    pub command: Vec<String>,
    /// How long to wait for what the client must do, beside what it must wait itself.
    pub patience: Duration,
    /// How many programs at the same time.
    pub jobs: usize,
}

/// Runs them all: in the order in which they were given.
///
/// # Errors
/// When the program cannot be started.
pub(super) async fn all(mut scenarios: Vec<Scenario>, how: &How) -> anyhow::Result<Vec<Ran>> {
    let places: HashMap<_, _> = scenarios.iter().enumerate().map(|(at, one)| (one.name.clone(), at)).collect();
    // Those that take long begin first.
    scenarios.sort_by_key(|scenario| !scenario.slow);
    let mut running = stream::iter(scenarios).map(|scenario| one(scenario, how)).buffer_unordered(how.jobs.max(1));
    let mut all = Vec::new();
    while let Some(ran) = running.next().await {
        all.push(ran?);
    }
    all.sort_by_key(|ran| places.get(&ran.scenario.name).copied());
    compare_cids(&mut all);
    Ok(all)
}

async fn one(scenario: Scenario, how: &How) -> anyhow::Result<Ran> {
    let started = Instant::now();
    let mut stage = Stage::open(&how.command, scenario.addresses, how.patience).await.context(scenario.name.clone())?;
    let mut at = String::new();
    let played = timeout(MOST, play(&mut stage, &scenario.lines, &mut at)).await;
    let late = || Err(Fault::new(scenario.rule, format!("the scenario was not over after {} s", MOST.as_secs())));
    let fault = played.unwrap_or_else(|_| late()).err().map(|fault| (fault, at));
    if let Some((fault, _)) = &fault {
        stage.note(format!("!! {}", fault.words));
    }
    Ok(Ran {
        fault,
        transcript: stage.transcript(),
        complaints: stage.program.complaints(),
        took: started.elapsed(),
        cids: stage.referee.all_cids().map(str::to_owned).collect(),
        scenario,
    })
}

async fn play(stage: &mut Stage, lines: &[Line], at: &mut String) -> Verdict {
    for line in lines {
        at.clone_from(&line.text);
        stage.perform(line).await?;
    }
    "the end".clone_into(at);
    let deadline = Instant::now() + LAST_WORDS;
    while let Some(fault) = stage.referee.places.behind() {
        if stage.exited.is_some() || !stage.happens(deadline).await? {
            return Err(fault);
        }
    }
    Ok(())
}

/// Cids that are counted, or always the same, come again in another run: there they stand for another message.
fn compare_cids(all: &mut [Ran]) {
    let mut seen: HashMap<String, String> = HashMap::new();
    for ran in all {
        for cid in std::mem::take(&mut ran.cids) {
            let Some(other) = seen.insert(cid.clone(), ran.scenario.name.clone()) else { continue };
            let words = format!("the cid {cid} was used in {other} as well: it is not random");
            ran.fault.get_or_insert((Fault::new(7, words), "the end".into()));
        }
    }
}
