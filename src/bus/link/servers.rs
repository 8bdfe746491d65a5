//! Which servers there are: those of the configuration, and those that the last server named. Called by [`super::keep`].

use std::net::IpAddr;

use async_nats::ServerAddr;
use rand::seq::SliceRandom as _;

use crate::bus::{BusError, options::refused};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// Its URL asks for TLS.
    pub(super) wants_tls: bool,
    /// The name that its certificate must have.
    pub(super) tls_name: String,
}

/// The servers of the configuration.
///
/// # Errors
/// For a URL that this link cannot take.
pub(super) fn configured(addrs: &[ServerAddr]) -> Result<Vec<Server>, BusError> {
    addrs
        .iter()
        .map(|addr| named(addr).ok_or_else(|| refused("nats.urls must each name a host, by nats:// or tls://")))
        .collect()
}

fn named(addr: &ServerAddr) -> Option<Server> {
    let host = addr.host().to_owned();
    let wants_tls = addr.tls_required();
    (!addr.is_websocket() && !host.is_empty()).then(|| Server {
        tls_name: host.clone(),
        host,
        port: addr.port(),
        wants_tls,
    })
}

/// Every server once, in random order: all nodes lose a server at the same moment, and should not all go to the same one.
/// `told` is what a server named, `host:port` each.
pub(super) fn candidates(configured: &[Server], told: &[String]) -> Vec<Server> {
    let mut all = configured.to_vec();
    for url in told {
        let Some(mut server) = url.parse().ok().as_ref().and_then(named) else { continue };
        if all.iter().any(|other| (&other.host, other.port) == (&server.host, server.port)) {
            continue;
        }
        server.wants_tls = configured.iter().any(|server| server.wants_tls);
        // Servers name each other by address, and their certificates are for names.
        let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
        let name = configured.iter().map(|server| &server.tls_name).find(|name| !is_address(name));
        if let Some(name) = name.filter(|_| is_address(&server.host)) {
            server.tls_name.clone_from(name);
        }
        all.push(server);
    }
    all.shuffle(&mut rand::rng());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &[&str]) -> Vec<Server> {
        let addrs: Vec<ServerAddr> = urls.iter().map(|url| url.parse().unwrap()).collect();
        configured(&addrs).unwrap()
    }

    #[test]
    fn each_server_is_tried_once_wherever_its_address_is_from() {
        let told = ["10.0.0.1:4222", "10.0.0.2:4222", "", "no port", "[::1]:4333"].map(str::to_owned);
        let mut all = candidates(&of(&["nats://10.0.0.1:4222", "nats://nats-1"]), &told);
        all.sort_by(|one, other| one.host.cmp(&other.host));
        let hosts: Vec<_> = all.iter().map(|server| (server.host.as_str(), server.port)).collect();
        assert_eq!(hosts[..3], [("10.0.0.1", 4222), ("10.0.0.2", 4222), ("::1", 4333)]);
        assert!(hosts.contains(&("nats-1", 4222)));
    }

    #[test]
    fn a_server_that_is_named_by_address_shows_the_certificate_of_the_name() {
        let all = candidates(&of(&["tls://nats.example.org:4222"]), &["10.0.0.1:4222".into(), "other:4222".into()]);
        let found = |host: &str| all.iter().find(|server| server.host == host).unwrap();
        assert_eq!((found("10.0.0.1").tls_name.as_str(), found("10.0.0.1").wants_tls), ("nats.example.org", true));
        assert_eq!(found("other").tls_name, "other");
    }

    #[test]
    fn not_all_nodes_go_to_the_same_server() {
        let urls: Vec<_> = (0..9).map(|number| format!("nats://h{number}")).collect();
        let servers = of(&urls.iter().map(String::as_str).collect::<Vec<_>>());
        let firsts = (0..100).map(|_| candidates(&servers, &[])[0].host.clone());
        assert!(firsts.collect::<std::collections::BTreeSet<_>>().len() > 3);
    }

    #[test]
    fn what_this_link_cannot_reach_is_refused() {
        for url in ["ws://x", "nats://"] {
            assert!(configured(&[url.parse().unwrap()]).is_err(), "{url}");
        }
    }
}
