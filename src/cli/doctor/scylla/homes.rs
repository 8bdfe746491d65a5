//! Who is home of what, as the store has it, and whether those processes say over NATS that they are there.

use futures_util::future::join_all;

use super::PART;
use crate::{
    bus::{self, NatsOptions},
    cli::doctor::finding::Finding,
    config::Config,
    homes::is_heard,
    metrics::Metrics,
    store::{
        scylla::{HomeSeen, HomeState, Homed},
        slots::Incarnation,
    },
};

const CHECK: &str = "homes";
/// As many are named.
const NAMED: usize = 12;

/// The homes on record that do not answer. None where NATS cannot be asked: that is told elsewhere.
pub(super) async fn unheard(homed: &Homed, config: &Config) -> Vec<Incarnation> {
    let current: Vec<_> = homed.homes.iter().filter(|home| home.state == HomeState::Current).collect();
    if current.is_empty() {
        return Vec::new();
    }
    let name = format!("doctor-{:08x}", rand::random::<u32>());
    let Ok(bus) = bus::connect(NatsOptions::from_config(&name, &config.nats), Metrics::new(&name)).await else {
        return Vec::new();
    };
    // Its answers need their subscription; without a fence they are only asked for again.
    let _ = bus.fence().await;
    let asked = join_all(current.iter().map(|home| is_heard(&*bus, &home.who))).await;
    bus.close().await;
    let silent = current.into_iter().zip(asked).filter(|(_, heard)| *heard == Some(false));
    silent.map(|(home, _)| home.who.clone()).collect()
}

pub(super) fn read(homed: &Homed, unheard: &[Incarnation]) -> Finding {
    let Homed { homes, vacant, lives, fenced } = homed;
    if homes.is_empty() {
        return Finding::ok(PART, CHECK, "no slot has a home yet: nodes take them when they start");
    }
    let silent = |home: &HomeSeen| unheard.contains(&home.who);
    let named: Vec<String> = homes.iter().take(NAMED).map(|home| named(home, silent(home))).collect();
    let more = if homes.len() > NAMED { format!(" and {} more", homes.len() - NAMED) } else { String::new() };
    let none = if *vacant > 0 { format!("; {vacant} slots without a home") } else { String::new() };
    let says = format!("{}{more}{none}; of {lives} lives of nodes {fenced} were fenced", named.join(", "));
    let is_there = |home: &&HomeSeen| home.state == HomeState::Current && !silent(home);
    let waiting: usize = homes.iter().filter(|home| !is_there(home)).map(|home| home.slots).sum();
    if waiting == 0 {
        return Finding::ok(PART, CHECK, says);
    }
    let fix = format!(
        "{waiting} slots wait for a new home: a node takes them when somebody sends, or within a minute; \
         if they stay like this, no node runs, or none gets an answer of the store"
    );
    Finding::warn(PART, CHECK, says, fix)
}

fn named(HomeSeen { who, slots, state }: &HomeSeen, silent: bool) -> String {
    let state = match state {
        HomeState::Current if silent => ", not heard over NATS",
        HomeState::Current => "",
        HomeState::Fenced => ", fenced",
        HomeState::Over => ", a former life",
    };
    format!("{who} ({slots} slots{state})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::doctor::finding::State, store::slots::Incarnation};

    fn home(node: &str, slots: usize, state: HomeState) -> HomeSeen {
        HomeSeen { who: Incarnation { node: node.into(), number: 3 }, slots, state }
    }

    #[test]
    fn homes_are_named_and_those_that_ended_are_told() {
        let mut homed = Homed { homes: vec![home("n1", 1_000, HomeState::Current)], vacant: 24, lives: 7, fenced: 2 };
        let well = read(&homed, &[]);
        assert_eq!(well.says, "n1/3 (1000 slots); 24 slots without a home; of 7 lives of nodes 2 were fenced");
        assert_eq!(well.state, State::Ok);
        for state in [HomeState::Fenced, HomeState::Over] {
            homed.homes.push(home("n2", 24, state));
            let told = read(&homed, &[]);
            assert!(told.state == State::Warn && told.fix.unwrap().starts_with("24 slots"), "{}", told.says);
            homed.homes.pop();
        }
        let silent = read(&homed, &[homed.homes[0].who.clone()]);
        assert!(
            silent.state == State::Warn && silent.says.starts_with("n1/3 (1000 slots, not heard"),
            "{}",
            silent.says
        );
        homed.homes = (0..40).map(|n| home(&format!("n{n}"), 1, HomeState::Current)).collect();
        assert!(read(&homed, &[]).says.contains(" and 28 more"));
        assert_eq!(read(&Homed::default(), &[]).state, State::Ok);
    }
}
