//! Opens the bench's connections, and says when one that was lost may be opened again. Called by everything that connects.

use std::time::Duration;

use super::plan::Mesh;
use crate::{
    client::{ConnectError, Connection, Endpoint, Incoming},
    protocol::{ServerFrame, client::Outgoing},
};

const CONNECT_TIME: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct NotOpened {
    pub(super) error: ConnectError,
    /// When to come back, where the node said so.
    pub(super) come_back: Option<Duration>,
}

impl From<ConnectError> for NotOpened {
    fn from(error: ConnectError) -> Self {
        Self { error, come_back: None }
    }
}

impl NotOpened {
    /// For the report: what kind of refusal it was.
    pub(super) fn word(&self) -> String {
        match &self.error {
            ConnectError::Http { status, .. } => format!("http_{status}"),
            ConnectError::Closed { code, .. } => format!("refused_{code}"),
            ConnectError::Timeout => "timeout".into(),
            _ => "not_connected".into(),
        }
    }
}

/// Connects `user`, with a buffer that suits the expected traffic.
pub(super) async fn open(
    mesh: &Mesh,
    url: &str,
    user: &str,
    attempt: u64,
    read_buffer: usize,
) -> Result<Connection, NotOpened> {
    let token = mesh.token(user).map_err(|error| ConnectError::Token(error.to_string()))?;
    let authorities = mesh.authorities.clone();
    let endpoint = Endpoint { authorities, read_buffer, ..Endpoint::new(url, mesh.encoding) };
    let opening = async {
        let mut connection = Connection::open(&endpoint).await?;
        let hello =
            Outgoing::Hello { token: Some(&token), device: "bench", client: "natter-bench", attempt, since: None };
        match connection.hello(&hello).await {
            Ok(_) => Ok(connection),
            Err(error) => Err(NotOpened { error, come_back: connection.come_back() }),
        }
    };
    let opened = tokio::time::timeout(CONNECT_TIME, opening).await;
    opened.unwrap_or_else(|_| Err(ConnectError::Timeout.into()))
}

/// Reads up to `caught_up`, and acknowledges what comes before it.
pub(super) async fn catch_up(connection: &mut Connection) -> anyhow::Result<()> {
    loop {
        match connection.next_frame().await? {
            ServerFrame::CaughtUp { .. } => return Ok(connection.flush().await?),
            frame => acknowledge(connection, &frame)?,
        }
    }
}

/// Acknowledges a message; other frames need nothing.
pub(super) fn acknowledge(connection: &mut Connection, frame: &ServerFrame) -> anyhow::Result<()> {
    let ServerFrame::Message(message) = frame else { return Ok(()) };
    Ok(connection.queue(&Outgoing::Ack { conv: message.conv.as_str(), seq: message.seq })?)
}

/// Answers pings until the end.
pub(super) async fn stay(mut connection: Connection) {
    while let Incoming::Frame(_) = connection.next().await {}
}

/// The wait before each new connection, by the rules for clients (`docs/protocol.md`).
#[derive(Debug, Default)]
pub(super) struct Again {
    tries: u32,
    come_back: Option<Duration>,
}

impl Again {
    const FIRST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(30);

    /// The node said when.
    pub(super) fn told(&mut self, come_back: Option<Duration>) {
        self.come_back = come_back.or(self.come_back);
    }

    /// What the node said, or any part of a span that doubles each time: so those who were cut off together do not come
    /// back together.
    pub(super) fn wait(&mut self) -> Duration {
        let span = Self::FIRST.saturating_mul(1 << self.tries.min(16)).min(Self::MOST);
        self.tries = self.tries.saturating_add(1);
        self.come_back.take().unwrap_or_else(|| span.mul_f64(rand::random::<f64>()))
    }

    /// It is caught up: the next time starts over.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_unless_a_node_says_when() {
        let mut again = Again::default();
        for most in [500, 1_000, 2_000] {
            assert!(again.wait() <= Duration::from_millis(most));
        }
        again.told(Some(Duration::from_secs(90)));
        again.told(None);
        assert_eq!(again.wait(), Duration::from_secs(90));
        assert!((0..100).all(|_| again.wait() <= Duration::from_secs(30)));
        again.reset();
        assert!(again.wait() <= Duration::from_millis(500));
    }
}
