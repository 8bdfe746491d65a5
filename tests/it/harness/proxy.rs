//! The one TCP proxy of the tests. It stands before a server and does to the traffic what a network may do: breaks
//! connections, holds bytes back, delays and throttles them. Faults are values: [`Proxy::apply`], [`Proxy::heal`].
//!
//! Anything that knows a protocol is layered on top as a [`Filter`]: see `nats_proxy`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

/// How much is read at once, and how many pieces a direction keeps while they wait: beyond that the sender is held up,
/// as by a network.
const PIECE: usize = 16 << 10;
const PIECES: usize = 16;

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients.
    ToServer,
    /// From the server.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

/// What the network does until [`Proxy::heal`]. Faults add up; of two delays in one direction the later counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// All connections break, what was on its way is lost, new ones are refused.
    Cut,
    /// Nothing passes this way. Nothing is closed and nothing is lost.
    Hold(Direction),
    /// Everything takes this much longer this way.
    Delay(Direction, Duration),
    /// At most this many bytes per second pass this way, on each connection.
    Throttle(Direction, u64),
}

/// All faults in force.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    cut: bool,
    /// How often a cut was applied: a connection must not miss one that was healed at once.
    cuts: usize,
    ways: [Way; 2],
}

/// One direction.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    held: bool,
    delay: Duration,
    bytes_per_sec: Option<u64>,
}

/// Sees what the server sends before the client does, and decides what to pass on instead. One for each connection.
pub type Filter = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// Takes bytes for the client of one connection that the server did not send just now.
pub type Injector = mpsc::UnboundedSender<Vec<u8>>;

type MakeFilter = Box<dyn Fn(Injector) -> Filter + Send>;

/// Forwards connections to one address until dropped.
pub struct Proxy {
    addr: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    waiting: Waiting,
    accept: JoinHandle<()>,
}

/// Bytes that have come in and are not passed on, by direction.
type Waiting = Arc<[AtomicUsize; 2]>;

/// What came in at once, and when. Counts as waiting until it is passed on, or lost.
struct Piece {
    came: Instant,
    bytes: Vec<u8>,
    direction: Direction,
    waiting: Waiting,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.waiting[self.direction as usize].fetch_sub(self.bytes.len(), Ordering::AcqRel);
    }
}

impl Proxy {
    /// Listens on a free port of loopback; everything passes.
    pub async fn to(target: SocketAddr) -> Self {
        Self::filtered(target, |_| Box::new(<[u8]>::to_vec)).await
    }

    /// The same, with a filter for each connection over what the server sends.
    pub async fn filtered(target: SocketAddr, make: impl Fn(Injector) -> Filter + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let waiting = Waiting::default();
        let accept = tokio::spawn(accept(listener, target, (weather.subscribe(), waiting.clone()), Box::new(make)));
        Self { addr, weather, waiting, accept }
    }

    /// Where to connect instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as the address of a NATS server.
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// How many bytes it has taken and not passed on, this way.
    pub fn waiting(&self, direction: Direction) -> usize {
        self.waiting[direction as usize].load(Ordering::Acquire)
    }

    /// Applies this fault from now on, in addition to those in force.
    pub fn apply(&self, fault: Fault) {
        self.weather.send_modify(|weather| match fault {
            Fault::Cut => (weather.cut, weather.cuts) = (true, weather.cuts + 1),
            Fault::Hold(direction) => weather.ways[direction as usize].held = true,
            Fault::Delay(direction, delay) => weather.ways[direction as usize].delay = delay,
            Fault::Throttle(direction, rate) => weather.ways[direction as usize].bytes_per_sec = Some(rate),
        });
    }

    /// The same fault in both directions.
    pub fn apply_both(&self, fault: impl Fn(Direction) -> Fault) {
        Direction::BOTH.into_iter().for_each(|direction| self.apply(fault(direction)));
    }

    /// Removes all faults; what was held moves on, in order.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| *weather = Weather { cuts: weather.cuts, ..Weather::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections are tasks of the accepting one.
        self.accept.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    (weather, waiting): (watch::Receiver<Weather>, Waiting),
    make: MakeFilter,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let now = *weather.borrow();
        if now.cut {
            continue;
        }
        let (injector, injected) = mpsc::unbounded_channel();
        let passing = connection((client, target), (weather.clone(), waiting.clone()), make(injector), injected);
        let mut cut = weather.clone();
        connections.spawn(async move {
            tokio::select! {
                () = passing => {}
                _ = cut.wait_for(|weather| weather.cuts != now.cuts) => {}
            }
        });
    }
}

async fn connection(
    (client, target): (TcpStream, SocketAddr),
    (weather, waiting): (watch::Receiver<Weather>, Waiting),
    filter: Filter,
    injected: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (nothing, no_injected) = mpsc::unbounded_channel();
    drop(nothing);
    let way = |direction| {
        let (weather, waiting) = (weather.clone(), waiting.clone());
        Pass { direction, weather, waiting, next_free: Instant::now() }
    };
    tokio::join!(
        way(Direction::ToServer).run(from_client, to_server, Box::new(<[u8]>::to_vec), no_injected),
        way(Direction::ToClient).run(from_server, to_client, filter, injected),
    );
}

/// One direction of one connection.
struct Pass {
    direction: Direction,
    weather: watch::Receiver<Weather>,
    waiting: Waiting,
    /// When the last piece has passed, at the throttled rate.
    next_free: Instant,
}

impl Pass {
    /// Passes everything on, then the end. What was held moves on even if its sender has hung up in the meantime, as in
    /// a network.
    async fn run(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut filter: Filter,
        mut injected: mpsc::UnboundedReceiver<Vec<u8>>,
    ) {
        let (queue, mut pieces) = mpsc::channel::<Piece>(PIECES);
        let (direction, waiting) = (self.direction, self.waiting.clone());
        let read = async move {
            let mut piece = vec![0; PIECE];
            while let Ok(len @ 1..) = from.read(&mut piece).await {
                waiting[direction as usize].fetch_add(len, Ordering::AcqRel);
                let (came, bytes) = (Instant::now(), piece[..len].to_vec());
                if queue.send(Piece { came, bytes, direction, waiting: waiting.clone() }).await.is_err() {
                    return;
                }
            }
        };
        let write = async move {
            loop {
                let (_piece, bytes) = tokio::select! {
                    piece = pieces.recv() => {
                        let Some(piece) = piece else { break };
                        self.may_pass(piece.came, piece.bytes.len()).await;
                        let bytes = filter(&piece.bytes);
                        (Some(piece), bytes)
                    }
                    Some(bytes) = injected.recv() => (None, bytes),
                };
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        };
        tokio::join!(read, write);
    }

    /// Waits until a piece that arrived at `came` may move on.
    async fn may_pass(&mut self, came: Instant, len: usize) {
        let way = |weather: &Weather| weather.ways[self.direction as usize];
        let delay = way(&self.weather.borrow()).delay;
        sleep_until(came + delay).await;
        // Fails only when the proxy is gone, and then so is this task.
        let _ = self.weather.wait_for(|weather| !way(weather).held).await;
        let rate = way(&self.weather.borrow()).bytes_per_sec;
        if let Some(rate) = rate {
            let now = Instant::now();
            self.next_free = self.next_free.max(now) + Duration::from_secs_f64(len as f64 / rate as f64);
            sleep(self.next_free - now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{PATIENCE, until};

    /// A proxy before an echo server, and a client of it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap()).await;
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        (proxy, client)
    }

    #[tokio::test]
    async fn what_is_held_comes_later_and_in_order() {
        for direction in Direction::BOTH {
            let (proxy, mut client) = echo().await;
            proxy.apply(Fault::Hold(direction));
            client.write_all(b"abc").await.unwrap();
            // Far longer than a byte takes: nothing else could tell that it does not arrive.
            let early = tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await;
            assert!(early.is_err(), "{direction:?}: {early:?}");
            assert_eq!(proxy.waiting(direction), 3, "{direction:?}");
            proxy.heal();
            client.write_all(b"d").await.unwrap();
            let mut all = [0; 4];
            client.read_exact(&mut all).await.unwrap();
            assert_eq!(&all, b"abcd", "{direction:?}");
            until("nothing waits", async || proxy.waiting(direction) == 0).await;
        }
    }

    /// Waits for the end of a connection.
    async fn closed(client: &mut TcpStream) {
        let read = tokio::time::timeout(PATIENCE, client.read_u8()).await;
        assert!(read.expect("the connection must be closed").is_err(), "a byte came");
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_refuses_new_ones_even_when_it_is_healed_at_once() {
        let (proxy, mut client) = echo().await;
        proxy.apply(Fault::Cut);
        proxy.heal();
        closed(&mut client).await;
        proxy.apply(Fault::Cut);
        closed(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;
        proxy.heal();
        until("connections pass again", async || {
            let mut again = TcpStream::connect(proxy.addr()).await.unwrap();
            again.write_all(b"x").await.is_ok() && again.read_u8().await.is_ok()
        })
        .await;
    }

    #[tokio::test]
    async fn delays_and_throttles_take_their_time() {
        let (proxy, mut client) = echo().await;
        proxy.apply_both(|direction| Fault::Delay(direction, Duration::from_millis(60)));
        let begin = Instant::now();
        client.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y');
        assert!(begin.elapsed() >= Duration::from_millis(120), "{:?}", begin.elapsed());
        proxy.heal();
        proxy.apply(Fault::Throttle(Direction::ToClient, 200_000));
        let (begin, mut all) = (Instant::now(), vec![0; 60_000]);
        client.write_all(&vec![7; 60_000]).await.unwrap();
        client.read_exact(&mut all).await.unwrap();
        let took = begin.elapsed();
        assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&took), "{took:?}");
    }
}
