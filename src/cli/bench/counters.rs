//! What the nodes count, read from their metrics. Called by the scenarios that report it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::plan::Mesh;

const PATIENCE: Duration = Duration::from_secs(5);

/// Sums over all nodes and labels, by the names of the counters.
pub(super) type Counts = BTreeMap<&'static str, f64>;

/// Reads them from all nodes.
///
/// # Errors
/// When a node does not show its metrics: they are asked for over plain HTTP, where the WebSocket is.
pub(super) async fn read(mesh: &Mesh, names: &[&'static str]) -> anyhow::Result<Counts> {
    let mut all = Counts::new();
    for url in &mesh.urls {
        let page = page(url).await.with_context(|| format!("the metrics of {url}"))?;
        for name in names {
            *all.entry(name).or_default() += sum(&page, name);
        }
    }
    Ok(all)
}

/// How much one of them has grown.
pub(super) fn grown(name: &str, before: &Counts, after: &Counts) -> f64 {
    after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0)
}

fn sum(page: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
    };
    page.lines().filter_map(value).sum()
}

/// `GET /metrics` of the node behind a WebSocket's address.
async fn page(url: &str) -> anyhow::Result<String> {
    let host = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
    let host = host.context("only nodes at ws://… show their metrics")?;
    let asked = async {
        let mut socket = TcpStream::connect(host).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        socket.read_to_string(&mut page).await?;
        anyhow::ensure!(page.lines().next().is_some_and(|line| line.contains(" 200 ")), "they are not shown");
        anyhow::Ok(page)
    };
    timeout(PATIENCE, asked).await.context("no answer")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_of_its_labels() {
        let page = "# HELP a_total x\na_total{by=\"one two\"} 3\na_total{by=\"}\"} 4.5\na_total_more 9\nb_total 2\n";
        assert_eq!((sum(page, "a_total"), sum(page, "b_total"), sum(page, "c_total")), (7.5, 2.0, 0.0));
    }
}
