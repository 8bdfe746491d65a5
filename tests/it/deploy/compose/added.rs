//! deploy/compose/: what can be added to docker-compose.yml, merged as the engine does it, and tried.

use std::{path::Path, process::Command};

use natter::{
    config::{Config, Sources},
    nats_server::{find, free_ports},
};
use serde_yaml_ng::Value;

use super::{
    files::{SECRET, added, environment, example, read, root, services, texts},
    stack_on_scylla::get,
};
use crate::harness::{
    certificates::Certificates,
    haproxy::haproxy,
    natter::natter,
    process::{Process, output},
    skip::skip,
    until,
};

fn service<'a>(file: &'a Value, name: &str) -> &'a Value {
    services(file)[name]
}

#[test]
fn each_addition_says_every_variable_that_it_takes_and_all_of_them_fit_together() {
    for file in ["tls", "services"] {
        let text = read(&format!("deploy/compose/{file}.yml"));
        for (name, rest) in super::files::expressions(&text) {
            let said = text.lines().filter(|line| line.starts_with('#')).any(|line| line.contains(&name));
            assert!(said && !example().contains_key(&name), "{name}{rest} in {file}.yml");
        }
    }
    let both = added(&["tls", "services"]);
    assert_eq!(texts(&service(&both, "proxy")["ports"]), ["8080:8080", "8443:8443"]);
    // Nodes still reach no network that they need not.
    assert_eq!(texts(&service(&both, "natter-1")["networks"]), ["front", "bus", "store"]);
    for (number, port) in [(1, 4222), (2, 4223), (3, 4224)] {
        let nats = service(&both, &format!("nats-{number}"));
        let public = texts(&nats["ports"]);
        assert!(public.len() == 1 && public[0].ends_with(&format!(":{port}:4222")), "{public:?}");
        assert_eq!(texts(&nats["networks"]), ["bus", "services"]);
        assert_eq!(nats["read_only"], true, "what it was stays");
    }
}

#[tokio::test]
async fn the_proxy_speaks_tls_and_sends_everybody_there() {
    const PART: &str = "TLS at the proxy";
    let Some(program) = haproxy() else { return skip(PART, "there is no haproxy; apt install haproxy") };
    let Some(certificates) = Certificates::new() else { return skip(PART, "there is no openssl") };
    let folder = tempfile::tempdir().unwrap();
    let chain = folder.path().join("natter.pem");
    let parts =
        ["ours-server.pem", "ours-server.key"].map(|name| std::fs::read_to_string(certificates.path(name)).unwrap());
    std::fs::write(&chain, parts.concat()).unwrap();
    let file = added(&["tls"]);
    let mounted = texts(&service(&file, "proxy")["volumes"]).into_iter().find(|volume| volume.contains("natter.pem"));
    let inside = mounted.unwrap().split(':').nth(1).unwrap().to_owned();
    let ports = free_ports(4).unwrap();
    let at = |number: usize| format!("127.0.0.1:{}", ports[number]);
    let mut command = Command::new(program);
    command
        .args(["-db", "-f", root().join("deploy/haproxy.cfg").to_str().unwrap()])
        .envs([("PROXY_BIND", at(0)), ("PROXY_TLS_BIND", at(1)), ("PROXY_METRICS_BIND", at(2))])
        .envs([("NATTER_1", at(3)), ("NATTER_2", at(3)), ("GRAFANA", at(3))]);
    for (name, value) in environment(service(&file, "proxy")) {
        command.env(name, value.replace(&inside, chain.to_str().unwrap()));
    }
    let _proxy = Process::start(command);
    // There is no node: over TLS the proxy itself answers with 503. Without, it says where to go.
    until("it sends to https", async || get(&at(0), "/").await.is_some_and(|(status, _)| status == 302)).await;
    assert_eq!(get(&at(0), "/healthz").await.unwrap().0, 503, "the health check is not sent away");
    let mut shake = Command::new("openssl");
    shake.args(["s_client", "-brief", "-verify_return_error", "-connect", &at(1)]);
    shake.arg("-CAfile").arg(certificates.path("ours.pem"));
    let shaken = output(shake).await;
    let said = String::from_utf8_lossy(&shaken.stderr);
    assert!(shaken.status.success() && said.contains("Verification: OK"), "{said}");
}

/// One of the servers with its own files; a node's account and authority as in the compose file.
#[tokio::test]
async fn nats_speaks_tls_and_only_who_knows_the_authority_connects() {
    let Some(certificates) = Certificates::new() else { return skip("NATS for other machines", "there is no openssl") };
    let (folder, file) = (tempfile::tempdir().unwrap(), added(&["services"]));
    let ports = free_ports(3).unwrap();
    let address = format!("127.0.0.1:{}", ports[0]);
    let mut server = start_nats(&file, &certificates, folder.path(), &ports);
    server.says("Server is ready").await;
    let doctor = async |scheme: &str| {
        let mut doctor = natter(folder.path());
        doctor.args(["doctor", "--json"]);
        for (name, value) in environment(service(&file, "natter-1")) {
            doctor.env(
                name,
                value.replace("/etc/natter-tls/authority.pem", certificates.path("ours.pem").to_str().unwrap()),
            );
        }
        doctor.env("NATTER_NATS__URLS", format!("{scheme}://{address}")).env("NATTER_STORE__KIND", "embedded");
        if scheme == "nats" {
            doctor.env_remove("NATTER_NATS__TLS_CA_FILE");
        }
        let said: serde_json::Value = serde_json::from_slice(&output(doctor).await.stdout).unwrap();
        said["findings"][0].clone()
    };
    let finding = doctor("tls").await;
    assert_eq!(finding["state"], "ok", "{finding}");
    let without = doctor("nats").await;
    assert_eq!(without["state"], "fail", "{without}");
    let sources = Sources { variables: environment(service(&file, "natter-1")), ..Sources::default() };
    let config = Config::load_with_origins(&sources).unwrap().config;
    assert!(config.nats.urls.len() == 3 && config.nats.urls.iter().all(|url| url.expose().starts_with("tls://")));
}

fn start_nats(file: &Value, certificates: &Certificates, folder: &Path, ports: &[u16]) -> Process {
    let nats = service(file, "nats-1");
    let mut command = Command::new(find(None).unwrap().path);
    for argument in texts(&nats["command"]) {
        command.arg(argument.replace("/etc/natter", root().join("nats").to_str().unwrap()));
    }
    let own = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    for (name, value) in environment(nats) {
        let value = value
            .replace("0.0.0.0:4222", &format!("127.0.0.1:{}", ports[0]))
            .replace("0.0.0.0:6222", &format!("127.0.0.1:{}", ports[1]))
            .replace("127.0.0.1:8222", &format!("127.0.0.1:{}", ports[2]))
            .replace("/etc/natter-tls/chain.pem", &own("ours-server.pem"))
            .replace("/etc/natter-tls/key.pem", &own("ours-server.key"))
            .replace("/data", folder.to_str().unwrap());
        // The other two are not there.
        let routes = format!("[\"nats-route://route:{SECRET}@127.0.0.1:{}\"]", ports[1]);
        command.env(&name, if name == "NATTER_NATS_ROUTES" { routes } else { value });
    }
    Process::start(command)
}
