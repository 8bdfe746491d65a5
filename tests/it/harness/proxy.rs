//! A TCP proxy whose network can be cut, or holds what passes and releases it later.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What the network does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fair,
    /// Nothing passes towards the server; nothing is lost.
    HoldRequests,
    /// Nothing passes towards the clients; nothing is lost.
    HoldAnswers,
    /// Connections break, new ones are refused.
    Cut,
}

/// Forwards connections to one address until dropped.
pub struct Proxy {
    addr: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    accept: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = Arc::new(watch::Sender::new(Weather::Fair));
        let accept = tokio::spawn(accept(listener, target, weather.clone()));
        Self { addr, weather, accept }
    }

    /// Where to connect instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks all connections and refuses new ones.
    pub fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// What clients say waits here until [`Proxy::heal`].
    pub fn hold_requests(&self) {
        self.weather.send_replace(Weather::HoldRequests);
    }

    /// What the server says waits here until [`Proxy::heal`].
    pub fn hold_answers(&self) {
        self.weather.send_replace(Weather::HoldAnswers);
    }

    /// Everything passes again; what was held is released, in order.
    pub fn heal(&self) {
        self.weather.send_replace(Weather::Fair);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: Arc<watch::Sender<Weather>>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let now = *weather.borrow();
        if now == Weather::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(forward(from_client, to_server, weather.subscribe(), Weather::HoldRequests));
        tokio::spawn(forward(from_server, to_client, weather.subscribe(), Weather::HoldAnswers));
    }
}

/// One direction. Bytes that were held go on even when their sender has hung up meanwhile: a network does that.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    held_by: Weather,
) {
    let mut cut = weather.clone();
    let pump = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if weather.wait_for(|now| *now != held_by).await.is_err() || to.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = pump => {}
        _ = cut.wait_for(|now| *now == Weather::Cut) => {}
    }
}
