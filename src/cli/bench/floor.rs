//! The floor of a room: a bare loop that writes the same bytes to as many sockets, one write each, and nothing else. What a
//! delivery cannot cost less than, unless several share a write. Called by `room`.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, task::JoinSet};

use super::{
    limits,
    plot::{Figure, Outline, Shown},
    report::{Report, add_row, new_table},
};
use crate::{
    model::{Cid, ConvId, RoomId, UserId, now_millis},
    protocol::{Body, Encoding, Message, ServerFrame},
};

/// Before the time is taken.
const WARMUP: Duration = Duration::from_secs(1);
const READ_BUFFER: usize = 16 << 10;

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct FloorReport {
    sockets: usize,
    bytes: usize,
    writes: u64,
    writes_per_sec: f64,
    /// Of the thread that writes; who reads is not counted.
    cpu_us_per_write: f64,
    #[serde(skip)]
    began: u64,
}

/// Writes messages with bodies of `body` bytes to `sockets` sockets of this machine for `duration`.
pub(super) async fn run(sockets: usize, body: usize, duration: Duration) -> anyhow::Result<FloorReport> {
    // Both ends of each are here.
    limits::check_own(2 * sockets)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket to accept at")?;
    let (at, frame) = (listener.local_addr()?, frame(body)?);
    let writer = thread::spawn(move || write(&listener, sockets, &frame, duration));
    let mut readers = JoinSet::new();
    for _ in 0..sockets {
        let mut socket = tokio::net::TcpStream::connect(at).await.context("a socket to read from")?;
        readers.spawn_local(async move {
            let mut buffer = vec![0; READ_BUFFER];
            while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
    while readers.join_next().await.is_some() {}
    writer.join().map_err(|_| anyhow!("the writer panicked"))?
}

fn write(listener: &TcpListener, sockets: usize, frame: &[u8], duration: Duration) -> anyhow::Result<FloorReport> {
    let mut peers = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (peer, _) = listener.accept().context("a peer")?;
        peer.set_nodelay(true)?;
        peers.push(peer);
    }
    let moment = now_millis();
    rounds(&mut peers, frame, WARMUP)?;
    let (began, cpu) = (Instant::now(), cpu_time()?);
    let writes = rounds(&mut peers, frame, duration)?;
    let (took, cpu) = (began.elapsed(), cpu_time()? - cpu);
    let count = writes.max(1) as f64;
    Ok(FloorReport {
        sockets,
        bytes: frame.len(),
        writes,
        writes_per_sec: count / took.as_secs_f64(),
        cpu_us_per_write: cpu.as_secs_f64() * 1e6 / count,
        began: moment,
    })
}

fn rounds(peers: &mut [TcpStream], frame: &[u8], time: Duration) -> anyhow::Result<u64> {
    let (began, mut writes) = (Instant::now(), 0);
    while began.elapsed() < time {
        for peer in &mut *peers {
            peer.write_all(frame).context("a peer went away")?;
        }
        writes += peers.len() as u64;
    }
    Ok(writes)
}

/// What a message of a room is on the wire: a header of 4 bytes, and the frame.
fn frame(body: usize) -> anyhow::Result<Vec<u8>> {
    let (conv, from) = (ConvId::room(&RoomId::new("bench-000000")?), UserId::new("bench-000000-m0")?);
    let message = Message::new(conv, 1_000, from, now_millis(), Body::text(&"x".repeat(body)));
    let message = ServerFrame::Message(Message { cid: Some(Cid::new("12345")?), ..message });
    Ok([&[0x82, 126, 1, 0], &*Encoding::MsgPack.encode(&message)].concat())
}

/// How long the calling thread has run.
fn cpu_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("the CPU time of a thread")?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).context("the CPU time of a thread cannot be read")
}

impl Report for FloorReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let mut table = new_table(&["sockets", "bytes", "writes/s", "CPU µs per write"]);
        let Self { sockets, bytes, writes_per_sec, cpu_us_per_write, .. } = self;
        let cells = [sockets.to_string(), bytes.to_string()];
        add_row(
            &mut table,
            cells.into_iter().chain([format!("{writes_per_sec:.0}"), format!("{cpu_us_per_write:.2}")]),
        );
        format!("a bare loop, without a mesh\n{table}")
    }

    fn outline(&self) -> Outline {
        let headline = format!("a bare loop to {} sockets, {} bytes each, without a mesh", self.sockets, self.bytes);
        let figures = vec![
            Figure::more("writes", self.writes_per_sec, "/s").main(),
            Figure::less("CPU per write", self.cpu_us_per_write, "µs").main(),
        ];
        let shown = Shown { began: self.began, headline, plots: Vec::new() };
        shown.outline("room --floor", (self.writes > 0, format!("{} writes", self.writes)), figures)
    }
}
