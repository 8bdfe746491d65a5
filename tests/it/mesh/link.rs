//! A TCP proxy that can be cut, held and slowed: stands before NATS, for one node.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// What the proxy does to what goes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing passes, nothing is closed: packets are lost for good as far as anyone can tell.
    Held,
    /// All connections are closed, new ones too.
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    delay: Duration,
}

/// A proxy. Ends when dropped.
pub struct Link {
    addr: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Link {
    /// A proxy to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State { mode: Mode::Open, delay: Duration::ZERO });
        let task = tokio::spawn(accept(listener, target, watched));
        Self { addr, state, task }
    }

    /// Where to connect instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The proxy as a NATS address.
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// Closes everything that goes through, and whatever comes.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Lets nothing through, and closes nothing.
    pub fn hold(&self) {
        self.set(Mode::Held);
    }

    /// Passes again; what was held goes on.
    pub fn heal(&self) {
        self.set(Mode::Open);
    }

    /// Every piece waits this long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    let mut pairs = tokio::task::JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        if state.borrow().mode == Mode::Cut {
            continue;
        }
        let mut state = state.clone();
        pairs.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let cut = state.clone();
            tokio::select! {
                () = pass(near_in, far_out, cut.clone()) => {}
                () = pass(far_in, near_out, cut) => {}
                _ = state.wait_for(|state| state.mode == Mode::Cut) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut piece = vec![0; 32 << 10];
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if state.wait_for(|state| state.mode == Mode::Open).await.is_err() || to.write_all(&piece[..len]).await.is_err()
        {
            return;
        }
    }
}
