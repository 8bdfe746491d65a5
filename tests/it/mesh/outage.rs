//! The embedded store fails for a reason that passes, with real causes: no descriptors, no room. It comes back by
//! itself, says so, and nothing that was answered is missing.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, File},
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use natter::{
    model::{Body, Seq},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Encoding, ErrorCode, ServerFrame, ask},
};

use crate::{
    harness::{http, skip::skip, until},
    mesh::{Peer, peer::messages, serve::ServeProcess},
};

const CONV: &str = "dm:alice:bob";
/// For the many large messages that it takes to fill a table.
const LONG: Duration = Duration::from_secs(120);
const FAILED: &str = "a write failed; the store is down and opens again by itself";
const BACK: &str = "the store is open again";

/// What alice sends, and what she was answered.
struct Log {
    alice: Peer,
    answered: BTreeMap<String, Seq>,
}

impl Log {
    /// Sends large messages until one is refused; returns its number.
    async fn send_until_refused(&mut self) -> usize {
        for n in 0..1_000 {
            if !self.send(n).await {
                return n;
            }
        }
        panic!("nothing was refused");
    }

    /// True when it was answered `sent`; otherwise it was refused as unavailable.
    async fn send(&mut self, n: usize) -> bool {
        let (cid, text) = (format!("m{n}"), n.to_string());
        let body = Body::text(&text.repeat(470_000 / text.len()));
        match self.alice.try_send("@bob", &cid, &body).await {
            ServerFrame::Sent(ask::Sent { seq, .. }) => {
                self.answered.insert(cid, seq);
                true
            }
            ServerFrame::Error { code: ErrorCode::Unavailable, .. } => false,
            other => panic!("message {n}: {other:?}"),
        }
    }

    /// A device that was never there gets everything that was answered, at the seqs of the answers.
    async fn is_whole(&self, serve: &ServeProcess) {
        let last = *self.answered.values().max().unwrap();
        let bob = Peer::join(&serve.url(), "bob", "phone", Encoding::MsgPack).await;
        bob.wait_for(LONG, "the last message", |frames| messages(frames).find(|m| m.seq == last).map(drop)).await;
        let heard: BTreeMap<_, _> = bob.messages().into_iter().map(|m| (m.cid.unwrap().to_string(), m.seq)).collect();
        assert_eq!(bob.seqs(CONV), (1..=last).collect::<Vec<_>>());
        for (cid, seq) in &self.answered {
            assert_eq!(heard.get(cid), Some(seq), "{cid} was answered");
        }
    }
}

async fn start(folder: &Path) -> (NatsServer, ServeProcess, Log) {
    let nats = NatsServer::start(ServerOptions::new(folder.join("nats"))).await.unwrap();
    let serve = ServeProcess::start(folder, &nats, "limits.body_bytes = 480000").await;
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::MsgPack).await;
    (nats, serve, Log { alice, answered: BTreeMap::new() })
}

async fn is_ready(serve: &ServeProcess) -> bool {
    http::get(serve.addr, "/readyz").await.is_some_and(|answer| answer.status == 200)
}

/// It failed once and came back once, whatever it tried in between.
fn said_once(serve: &ServeProcess) {
    let log = serve.process.log();
    assert_eq!((log.matches(FAILED).count(), log.matches(BACK).count()), (1, 1), "{log}");
}

/// Sets how many files the process may open; returns what it was.
fn limit_files(pid: u32, files: u64) -> u64 {
    let pid = libc::pid_t::try_from(pid).unwrap();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit reads and writes only the structs it is given; the child has not been waited for.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = files;
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()), 0);
        before
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ran_out_of_descriptors_opens_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_nats, serve, mut log) = start(folder.path()).await;
    // Fewer than it has open: the next file of the store cannot be opened, nor the store itself.
    let before = limit_files(serve.process.pid(), 8);
    let refused = log.send_until_refused().await;
    assert!(serve.process.log().contains(FAILED), "{}", serve.process.log());
    assert!(!log.send(refused).await, "the reason has not passed");
    limit_files(serve.process.pid(), before);
    until("it is ready again", async || is_ready(&serve).await).await;
    for n in [refused, refused + 1, 0] {
        assert!(log.send(n).await, "message {n}: new ones and tries of old ones are taken again");
    }
    log.is_whole(&serve).await;
    said_once(&serve);
}

/// A small disk of its own, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount anything.
    fn mount(place: PathBuf) -> Option<Self> {
        fs::create_dir_all(&place).unwrap();
        let path = CString::new(place.as_os_str().as_bytes()).unwrap();
        let options = c"size=256m".as_ptr().cast();
        // SAFETY: all strings end with a zero byte and outlive the call.
        let done = unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, options) };
        (done == 0).then_some(Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path = CString::new(self.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: the string ends with a zero byte and outlives the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0x5a; 4096]).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_disk_was_full_opens_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk")) else {
        return skip("a full disk under a running node", "this user may not mount a tmpfs");
    };
    fs::create_dir(disk.0.join("data")).unwrap();
    std::os::unix::fs::symlink(disk.0.join("data"), folder.path().join("data")).unwrap();
    let (_nats, serve, mut log) = start(folder.path()).await;
    for n in 0..5 {
        assert!(log.send(n).await);
    }
    let hog = disk.0.join("hog");
    fill(&hog);
    let refused = log.send_until_refused().await;
    until("it is not ready", async || !is_ready(&serve).await).await;
    let answer = http::get(serve.addr, "/readyz").await.unwrap();
    assert!(answer.body.contains("opens again by itself"), "{}", answer.body);
    assert!(!log.send(refused).await, "there is still no room");
    fs::remove_file(&hog).unwrap();
    until("it is ready again", async || is_ready(&serve).await).await;
    for n in [refused, refused + 1, 0] {
        assert!(log.send(n).await, "message {n}: new ones and tries of old ones are taken again");
    }
    log.is_whole(&serve).await;
    said_once(&serve);
}
