//! What a client must keep in every scenario, whatever the scenario is about. It hears everything that passes and says which
//! rule was broken. No I/O. Called by the stage.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::{
    places::Places,
    reconnects::Reconnects,
    rules::{FRAMES, Fault},
};
use crate::{model::ConvId, protocol::ErrorCode};

/// Whoever repeats a send sooner than that, without a reason, has not waited for the answer.
const IMPATIENCE: Duration = Duration::from_secs(2);
/// What the client wrote and what its program told may pass each other.
const CROSSING: Duration = Duration::from_millis(250);
/// Timers and clocks are not that exact.
const GRACE: Duration = Duration::from_millis(10);

pub(super) type Verdict<T = ()> = Result<T, Fault>;

/// What became of something that the program was asked to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Open,
    Sent,
    Refused(String),
}

/// Something that the program was asked to send.
#[derive(Debug)]
pub(super) struct Written {
    pub id: String,
    pub to: String,
    pub body: Value,
    pub cid: Option<String>,
    /// Where it stands, once it is stored.
    pub seq: Option<u64>,
    pub outcome: Outcome,
    /// When the program told its end.
    pub told: Option<Instant>,
    /// Not before, and by which rule.
    not_before: Option<(Instant, usize)>,
    /// When it last came on this connection, and has no answer since.
    came: Option<Instant>,
    /// On this connection.
    pub refusals: u32,
    first_refused: Option<Instant>,
}

/// Everything that the client has done so far.
#[derive(Debug, Default)]
pub(super) struct Referee {
    pub places: Places,
    pub reconnects: Reconnects,
    pub written: Vec<Written>,
    /// The name of the device that the client was given.
    device: String,
    attempt: u64,
    since: Option<String>,
    /// When something was last refused until later: what follows it may come again as well.
    held: Option<Instant>,
    /// Whose cid it is.
    cids: HashMap<String, String>,
}

/// The conversation of a recipient, for alice.
pub(super) fn conv_of(to: &str) -> String {
    match to.strip_prefix('#') {
        Some(room) => format!("room:{room}"),
        None => {
            let mut both = ["alice", to.trim_start_matches('@')];
            both.sort_unstable();
            format!("dm:{}:{}", both[0], both[1])
        }
    }
}

impl Referee {
    pub(super) fn new(device: &str) -> Self {
        Self { device: device.to_owned(), ..Self::default() }
    }

    pub(super) fn of(&mut self, id: &str) -> Option<&mut Written> {
        self.written.iter_mut().find(|written| written.id == id)
    }

    /// The program is asked to send.
    pub(super) fn writes(&mut self, id: &str, to: &str, body: Value) {
        let (id, to, outcome) = (id.to_owned(), to.to_owned(), Outcome::Open);
        self.written.push(Written {
            id,
            to,
            body,
            cid: None,
            seq: None,
            outcome,
            told: None,
            not_before: None,
            came: None,
            refusals: 0,
            first_refused: None,
        });
    }

    /// All cids, to be compared with those of other runs.
    pub(super) fn all_cids(&self) -> impl Iterator<Item = &str> {
        self.cids.keys().map(String::as_str)
    }

    // ---- What comes over the wire

    pub(super) fn on_hello(&mut self, hello: &Value, bearer: Option<&str>, token: &str) -> Verdict {
        self.places.forget_acks();
        for written in &mut self.written {
            (written.came, written.refusals, written.not_before) = (None, 0, None);
        }
        if hello["op"] != "hello" {
            return Err(Fault::new(2, format!("the first frame was {}, not hello", hello["op"])));
        }
        if hello["device"] != self.device.as_str() {
            let words = format!("the device is {} in hello, it was given the name {:?}", hello["device"], self.device);
            return Err(Fault::new(1, words));
        }
        if hello["token"].as_str().or(bearer) != Some(token) {
            return Err(Fault::new(19, "the token in hello is not the one that is in the file now"));
        }
        if let Some(attempt) = hello["attempt"].as_u64() {
            if attempt <= self.attempt {
                return Err(Fault::new(1, format!("attempt is {attempt} after {}: it must grow", self.attempt)));
            }
            self.attempt = attempt;
        }
        let since = hello["since"].as_str();
        if since != self.since.as_deref() {
            let words = format!("hello said the since {since:?}, the last that was given is {:?}", self.since);
            return Err(Fault::new(15, words));
        }
        Ok(())
    }

    pub(super) fn caught_up(&mut self, since: Option<String>) {
        self.reconnects.caught_up();
        self.since = since.or(self.since.take());
    }

    /// A `send` came: gives what it is, and whether it came before and waits for its answer.
    pub(super) fn on_send(&mut self, frame: &Value, now: Instant) -> Verdict<(String, bool)> {
        let (to, cid) = (frame["to"].as_str().unwrap_or_default(), frame["cid"].as_str().unwrap_or_default());
        let known = self.cids.get(cid).cloned();
        let found = self.written.iter_mut().find(|written| written.to == to && written.body == frame["body"]);
        let Some(written) = found else {
            let of = known.map_or_else(String::new, |id| format!(", with the cid of {id:?}"));
            let words = format!("it sent {} to {to}{of}, which it was not asked for", frame["body"]);
            return Err(Fault::new(if of.is_empty() { FRAMES } else { 8 }, words));
        };
        let id = written.id.clone();
        match (&written.cid, known) {
            (None, Some(other)) => {
                return Err(Fault::new(7, format!("{id:?} has the cid of {other:?}: {cid}")));
            }
            (Some(before), _) if before != cid => {
                return Err(Fault::new(8, format!("{id:?} was sent again with the cid {cid}, its cid was {before}")));
            }
            _ => {}
        }
        written.cid = Some(cid.to_owned());
        self.cids.insert(cid.to_owned(), id.clone());
        if let Outcome::Refused(code) = &written.outcome {
            return Err(Fault::new(13, format!("{id:?} was sent again after the error {code}, which is final")));
        }
        if written.outcome == Outcome::Sent && written.told.is_some_and(|told| now.duration_since(told) > CROSSING) {
            return Err(Fault::new(9, format!("{id:?} was sent again though it is sent")));
        }
        if let Some((until, rule)) = written.not_before.take()
            && now + GRACE < until
        {
            let early = until.duration_since(now).as_millis();
            return Err(Fault::new(rule, format!("{id:?} was sent again {early} ms too early")));
        }
        let Some(came) = written.came.replace(now) else { return Ok((id, false)) };
        if now.duration_since(came) < IMPATIENCE && self.held.is_none_or(|held| held < came) {
            return Err(Fault::new(
                8,
                format!("{id:?} was sent twice on one connection, without an answer in between"),
            ));
        }
        Ok((id, true))
    }

    /// What the client sent is stored, and told so in an answer or as a message.
    pub(super) fn is_sent(&mut self, id: &str) -> u64 {
        let conv = self.of(id).map(|written| conv_of(&written.to)).unwrap_or_default();
        let next = self.places.top(&conv) + 1;
        let Some(written) = self.of(id) else { return 0 };
        let seq = *written.seq.get_or_insert(next);
        (written.outcome, written.came) = (Outcome::Sent, None);
        self.places.exists(&conv, seq);
        seq
    }

    /// What the client sent is refused: for good, or until later.
    pub(super) fn is_refused(&mut self, id: &str, code: &str, retry: bool, after: Option<Duration>, now: Instant) {
        self.held = if retry { Some(now) } else { self.held };
        let Some(written) = self.of(id) else { return };
        written.came = None;
        written.first_refused.get_or_insert(now);
        written.refusals += 1;
        if !retry {
            written.outcome = Outcome::Refused(code.to_owned());
        }
        let rule = if code == "unavailable" { 12 } else { 11 };
        written.not_before = after.map(|after| (now + after, rule));
    }

    /// How long it took from its first refusal until now.
    pub(super) fn refused_for(&self, id: &str) -> Option<Duration> {
        self.written.iter().find(|written| written.id == id)?.first_refused.map(|first| first.elapsed())
    }

    /// An `ack` came.
    pub(super) fn on_ack(&mut self, frame: &Value, now: Instant) -> Verdict {
        self.places.on_ack(frame["conv"].as_str().unwrap_or_default(), frame["seq"].as_u64().unwrap_or_default(), now)
    }

    // ---- What the program tells

    pub(super) fn on_told(&mut self, line: &str) -> Verdict {
        let Ok(told) = serde_json::from_str::<Value>(line) else {
            return Err(Fault::new(FRAMES, format!("the program wrote a line that is no JSON object: {line:.200}")));
        };
        match told["event"].as_str() {
            Some("message") => self.places.on_told(&told),
            Some("sent") => self.on_told_sent(&told),
            Some("refused") => self.on_told_refused(&told),
            _ => Ok(()),
        }
    }

    fn told_of(&mut self, told: &Value, rule: usize) -> Verdict<&mut Written> {
        let id = told["id"].as_str().unwrap_or_default().to_owned();
        let Some(written) = self.of(&id) else {
            return Err(Fault::new(FRAMES, format!("the program told of {id:?}, which it was not asked for")));
        };
        if written.told.replace(Instant::now()).is_some() {
            return Err(Fault::new(rule, format!("the program told the end of {id:?} twice")));
        }
        Ok(written)
    }

    fn on_told_sent(&mut self, told: &Value) -> Verdict {
        let written = self.told_of(told, 9)?;
        match (&written.outcome, written.seq) {
            (Outcome::Sent, Some(seq)) if told["seq"] == seq => Ok(()),
            (Outcome::Sent, seq) => {
                let seq = seq.unwrap_or_default();
                Err(Fault::new(9, format!("it told that {:?} stands at {}, it is at {seq}", written.id, told["seq"])))
            }
            (outcome, _) => {
                Err(Fault::new(9, format!("it told that {:?} is sent, which nobody said ({outcome:?})", written.id)))
            }
        }
    }

    fn on_told_refused(&mut self, told: &Value) -> Verdict {
        let written = self.told_of(told, 13)?;
        match &written.outcome {
            // The name of a code that a client does not know may be lost on the way.
            Outcome::Refused(code) if told["code"] == code.as_str() || !is_known(code) => Ok(()),
            Outcome::Refused(code) => {
                let words = format!("it told that {:?} was refused with {}, it was {code}", written.id, told["code"]);
                Err(Fault::new(13, words))
            }
            _ => Err(Fault::new(
                8,
                format!("it gave {:?} up ({}), which was not refused for good", written.id, told["code"]),
            )),
        }
    }
}

fn is_known(code: &str) -> bool {
    ErrorCode::ALL.iter().any(|known| known.word() == code)
}

/// Whether a conversation's name may be one.
pub(super) fn is_conv(text: &str) -> bool {
    ConvId::new(text).is_ok()
}
