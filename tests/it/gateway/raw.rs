//! A WebSocket without a library: to break the protocol, to leave pings unanswered, to see the exact bytes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::PATIENCE;

/// A text frame.
pub const TEXT: u8 = 0x81;
/// A binary frame.
pub const BINARY: u8 = 0x82;
/// A close frame.
pub const CLOSE: u8 = 0x88;

/// An upgraded connection.
pub struct RawSocket(TcpStream);

impl RawSocket {
    /// Connects and upgrades, with JSON frames.
    pub async fn open(addr: SocketAddr) -> Self {
        let (answer, socket) = Self::upgrade(addr, "").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        socket
    }

    /// Connects and asks for the upgrade with additional header lines; returns the head of the response.
    pub async fn upgrade(addr: SocketAddr, headers: &str) -> (String, Self) {
        Self::upgrade_on(TcpStream::connect(addr).await.unwrap(), addr, headers).await
    }

    /// The same on a connection that is there, with JSON frames.
    pub async fn over(stream: TcpStream, addr: SocketAddr) -> Self {
        let (answer, socket) = Self::upgrade_on(stream, addr, "").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        socket
    }

    async fn upgrade_on(mut stream: TcpStream, addr: SocketAddr, headers: &str) -> (String, Self) {
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), Self(stream))
    }

    /// Writes bytes as they are.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads some bytes as they are, at most `most`; none at the end.
    pub async fn some(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let read = self.0.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Writes one frame.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.bytes(&framed(first, payload)).await;
    }

    /// Writes a text frame.
    pub async fn text(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes()).await;
    }

    /// The next frame: its first byte and its payload. `None` at the end.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read()).await.expect("no frame came")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let len = match self.0.read_u8().await.ok()? {
            126 => self.0.read_u16().await.ok()?.into(),
            127 => self.0.read_u64().await.ok()?,
            len => len.into(),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    }

    /// Reads up to the close frame: the text frames before it, its code and its message.
    pub async fn closed(&mut self) -> (Vec<String>, u16, String) {
        let mut texts = Vec::new();
        loop {
            let (first, payload) = self.next().await.expect("the end without a close frame");
            match first {
                CLOSE => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return (texts, code, String::from_utf8(payload[2..].to_vec()).unwrap());
                }
                TEXT => texts.push(String::from_utf8(payload).unwrap()),
                _ => {}
            }
        }
    }
}

/// A frame as a client writes it, masked with zeros.
pub fn framed(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..126 => bytes.push(0x80 | len as u8),
        len @ ..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
