//! The cluster that stores the messages, as a node will see it.

use std::time::Duration;

use super::finding::{Finding, millis};
use crate::{
    config::{Config, Scylla},
    store::{
        scylla::{Answers, Inspection, Replicated, ScyllaOptions, inspect},
        slots::Incarnation,
    },
};

mod durability;
mod homes;

const PART: &str = "store";
const SLOW: Duration = Duration::from_millis(100);
/// Clocks matter only for the times that people read, and for the expiry of tokens.
const CLOCK_MS: i64 = 1_000;

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let scylla = &config.store.scylla;
    match inspect(&ScyllaOptions::from(scylla)).await {
        Ok(seen) => {
            let unheard = match &seen.homes {
                Some(homed) => homes::unheard(homed, config).await,
                None => Vec::new(),
            };
            read(&seen, scylla, &unheard)
        }
        Err(error) => vec![Finding::fail(
            PART,
            "cluster",
            error.to_string(),
            "start it, or correct store.scylla.contact_points, user, password and tls_ca_file",
        )],
    }
}

fn read(seen: &Inspection, scylla: &Scylla, unheard: &[Incarnation]) -> Vec<Finding> {
    let mut findings = vec![servers(seen, scylla), schema(seen, scylla)];
    findings.extend(copies(seen, scylla));
    findings.extend(replication(seen, scylla));
    findings.extend(seen.homes.as_ref().map(|homed| homes::read(homed, unheard)));
    findings.extend(latency(seen));
    findings.extend(conditional(seen));
    findings.push(durability::commit_log(seen, scylla));
    findings.push(guardrail(seen));
    findings.push(clock(seen));
    findings
}

fn answering(seen: &Inspection) -> impl Iterator<Item = &Answers> {
    seen.servers.iter().filter_map(|server| server.answers.as_ref().ok())
}

fn servers(seen: &Inspection, scylla: &Scylla) -> Finding {
    let kind = if seen.is_scylladb { "ScyllaDB" } else { "Cassandra" };
    let mut versions: Vec<&str> = answering(seen).map(|answers| answers.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let says = format!("{} of {kind} {}, datacenter {}", seen.servers.len(), versions.join(" and "), scylla.datacenter);
    if !seen.servers.iter().any(|server| server.datacenter == scylla.datacenter) {
        let mut found: Vec<&str> = seen.servers.iter().map(|server| server.datacenter.as_str()).collect();
        found.sort_unstable();
        found.dedup();
        let fix = format!("set store.scylla.datacenter to one of: {}", found.join(", "));
        return Finding::fail(PART, "servers", format!("{says}, but none is in that datacenter"), fix);
    }
    let silent: Vec<&str> =
        seen.servers.iter().filter(|server| server.answers.is_err()).map(|server| server.address.as_str()).collect();
    if !silent.is_empty() {
        return Finding::warn(
            PART,
            "servers",
            format!("{says}; no answer from {}", silent.join(", ")),
            "see nodetool status",
        );
    }
    if versions.len() > 1 {
        return Finding::warn(PART, "servers", says, "finish the upgrade: migrate needs all servers on one version");
    }
    Finding::ok(PART, "servers", says)
}

fn schema(seen: &Inspection, scylla: &Scylla) -> Finding {
    let (have, want, keyspace) = (seen.schema, seen.schema_wanted, &scylla.keyspace);
    match have {
        0 => Finding::fail(PART, "schema", format!("keyspace {keyspace} has no schema"), "run natter migrate"),
        have if have < want => {
            let says = format!("keyspace {keyspace} has version {have}, this natter needs {want}");
            Finding::fail(PART, "schema", says, "run natter migrate")
        }
        have if seen.is_schema_too_new() => {
            let says = format!("keyspace {keyspace} has version {have}, this natter knows {want}");
            Finding::fail(PART, "schema", says, "run a natter that knows this version, or the one before it")
        }
        have if have > want => {
            let says = format!("keyspace {keyspace} has version {have}, this natter knows {want} and runs on it");
            Finding::warn(PART, "schema", says, "go on with the upgrade: this natter cannot run on the next version")
        }
        have => Finding::ok(PART, "schema", format!("keyspace {keyspace} has version {have}")),
    }
}

fn copies(seen: &Inspection, scylla: &Scylla) -> Option<Finding> {
    let there = seen.servers.iter().filter(|server| server.datacenter == scylla.datacenter).count();
    let (dc, keyspace) = (&scylla.datacenter, &scylla.keyspace);
    let replication = &seen.replication;
    if replication.is_empty() {
        // There is no keyspace: the schema check reports that.
        return None;
    }
    let copies = replication.get(dc).or_else(|| replication.get("")).copied().unwrap_or(0);
    let says = format!("{copies} of each row on {there} servers in {dc}");
    Some(match copies {
        0 => {
            let fix = format!("ALTER KEYSPACE {keyspace} so that it has copies in {dc}");
            Finding::fail(PART, "copies", says, fix)
        }
        copies if copies > there => {
            let fix = format!("add servers, or ALTER KEYSPACE {keyspace}: a quorum may be impossible");
            Finding::fail(PART, "copies", says, fix)
        }
        1 => Finding::warn(PART, "copies", says, "a lost disk loses messages: use 3 outside development"),
        2 => Finding::warn(PART, "copies", says, "a quorum needs both, so no server may be away: use 3"),
        _ => Finding::ok(PART, "copies", says),
    })
}

/// A change of the replication makes copies that are empty: whoever reads a quorum of those gives seqs a second time.
fn replication(seen: &Inspection, scylla: &Scylla) -> Option<Finding> {
    const CHECK: &str = "replication";
    let (there, keyspace) = (seen.replicated.as_ref()?, &scylla.keyspace);
    let Replicated { now, recorded } = there;
    let Some(recorded) = recorded.as_ref() else {
        let says = format!("{now}, and nothing on record of what it was");
        return Some(Finding::warn(PART, CHECK, says, "natter migrate records it, so that a change of it is noticed"));
    };
    if !there.differs() {
        return Some(Finding::ok(PART, CHECK, format!("{now}, as natter migrate recorded it")));
    }
    let says = format!("{now}, but natter migrate recorded {recorded}: copies may be empty");
    let fix = format!(
        "stop the nodes, nodetool repair -full {keyspace} on each server, then natter migrate --repaired; \
         or change the keyspace back"
    );
    Some(Finding::fail(PART, CHECK, says, fix))
}

fn latency(seen: &Inspection) -> Option<Finding> {
    let took = seen.read?;
    let says = format!("{} for a quorum read", millis(took));
    Some(if took > SLOW {
        Finding::warn(PART, "read", says, "look at the servers' load and disks, and at the network between them")
    } else {
        Finding::ok(PART, "read", says)
    })
}

fn conditional(seen: &Inspection) -> Option<Finding> {
    Some(match seen.lwt.as_ref()? {
        Ok(took) => Finding::ok(PART, "conditional write", millis(*took)),
        Err(why) if seen.tablets => {
            let fix =
                "ScyllaDB before 2025.4 has none on tablets: create the keyspace with tablets off, as migrate does";
            Finding::fail(PART, "conditional write", why.clone(), fix)
        }
        Err(why) => {
            let fix = "no node can become home of a conversation, so nothing can be stored; see the servers' logs";
            Finding::fail(PART, "conditional write", why.clone(), fix)
        }
    })
}

/// The distinct values of a setting on the servers that show it.
fn setting<'a>(seen: &'a Inspection, name: &str) -> Vec<&'a str> {
    let set = |answers: &'a Answers| answers.settings.get(name).map(String::as_str);
    let mut values: Vec<&str> = answering(seen).filter_map(set).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn guardrail(seen: &Inspection) -> Finding {
    const CHECK: &str = "small timestamps";
    if seen.is_scylladb {
        return Finding::ok(PART, CHECK, "ScyllaDB refuses only those in the future");
    }
    let on =
        |name: &str| setting(seen, name).into_iter().find(|value| !matches!(*value, "" | "null")).map(str::to_owned);
    let fix = "heads and cursors are written USING TIMESTAMP 1, 2, 3 …: unset minimum_timestamp_warn_threshold \
                and minimum_timestamp_fail_threshold in cassandra.yaml";
    if let Some(limit) = on("minimum_timestamp_fail_threshold") {
        return Finding::fail(PART, CHECK, format!("refused: minimum_timestamp_fail_threshold is {limit}"), fix);
    }
    if let Some(limit) = on("minimum_timestamp_warn_threshold") {
        return Finding::warn(PART, CHECK, format!("warned about: minimum_timestamp_warn_threshold is {limit}"), fix);
    }
    if answering(seen).all(|answers| answers.settings.is_empty()) {
        let says = "the servers do not show minimum_timestamp_fail_threshold";
        return Finding::warn(PART, CHECK, says, fix);
    }
    Finding::ok(PART, CHECK, "no guardrail refuses them")
}

fn clock(seen: &Inspection) -> Finding {
    let worst = seen.servers.iter().filter_map(|server| Some((server, server.answers.as_ref().ok()?)));
    let Some((server, answers)) = worst.max_by_key(|(_, answers)| answers.ahead_ms.abs()) else {
        return Finding::warn(PART, "clock", "no server reported its time", "see nodetool status");
    };
    let way = if answers.ahead_ms < 0 { "behind" } else { "ahead of" };
    let says = format!(
        "{} is {} ms {way} this machine, give or take {}",
        server.address,
        answers.ahead_ms.abs(),
        answers.within_ms
    );
    if answers.ahead_ms.abs() - answers.within_ms > CLOCK_MS {
        return Finding::warn(
            PART,
            "clock",
            says,
            "run chrony or ntpd on both: people see wrong times, and tokens expire wrongly",
        );
    }
    Finding::ok(PART, "clock", says)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        cli::doctor::finding::State,
        store::scylla::{Homed, Replication, Server},
    };

    fn server(address: &str) -> Server {
        let answers = Answers {
            version: "5.0".to_owned(),
            settings: settings(&[("commitlog_sync", "batch")]),
            ..Answers::default()
        };
        Server { address: address.to_owned(), datacenter: "datacenter1".to_owned(), answers: Ok(answers) }
    }

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn replicated(copies: u8) -> Replication {
        let options = [("class", "NetworkTopologyStrategy".to_owned()), ("datacenter1", copies.to_string())];
        Replication::of(&options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn three() -> Replication {
        replicated(3)
    }

    fn seen() -> Inspection {
        Inspection {
            is_scylladb: false,
            schema: 1,
            schema_wanted: 1,
            replication: [("datacenter1".to_owned(), 3)].into(),
            replicated: Some(Replicated { now: three(), recorded: Some(three()) }),
            homes: Some(Homed { vacant: 1024, ..Homed::default() }),
            tablets: false,
            servers: ["a", "b", "c"].map(server).to_vec(),
            read: Some(Duration::from_millis(1)),
            lwt: Some(Ok(Duration::from_millis(2))),
        }
    }

    fn with(settings_of_all: &[(&str, &str)]) -> Inspection {
        let mut seen = seen();
        for server in &mut seen.servers {
            let answers = Answers { settings: settings(settings_of_all), ..Answers::default() };
            server.answers = Ok(answers);
        }
        seen
    }

    fn state(seen: &Inspection, check: &str) -> State {
        let findings = read(seen, &Scylla::default(), &[]);
        findings.into_iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check}")).state
    }

    #[test]
    fn a_good_cluster_is_good() {
        let findings = read(&seen(), &Scylla::default(), &[]);
        assert_eq!(findings.len(), 10);
        assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    }

    #[test]
    fn each_lack_of_a_cluster_is_told() {
        let good = seen();
        assert_eq!(state(&Inspection { schema: 0, ..good.clone() }, "schema"), State::Fail);
        assert_eq!(state(&Inspection { schema: 2, ..good.clone() }, "schema"), State::Warn);
        assert_eq!(state(&Inspection { schema: 3, ..good.clone() }, "schema"), State::Fail);
        let copies = |n| Inspection { replication: [("datacenter1".to_owned(), n)].into(), ..good.clone() };
        assert_eq!(
            [1, 2, 3, 4].map(|n| state(&copies(n), "copies")),
            [State::Warn, State::Warn, State::Ok, State::Fail]
        );
        let elsewhere = Inspection { replication: [("dc2".to_owned(), 3)].into(), ..good.clone() };
        assert_eq!(state(&elsewhere, "copies"), State::Fail);
        let refused = Inspection { lwt: Some(Err("tablets".to_owned())), ..good.clone() };
        assert_eq!(state(&refused, "conditional write"), State::Fail);
        let mut silent = good.clone();
        silent.servers[1].answers = Err("gone".to_owned());
        assert_eq!(state(&silent, "servers"), State::Warn);
        let other = Scylla { datacenter: "dc9".to_owned(), ..Scylla::default() };
        assert_eq!(servers(&good, &other).state, State::Fail);
        let changed = |recorded| {
            let replicated = Replicated { now: three(), recorded };
            state(&Inspection { replicated: Some(replicated), ..good.clone() }, "replication")
        };
        assert_eq!([changed(Some(replicated(1))), changed(None)], [State::Fail, State::Warn]);
        let mut late = good;
        late.servers[2].answers = Ok(Answers { ahead_ms: -5_000, within_ms: 3, ..Answers::default() });
        assert_eq!(state(&late, "clock"), State::Warn);
    }

    #[test]
    fn settings_that_refuse_are_told() {
        assert_eq!(state(&with(&[("minimum_timestamp_fail_threshold", "1d")]), "small timestamps"), State::Fail);
        assert_eq!(state(&with(&[("minimum_timestamp_warn_threshold", "1d")]), "small timestamps"), State::Warn);
        assert_eq!(state(&with(&[("minimum_timestamp_fail_threshold", "null")]), "small timestamps"), State::Ok);
    }
}
