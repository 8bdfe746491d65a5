//! The bus on a real server.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use natter::{
    bus::{
        Bus, BusError, BusEvent, OnMessage,
        nats::{NatsBus, NatsOptions},
    },
    model::{RoomId, UserId},
    nats_server::{NatsServer, ServerOptions},
    subject::Subject,
};
use tempfile::TempDir;

use crate::nats_server::until;

/// A server and the folder it lives in.
struct Site {
    server: NatsServer,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
        Self { server, _folder: folder }
    }

    fn options(&self, node: &str) -> NatsOptions {
        let mut options =
            NatsOptions::new(node, [self.server.client_url()]).password("node", &self.server.passwords().node);
        options.ping_interval = Duration::from_secs(1);
        options
    }

    async fn bus(&self, node: &str) -> Arc<NatsBus> {
        NatsBus::connect(self.options(node)).await.unwrap()
    }
}

/// Remembers what came.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn listen(&self) -> OnMessage {
        let heard = self.clone();
        Arc::new(move |message| heard.0.lock().unwrap().push(String::from_utf8(message.payload.to_vec()).unwrap()))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn user(name: &str) -> Subject {
    Subject::user(&UserId::new(name).unwrap())
}

#[tokio::test]
async fn after_a_fence_what_another_node_publishes_arrives() {
    let site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let heard = Heard::default();
    for round in 0..200 {
        let subject = user(&format!("u{round}"));
        let _sub = one.subscribe(&subject, heard.listen());
        assert_eq!(one.fence().await, Ok(1));
        two.publish(&subject, Bytes::from(round.to_string()));
        until("it is heard", async || heard.all().len() == round + 1).await;
    }
    assert_eq!(heard.all(), (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
}
