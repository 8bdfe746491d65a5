//! What a node will find on its NATS servers.

use std::time::Duration;

use super::finding::{Finding, millis};
use crate::{
    bus::{
        NatsOptions,
        nats::probe::{NatsFault, NatsReport, ServerFound, probe},
    },
    config::Config,
    nats_server::OLDEST,
};

const PART: &str = "nats";
/// Room for the rest of a frame around a body, and for the overhead of the other encoding.
const AROUND_A_BODY: usize = 8 << 10;
/// Within one site, a round trip takes less than this.
const SLOW: Duration = Duration::from_millis(50);

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let fix = "correct the keys of [nats]; natter config shows what set them";
    let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let cells = if config.nats.cells.is_empty() { std::slice::from_ref(&options.urls) } else { &config.nats.cells };
    let mut findings = Vec::new();
    for urls in cells {
        match probe(&NatsOptions { urls: urls.clone(), ..options.clone() }).await {
            Ok(report) => findings.extend(read(&report, urls.len(), config)),
            Err(error) => findings.push(Finding::fail(PART, "options", error.to_string(), fix)),
        }
    }
    findings
}

fn read(report: &NatsReport, urls: usize, config: &Config) -> Vec<Finding> {
    let found: Vec<&ServerFound> = report.servers.iter().filter_map(|(_, found)| found.as_ref().ok()).collect();
    let mut findings: Vec<Finding> = report
        .servers
        .iter()
        .map(|(url, found)| match found {
            Ok(found) => server(&url.masked(), found),
            Err(fault) => fault_of(&url.masked(), fault),
        })
        .collect();
    findings.extend(found.iter().map(|server| permissions(server)));
    findings.extend(found.iter().min_by_key(|server| server.max_payload).map(|server| payload(server, config)));
    findings.extend(found.iter().map(|server| server.cluster).max().map(|size| cluster(size, urls)));
    findings.extend(found.iter().max_by_key(|server| server.round_trip).and_then(|server| round_trip(server)));
    findings.extend(report.propagation.as_ref().map(propagation));
    findings.extend((!found.is_empty()).then(|| name(report.namesakes, config.node.name.as_str())));
    findings
}

fn server(url: &str, found: &ServerFound) -> Finding {
    let says = format!("{url} is {} {}", found.name, found.version);
    let mut numbers = found.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        let (major, minor) = OLDEST;
        return Finding::fail(PART, "server", says, format!("upgrade nats-server to {major}.{minor} or newer"));
    }
    Finding::ok(PART, "server", says)
}

fn fault_of(url: &str, fault: &NatsFault) -> Finding {
    let fix = match fault {
        NatsFault::Unauthorized => {
            "check nats.user and nats.password, or nats.token, nkey_file or creds_file, against the server's accounts.conf"
        }
        NatsFault::Tls(_) => "check nats.tls_ca_file, and that the certificate names the host of the URL",
        NatsFault::Silent(_) => "start the server, or correct nats.urls; a firewall may be in between",
    };
    Finding::fail(PART, "server", format!("{url}: {fault}"), fix)
}

fn permissions(server: &ServerFound) -> Finding {
    if server.forbidden.is_empty() {
        return Finding::ok(PART, "permissions", format!("{}: the account may do what a node does", server.name));
    }
    let says = format!("{}: the account may not do what a node does: {}", server.name, server.forbidden.join("; "));
    Finding::fail(
        PART,
        "permissions",
        says,
        "connect as the user `node` of nats/accounts.conf, or give this one its permissions",
    )
}

fn payload(server: &ServerFound, config: &Config) -> Finding {
    let (most, body) = (server.max_payload, config.limits.body_bytes);
    let says = format!("{} accepts messages of up to {most} bytes, bodies may have {body}", server.name);
    if most < body.saturating_add(AROUND_A_BODY) {
        let fix = format!("raise max_payload of the servers to {} or lower limits.body_bytes", body + AROUND_A_BODY);
        return Finding::fail(PART, "payload", says, fix);
    }
    Finding::ok(PART, "payload", says)
}

fn cluster(size: usize, urls: usize) -> Finding {
    let says = format!("{size} in the cluster, {urls} in nats.urls");
    if size < 3 {
        let fix = "while the last server is away, messages arrive by reconcile, up to a minute late: run three";
        return Finding::warn(PART, "cluster", says, fix);
    }
    if urls < size {
        let fix = "name all servers in nats.urls, so that a node can start while one is away";
        return Finding::warn(PART, "cluster", says, fix);
    }
    Finding::ok(PART, "cluster", says)
}

fn round_trip(server: &ServerFound) -> Option<Finding> {
    // If not even that is allowed, the permissions check reports it.
    let took = server.round_trip?;
    let says = format!("{} to {} and back", millis(took), server.name);
    Some(if took > SLOW {
        Finding::warn(PART, "round trip", says, "every message waits for it: run nodes and NATS in one site")
    } else {
        Finding::ok(PART, "round trip", says)
    })
}

fn name(namesakes: usize, node: &str) -> Finding {
    match namesakes {
        0 => Finding::ok(PART, "name", format!("no node called {node} runs")),
        1 => Finding::ok(PART, "name", format!("one node called {node} runs")),
        more => {
            let says = format!("{more} nodes called {node} run on these servers");
            Finding::fail(PART, "name", says, "give each node its own node.name and restart all but one")
        }
    }
}

fn propagation(found: &Result<Duration, String>) -> Finding {
    match found {
        Ok(took) => Finding::ok(PART, "propagation", format!("{} from one server to another", millis(*took))),
        Err(why) => Finding::fail(
            PART,
            "propagation",
            format!("what is published on one server does not reach another: {why}"),
            "check the routes between the servers: names, port 6222, NATTER_ROUTE_PASSWORD; see their logs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State;

    fn found() -> ServerFound {
        ServerFound {
            name: "nats-1".to_owned(),
            version: "2.10.0".to_owned(),
            max_payload: 1 << 20,
            cluster: 3,
            round_trip: Some(Duration::from_millis(1)),
            forbidden: Vec::new(),
        }
    }

    #[test]
    fn each_lack_of_a_server_is_told() {
        assert_eq!(server("u", &found()).state, State::Ok);
        assert_eq!(server("u", &ServerFound { version: "2.9.25".to_owned(), ..found() }).state, State::Fail);
        assert_eq!(permissions(&ServerFound { forbidden: vec!["x".to_owned()], ..found() }).state, State::Fail);
        let config = Config::default();
        assert_eq!(payload(&found(), &config).state, State::Ok);
        assert_eq!(payload(&ServerFound { max_payload: 64 << 10, ..found() }, &config).state, State::Fail);
        let slow = ServerFound { round_trip: Some(Duration::from_secs(1)), ..found() };
        assert_eq!(round_trip(&slow).unwrap().state, State::Warn);
    }

    #[test]
    fn a_cluster_has_three_servers_and_a_node_knows_them_all() {
        assert_eq!(
            [cluster(3, 3), cluster(3, 1), cluster(1, 1)].map(|f| f.state),
            [State::Ok, State::Warn, State::Warn]
        );
        assert_eq!([0, 1, 2].map(|count| name(count, "n1").state), [State::Ok, State::Ok, State::Fail]);
        assert_eq!(propagation(&Err("x".to_owned())).state, State::Fail);
    }
}
