//! The smallest HTTP client: one request, the whole answer. And the metrics that a node serves.

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

impl Answer {
    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| named(line)).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks for `path`; `None` when nothing answers.
pub async fn get(addr: impl ToSocketAddrs, path: &str) -> Option<Answer> {
    request(addr, "GET", path, &[], b"").await
}

/// Sends any request, with the length of its body; `None` when nothing answers.
pub async fn request(
    addr: impl ToSocketAddrs,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    // Whoever is refused early is not read to the end.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

/// Sends exactly this; `None` when nothing answers. The node must end the connection.
pub async fn raw(addr: impl ToSocketAddrs, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let _ = stream.write_all(request).await;
    answer(&mut stream).await
}

/// Reads an answer, to the end of the connection.
pub async fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text).await;
    if text.is_empty() {
        read.ok()?;
    }
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
