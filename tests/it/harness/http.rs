//! The smallest HTTP client: one GET, the whole answer.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Everything after the head.
    pub body: String,
}

/// Asks for `path`; `None` when nobody answers.
pub async fn get(addr: SocketAddr, path: &str) -> Option<Answer> {
    ask(addr, path, "").await
}

/// The same with more header lines, each ended by CRLF.
pub async fn ask(addr: SocketAddr, path: &str, headers: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}
