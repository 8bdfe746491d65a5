//! `natter health`: asks a node whether it is ready, for container health checks, where there is no curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Global, print};

/// A readiness answer waits at most this long for the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `natter health`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The node [default: http.listen of the configuration]
    #[arg(value_name = "HOST:PORT")]
    node: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  natter health                     the node of this configuration
  natter health 127.0.0.1:8081

Exit code 0 when the node is ready, 1 when it is not or does not answer.";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty, or the node does not answer.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let node = match args.node {
        Some(node) => node.trim_start_matches("http://").trim_end_matches('/').to_owned(),
        None => reachable(global.load()?.config.http.listen).to_string(),
    };
    let HttpAnswer { status, body } = ask(&node, "/readyz").await?;
    print(&body)?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where to reach what listens on `listen`: a node that listens on every address is on loopback too.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A node's answer over HTTP.
#[derive(Debug)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// One GET, on its own connection.
pub(super) async fn ask(node: &str, path: &str) -> anyhow::Result<HttpAnswer> {
    let asked = timeout(PATIENCE, exchange(node, path)).await;
    asked.map_err(|_| anyhow::anyhow!("no answer in time")).flatten().with_context(|| format!("asking {node}"))
}

async fn exchange(node: &str, path: &str) -> anyhow::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(node).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Whatever listens there may not be a node, and may never stop sending.
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("it does not speak HTTP") };
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok(HttpAnswer { status: status.context("it does not speak HTTP")?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_every_address_is_asked_on_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(at("[::]:8080"), "[::1]:8080");
        assert_eq!(at("10.1.2.3:80"), "10.1.2.3:80");
    }
}
