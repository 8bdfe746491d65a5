//! The DevTools protocol over one WebSocket: commands with an id, answers with the same id, events in between.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// Far longer than any command takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the browser or to one tab.
pub struct DevTools {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
}

impl DevTools {
    /// Connects to a DevTools address.
    pub async fn connect(url: &str) -> Self {
        let (socket, _) = connect_async(url).await.unwrap();
        Self { socket, last_id: 0 }
    }

    /// Sends a command and waits for its answer; events that arrive first are dropped.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let command = json!({"id": id, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(command)).await.unwrap();
        let answer = self.next(method, |frame| frame["id"] == id).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Waits for an event.
    pub async fn event(&mut self, method: &str) -> Value {
        self.next(method, |frame| frame["method"] == method).await
    }

    async fn next(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let frame = self.socket.next().await.expect("the browser is gone").unwrap();
                let Message::Text(text) = frame else { continue };
                let frame: Value = serde_json::from_str(&text).unwrap();
                if fits(&frame) {
                    return frame;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the browser did not answer: {what}"))
    }
}
