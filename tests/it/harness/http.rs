//! The smallest HTTP client: one GET, the whole answer. And the metrics that a node serves.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// Everything after the head.
    pub body: String,
}

/// Asks for `path`; `None` when nothing answers.
pub async fn get(addr: impl ToSocketAddrs, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The sum of a node's metrics whose name and labels start like this; 0 if there is none.
pub async fn metric(addr: impl ToSocketAddrs, prefix: &str) -> f64 {
    let answer = get(addr, "/metrics").await.expect("the node must show its metrics");
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    answer.body.lines().filter(|line| line.starts_with(prefix)).filter_map(value).sum()
}
