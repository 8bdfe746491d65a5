//! One run of a scenario: the client's program, the addresses it connects to, and the connection it has. Everything that happens
//! passes through [`Stage::happens`] to the referee. Called by `perform`, which makes the steps of it.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    process::ExitStatus,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep_until},
};

use super::{
    program::{Program, Told},
    referee::{Referee, Verdict},
    rules::{FRAMES, Fault},
    script::Way,
    wire::{Heard, Listeners, Wire},
};
use crate::{
    model::now_millis,
    protocol::{Request, client::FrameError},
};

/// How many lines of what passed are kept, and how much of each.
const TRANSCRIPT: usize = 200;
const SHOWN: usize = 240;
/// The device of the client.
const DEVICE: &str = "conform";

/// What a connection has come to.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub hello: Option<Value>,
    pub welcomed: bool,
    pub ping_secs: u64,
    /// What came and was not waited for yet.
    pub sends: VecDeque<String>,
    /// The `ref` of each, the last one.
    pub refs: HashMap<String, Value>,
    /// After `rate_limited`: this one first, and not before.
    pub limited: Option<(String, Instant)>,
    pub tokens: VecDeque<Value>,
    pub acks: Option<Value>,
    pub pongs: u32,
    /// The client ended it, with this code.
    pub left: Option<Option<u16>>,
}

/// A connection that nobody took yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub address: usize,
    pub stream: TcpStream,
    pub at: Instant,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub referee: Referee,
    pub program: Program,
    pub session: Session,
    pub wire: Option<Wire>,
    pub arrived: VecDeque<Arrived>,
    /// There has been a connection.
    pub connected: bool,
    /// Nothing is read of these and nothing written.
    pub frozen: Vec<Wire>,
    pub exited: Option<ExitStatus>,
    /// The code with which the program told that it is over.
    pub closed: Option<Value>,
    pub token: String,
    pub patience: Duration,
    transcript: VecDeque<String>,
    listeners: Listeners,
    token_file: PathBuf,
    tokens: u32,
    started: Instant,
    _folder: TempDir,
}

impl Stage {
    /// Starts the program.
    ///
    /// # Errors
    /// When this machine has no address or no process for it.
    pub(super) async fn open(command: &[String], addresses: usize, patience: Duration) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(addresses).await.context("no address to listen on")?;
        let folder = tempfile::tempdir().context("no folder for the token")?;
        let token_file = folder.path().join("token");
        let token = token(1);
        std::fs::write(&token_file, &token).context("the token cannot be written")?;
        let program = Program::start(command, &listeners.urls(), &token_file, DEVICE)?;
        let referee = Referee::new(DEVICE);
        Ok(Self {
            referee,
            program,
            session: Session::default(),
            wire: None,
            arrived: VecDeque::new(),
            connected: false,
            frozen: Vec::new(),
            exited: None,
            closed: None,
            token,
            patience,
            transcript: VecDeque::new(),
            listeners,
            token_file,
            tokens: 1,
            started: Instant::now(),
            _folder: folder,
        })
    }

    /// What passed, for people.
    pub(super) fn transcript(&self) -> Vec<String> {
        self.transcript.iter().cloned().collect()
    }

    pub(super) fn note(&mut self, words: impl AsRef<str>) {
        if self.transcript.len() >= TRANSCRIPT {
            self.transcript.pop_front();
        }
        let shown: String = words.as_ref().chars().take(SHOWN).collect();
        self.transcript.push_back(format!("{:6} ms  {shown}", self.started.elapsed().as_millis()));
    }

    /// Another token is in the file from now on.
    pub(super) fn renew_token(&mut self) {
        self.tokens += 1;
        self.token = token(self.tokens);
        // The folder is our own; a token that could not be written is missed in the next hello.
        let _ = std::fs::write(&self.token_file, &self.token);
    }

    // ---- What happens

    /// Takes the next thing that happens; false when nothing has until then.
    pub(super) async fn happens(&mut self, until: Instant) -> Verdict<bool> {
        let Self { wire, program, listeners, exited, .. } = self;
        let heard = async {
            match wire {
                Some(wire) => wire.heard().await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            match exited {
                None => program.told().await,
                Some(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = told => self.on_told(told)?,
            heard = heard => self.on_heard(heard).await?,
            (address, stream) = listeners.next() => {
                self.note("-- it connects");
                self.arrived.push_back(Arrived { address, stream, at: Instant::now() });
            }
            () = sleep_until(until) => return Ok(false),
        }
        Ok(true)
    }

    fn on_told(&mut self, told: Told) -> Verdict {
        match told {
            Told::Line(line) => {
                self.note(format!("program: {line}"));
                self.referee.on_told(&line)?;
                let told: Value = serde_json::from_str(&line).unwrap_or_default();
                if told["event"] == "closed" {
                    self.closed = Some(told["code"].clone());
                }
            }
            Told::Ended(status) => {
                self.note(format!("-- the program ended, {status}"));
                self.exited = Some(status);
            }
        }
        Ok(())
    }

    async fn on_heard(&mut self, heard: Heard) -> Verdict {
        match heard {
            Heard::Frame(payload) => self.on_payload(&payload).await?,
            Heard::Ping => self.note("client: a ping"),
            Heard::Pong => {
                self.note("client: a pong");
                self.session.pongs += 1;
            }
            Heard::Closed(code) => {
                self.note(format!("-- the client ended the connection, {code:?}"));
                self.session.left = Some(code);
                self.referee.reconnects.was_left();
                if let Some(wire) = self.wire.take() {
                    wire.close(None).await;
                }
            }
        }
        Ok(())
    }

    async fn on_payload(&mut self, payload: &[u8]) -> Verdict {
        let now = Instant::now();
        let Some(encoding) = self.wire.as_ref().map(Wire::encoding) else { return Ok(()) };
        let frame: Value = encoding.decode(payload).unwrap_or_default();
        self.note(format!("client: {frame}"));
        if let Err(FrameError { refused, .. }) = Request::decode(encoding, payload) {
            return Err(Fault::new(FRAMES, format!("it sent a frame that a node refuses ({refused}): {frame:.200}")));
        }
        if self.session.hello.is_none() {
            let bearer = self.wire.as_ref().and_then(|wire| wire.bearer.as_deref());
            self.referee.on_hello(&frame, bearer, &self.token)?;
            self.session.hello = Some(frame);
            return Ok(());
        }
        let op = frame["op"].as_str().unwrap_or_default();
        if !self.session.welcomed || op == "hello" {
            let when = if self.session.welcomed { "again" } else { "before welcome" };
            return Err(Fault::new(2, format!("it sent {op} {when}")));
        }
        match op {
            "send" => self.on_send(&frame, now).await?,
            "ack" => {
                self.referee.on_ack(&frame, now)?;
                self.session.acks = Some(frame["ref"].clone());
            }
            "token" if frame["token"] != self.token.as_str() => {
                return Err(Fault::new(19, "it sent a token that is not the fresh one in the file"));
            }
            "token" => self.session.tokens.push_back(frame["ref"].clone()),
            "ping" => self.say(json!({"op": "pong", "ref": frame["ref"]})).await,
            // Nothing is in the history: what a client does with it is not looked at here.
            "history" => {
                let page =
                    json!({"op": "history", "ref": frame["ref"], "conv": frame["conv"], "messages": [], "more": false});
                self.say(page).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn on_send(&mut self, frame: &Value, now: Instant) -> Verdict {
        let (id, repeated) = self.referee.on_send(frame, now)?;
        self.session.refs.insert(id.clone(), frame["ref"].clone());
        match self.session.limited.clone() {
            // The first one is back: the node takes what follows.
            Some((first, _)) if first == id => self.session.limited = None,
            Some((first, until)) => return self.overtakes(&id, &first, until, now).await,
            None => {}
        }
        if !repeated {
            self.session.sends.push_back(id);
        }
        Ok(())
    }

    /// A send that comes while an earlier one is to come again: a node refuses it as well.
    async fn overtakes(&mut self, id: &str, first: &str, until: Instant, now: Instant) -> Verdict {
        let refused_before = self.referee.of(id).is_some_and(|written| written.refusals > 0);
        let same = self.referee.of(first).map(|first| first.to.clone()) == self.referee.of(id).map(|id| id.to.clone());
        // Before that time it may have been on its way already.
        if refused_before && same && now >= until {
            return Err(Fault::new(11, format!("{id:?} came again before {first:?}, which was refused first")));
        }
        let after = until.saturating_duration_since(now).max(Duration::from_millis(50));
        self.refuse(id, "rate_limited", true, Some(after)).await;
        Ok(())
    }

    // ---- What the node says

    pub(super) async fn say(&mut self, frame: Value) {
        self.say_in(frame, Way::Whole).await;
    }

    pub(super) async fn say_in(&mut self, mut frame: Value, way: Way) {
        // An answer to what had no `ref` has none.
        if let Some(fields) = frame.as_object_mut().filter(|fields| fields.get("ref").is_some_and(Value::is_null)) {
            fields.remove("ref");
        }
        self.note(format!("node:   {frame}"));
        if let Some(wire) = &mut self.wire {
            wire.say(&frame, way).await;
        }
    }

    /// Refuses something that the client sent.
    pub(super) async fn refuse(&mut self, id: &str, code: &str, retry: bool, after: Option<Duration>) {
        self.referee.is_refused(id, code, retry, after, Instant::now());
        let reference = self.session.refs.get(id).cloned().unwrap_or_default();
        self.say_error(reference, code, retry, after).await;
    }

    pub(super) async fn say_error(&mut self, reference: Value, code: &str, retry: bool, after: Option<Duration>) {
        let mut frame =
            json!({"op": "error", "ref": reference, "code": code, "message": "by the scenario", "retry": retry});
        if let Some(after) = after {
            frame["retry_after_ms"] = json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        }
        self.say(frame).await;
    }

    /// Waits until something was found.
    pub(super) async fn until<T>(
        &mut self,
        rule: usize,
        patience: Duration,
        what: &str,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> Verdict<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            // What it wrote before its end may still be on the way; its connection ends with it.
            let ended = self.exited.filter(|_| self.arrived.is_empty() && self.wire.is_none());
            if let Some(status) = ended {
                return Err(Fault::new(rule, format!("the program ended ({status}) before {what}")));
            }
            if !self.happens(deadline).await? {
                return Err(Fault::new(rule, format!("{what}: it did not come within {} ms", patience.as_millis())));
            }
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&mut self, time: Duration) -> Verdict {
        let until = Instant::now() + time;
        while self.happens(until).await? {}
        Ok(())
    }
}

/// A token as a node would take it if somebody had signed it.
fn token(number: u32) -> String {
    use data_encoding::BASE64URL_NOPAD as base64;
    let exp = now_millis() / 1000 + 3600;
    let claims = json!({"sub": "alice", "exp": exp, "jti": number.to_string()}).to_string();
    format!(
        "{}.{}.{}",
        base64.encode(br#"{"alg":"none"}"#),
        base64.encode(claims.as_bytes()),
        base64.encode(b"conform")
    )
}
