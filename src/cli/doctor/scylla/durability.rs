//! What the servers do with a write before they acknowledge it. Messages are plain writes: what a quorum acknowledged and
//! then lost is lost, and nobody else has a copy of it.

use std::collections::BTreeMap;

use super::PART;
use crate::{
    cli::doctor::finding::Finding,
    config::Scylla,
    store::scylla::{Answers, Inspection},
};

const CHECK: &str = "commit log";

pub(super) fn commit_log(seen: &Inspection, scylla: &Scylla) -> Finding {
    let shown = seen.servers.iter().filter_map(|server| {
        let answers = server.answers.as_ref().ok()?;
        Some((sync(answers)?, server.address.as_str()))
    });
    let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    shown.for_each(|(sync, address)| by_value.entry(sync).or_default().push(address));
    if by_value.is_empty() {
        return Finding::warn(
            PART,
            CHECK,
            "the servers do not show commitlog_sync",
            "look for commitlog_sync in scylla.yaml or cassandra.yaml: with batch or group a power cut of all copies loses \
             nothing, with periodic it does",
        );
    }
    let says = match by_value.keys().next() {
        Some(one) if by_value.len() == 1 => one.clone(),
        _ => by_value.iter().map(|(sync, at)| format!("{sync} at {}", at.join(", "))).collect::<Vec<_>>().join("; "),
    };
    if by_value.keys().all(|sync| !sync.starts_with("periodic")) {
        return Finding::ok(PART, CHECK, format!("{says}: written before it is answered"));
    }
    let copies = seen.replication.get(&scylla.datacenter).copied().unwrap_or(0);
    if copies > 1 {
        let risk = "servers with a majority of a row's copies that lose power within that time lose messages that were \
                    answered";
        let fix = "set commitlog_sync: batch or group on each server, or keep the copies in three racks with power of \
                   their own; after such a loss, natter repair heads (docs/operations.md)";
        return Finding::warn(PART, CHECK, format!("{says}: {risk}"), fix);
    }
    let says = format!("{says}: with one copy, a power cut loses messages that were answered within that time");
    Finding::warn(PART, CHECK, says, "set commitlog_sync: batch or group, and use three copies outside development")
}

/// The setting of one server, with its period where that counts.
fn sync(answers: &Answers) -> Option<String> {
    let of = |name: &str| answers.settings.get(name).map(|value| value.trim_matches('"'));
    let sync = of("commitlog_sync")?;
    let period = of("commitlog_sync_period").map(str::to_owned);
    let period = period.or_else(|| of("commitlog_sync_period_in_ms").map(|millis| format!("{millis}ms")));
    Some(match period.filter(|_| sync == "periodic") {
        Some(period) => format!("{sync} every {period}"),
        None => sync.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::doctor::finding::State, store::scylla::Server};

    fn seen(copies: usize, of_each: &[&[(&str, &str)]]) -> Inspection {
        let server = |(n, pairs): (usize, &&[(&str, &str)])| {
            let settings = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let answers = Answers { settings, ..Answers::default() };
            Server { address: format!("db-{n}"), datacenter: "datacenter1".to_owned(), answers: Ok(answers) }
        };
        Inspection {
            is_scylladb: false,
            schema: 1,
            schema_wanted: 1,
            replication: [("datacenter1".to_owned(), copies)].into(),
            replicated: None,
            homes: None,
            tablets: false,
            servers: of_each.iter().enumerate().map(server).collect(),
            read: None,
            lwt: None,
        }
    }

    fn told(copies: usize, of_each: &[&[(&str, &str)]]) -> Finding {
        commit_log(&seen(copies, of_each), &Scylla::default())
    }

    #[test]
    fn what_a_power_cut_loses_is_told_for_each_server() {
        let periodic: &[_] = &[("commitlog_sync", "periodic"), ("commitlog_sync_period", "10000ms")];
        let scylladb: &[_] = &[("commitlog_sync", "\"periodic\""), ("commitlog_sync_period_in_ms", "10000")];
        let batch: &[_] = &[("commitlog_sync", "batch")];
        let group: &[_] = &[("commitlog_sync", "group")];
        for well in [told(3, &[batch, batch]), told(1, &[group])] {
            assert_eq!(well.state, State::Ok, "{}", well.says);
        }
        for lossy in [periodic, scylladb] {
            let told = told(3, &[lossy; 3]);
            assert!(told.state == State::Warn && told.says.starts_with("periodic every 10000ms: "), "{}", told.says);
            assert!(told.fix.unwrap().contains("three racks"));
        }
        let mixed = told(3, &[batch, periodic, batch]);
        assert!(mixed.says.starts_with("batch at db-0, db-2; periodic every 10000ms at db-1: "), "{}", mixed.says);
        assert!(told(1, &[periodic]).says.contains("with one copy"));
        assert_eq!(told(3, &[&[]]).state, State::Warn);
    }
}
