//! Makes the steps of a scenario, one after the other, until one shows a fault. Called by `run`.

use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};

use super::{
    referee::{Verdict, conv_of},
    rules::Fault,
    script::{Handed, Line, SentBy, Step, Way},
    stage::{Arrived, Session, Stage},
    wire::Wire,
};
use crate::model::{Kind, now_millis};

/// How long the end of an earlier connection may take to be seen.
const MOMENT: Duration = Duration::from_secs(3);
/// How long a client that cannot see pings waits for the answer to its own.
const PING: Duration = Duration::from_secs(12);
/// A program may take so long to start, on a machine that starts many.
const START: Duration = Duration::from_secs(15);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

impl Stage {
    /// Makes one step.
    pub(super) async fn perform(&mut self, line: &Line) -> Verdict {
        self.note(format!("== {}", line.text));
        let rule = line.rule;
        match &line.step {
            Step::Accept { address } => self.accept(rule, *address).await,
            Step::Login { address, since } => {
                self.accept(rule, *address).await?;
                self.welcome(25, HOUR, &Map::new()).await;
                self.caught_up(since.clone()).await;
                Ok(())
            }
            Step::HangUp => self.turned_away(rule, None).await,
            Step::Refuse(status) => self.turned_away(rule, Some(*status)).await,
            Step::Welcome { ping_secs, exp, more } => {
                self.welcome(*ping_secs, *exp, more).await;
                Ok(())
            }
            Step::CaughtUp { since } => {
                self.caught_up(since.clone()).await;
                Ok(())
            }
            Step::Goodbye(back) => {
                self.referee.reconnects.goodbye(*back);
                let reconnect_ms = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
                self.say(json!({"op": "goodbye", "reason": "drain", "reconnect_ms": reconnect_ms})).await;
                Ok(())
            }
            Step::Close(_) | Step::Cut | Step::Reset | Step::Freeze => self.end_connection(&line.step).await,
            Step::Message(handed) => self.hand(handed).await,
            Step::Sent { ids, by } => self.sent(rule, ids, *by).await,
            Step::Error { of, code, retry, after } => {
                self.error(rule, of, code, *retry, after.map(Duration::from_millis)).await
            }
            Step::Truncated { conv, from } => {
                self.referee.places.truncate(conv);
                self.say(json!({"op": "truncated", "conv": conv, "from": from})).await;
                Ok(())
            }
            Step::TokenOk { exp } => {
                let reference = self.session.refs.remove("token").unwrap_or_default();
                self.say(json!({"op": "token_ok", "ref": reference, "exp": at(*exp)})).await;
                Ok(())
            }
            Step::Say(_) | Step::Binary(_) | Step::Bytes(_) | Step::Ping => self.say_oddly(&line.step).await,
            Step::Write { ids, to, more } => self.write(ids, to, more).await,
            Step::FreshToken => {
                self.renew_token();
                Ok(())
            }
            Step::End => {
                self.program.end();
                Ok(())
            }
            expected => self.expect(rule, expected).await,
        }
    }

    // ---- Connections

    async fn arrival(&mut self, rule: usize) -> Verdict<Arrived> {
        let frozen = if self.frozen.is_empty() {
            Duration::ZERO
        } else {
            PING + Duration::from_secs(2 * self.session.ping_secs)
        };
        let begin = if self.connected { self.patience } else { self.patience.max(START) };
        let patience = self.referee.reconnects.longest() + begin + frozen;
        let arrived = self.until(rule, patience, "a connection", |stage| stage.arrived.pop_front()).await?;
        self.connected = true;
        self.referee.reconnects.on_connected(arrived.at)?;
        Ok(arrived)
    }

    pub(super) async fn accept(&mut self, rule: usize, address: Option<usize>) -> Verdict {
        let arrived = self.arrival(rule).await?;
        if self.wire.is_some() {
            // Perhaps its end is on the way.
            let deadline = Instant::now() + MOMENT;
            while self.wire.is_some() && self.happens(deadline).await? {}
            if self.wire.is_some() {
                return Err(Fault::new(1, "it opened a second connection beside the first"));
            }
        }
        if address.is_some_and(|address| address != arrived.address + 1) {
            return Err(Fault::new(
                rule,
                format!("it came to address {} again, not to the next one", arrived.address + 1),
            ));
        }
        self.session = Session { ping_secs: self.session.ping_secs, ..Session::default() };
        self.wire = Some(Wire::accept(arrived.stream).await?);
        let greets = |stage: &mut Self| (stage.session.hello.is_some() || stage.wire.is_none()).then_some(());
        self.until(2, self.patience, "hello", greets).await?;
        if self.session.hello.is_some() { Ok(()) } else { Err(Fault::new(2, "it went away without a hello")) }
    }

    async fn turned_away(&mut self, rule: usize, status: Option<u16>) -> Verdict {
        let arrived = self.arrival(rule).await?;
        self.referee.reconnects.ends(Instant::now());
        match status {
            Some(status) => Wire::refuse(arrived.stream, status).await,
            None => Wire::hang_up(arrived.stream).await,
        }
        Ok(())
    }

    pub(super) async fn welcome(&mut self, ping_secs: u64, exp: Duration, more: &Map<String, Value>) {
        let hello = self.session.hello.clone().unwrap_or_default();
        let mut frame = json!({
            "op": "welcome", "ref": hello["ref"], "user": "alice", "device": hello["device"], "session": "00112233445566778899",
            "node": "conform", "ts": now_millis(), "exp": at(exp), "ping_secs": ping_secs,
            "limits": {"body": 65_536, "window": 256},
        });
        if more.get("new") == Some(&Value::Bool(true)) {
            self.referee.places.begin_anew();
        }
        merge(&mut frame, more);
        (self.session.welcomed, self.session.ping_secs) = (true, ping_secs);
        self.referee.reconnects.greeted();
        self.say(frame).await;
    }

    pub(super) async fn caught_up(&mut self, since: Option<String>) {
        self.referee.caught_up(since.clone());
        let frame =
            since.map_or_else(|| json!({"op": "caught_up"}), |since| json!({"op": "caught_up", "since": since}));
        self.say(frame).await;
    }

    async fn end_connection(&mut self, how: &Step) -> Verdict {
        let Some(wire) = self.wire.take() else { return Err(Fault::new(14, "it left the connection before its time")) };
        self.referee.reconnects.ends(Instant::now());
        match how {
            Step::Close(code) => wire.close(*code).await,
            Step::Cut => wire.cut().await,
            Step::Reset => wire.reset(),
            _ => {
                self.referee.reconnects.was_left();
                self.frozen.push(wire);
            }
        }
        Ok(())
    }

    // ---- Frames

    async fn hand(&mut self, handed: &Handed) -> Verdict {
        for seq in handed.seqs.clone() {
            let frame = self.message(handed, seq);
            self.referee.places.hand(&handed.conv, seq, frame["body"].clone());
            if serde_json::from_value::<Kind>(frame["kind"].clone()).is_err() && !frame["kind"].is_null() {
                self.referee.places.may_be_passed_over(&handed.conv, seq);
            }
            self.say_in(frame, handed.way).await;
            if !handed.every.is_zero() {
                self.pass(handed.every).await?;
            }
        }
        Ok(())
    }

    fn message(&mut self, handed: &Handed, seq: u64) -> Value {
        let mut frame = json!({
            "op": "message", "conv": handed.conv, "seq": seq, "from": handed.from, "ts": now_millis(),
            "cid": format!("{}-{seq}", handed.from), "body": format!("{} {seq}", handed.conv),
        });
        if let Some(written) = handed.of.as_ref().and_then(|id| self.referee.of(id)) {
            frame["from"] = json!("alice");
            (frame["cid"], frame["body"]) = (json!(written.cid), written.body.clone());
            written.seq = Some(seq);
            written.outcome = super::referee::Outcome::Sent;
        }
        merge(&mut frame, &handed.more);
        if let (true, Some(fields)) = (handed.more.contains_key("no_body"), frame.as_object_mut()) {
            fields.retain(|name, _| name != "body" && name != "no_body");
        }
        frame
    }

    async fn sent(&mut self, rule: usize, ids: &[String], by: SentBy) -> Verdict {
        for id in ids {
            if by != SentBy::Message && !self.session.refs.contains_key(id) {
                self.sends(rule, std::slice::from_ref(id)).await?;
            }
            let seq = self.referee.is_sent(id);
            let Some(written) = self.referee.of(id) else { continue };
            let (conv, cid, body) = (conv_of(&written.to), json!(written.cid), written.body.clone());
            let (reference, ts) = (self.session.refs.get(id).cloned().unwrap_or_default(), now_millis());
            if by != SentBy::Message {
                self.say(json!({"op": "sent", "ref": reference, "conv": conv, "seq": seq, "ts": ts})).await;
            }
            if by != SentBy::Answer {
                self.referee.places.hand(&conv, seq, body.clone());
                let message = json!({"op": "message", "conv": conv, "seq": seq, "from": "alice", "ts": ts, "cid": cid, "body": body});
                self.say(message).await;
            }
        }
        Ok(())
    }

    async fn error(&mut self, rule: usize, of: &str, code: &str, retry: bool, after: Option<Duration>) -> Verdict {
        match of {
            "ack" => {
                let reference = self.session.acks.clone().unwrap_or_default();
                self.referee.places.forget_acks();
                self.say_error(reference, code, retry, after).await;
            }
            "token" => {
                let reference = self.session.refs.remove("token").unwrap_or_default();
                self.say_error(reference, code, retry, after).await;
            }
            "nothing" => self.say_error(Value::Null, code, retry, after).await,
            id => {
                if !self.session.refs.contains_key(id) {
                    self.sends(rule, &[id.to_owned()]).await?;
                }
                self.refuse(id, code, retry, after).await;
                if let (true, Some(after)) = (code == "rate_limited", after) {
                    self.limit(id, after).await;
                }
                // It is waited for anew.
                self.session.refs.remove(id);
            }
        }
        Ok(())
    }

    /// From here on the node refuses every other send, until this one comes again: also what came already.
    async fn limit(&mut self, id: &str, after: Duration) {
        if self.session.limited.is_some() {
            return;
        }
        self.session.limited = Some((id.to_owned(), Instant::now() + after));
        for other in std::mem::take(&mut self.session.sends) {
            self.refuse(&other, "rate_limited", true, Some(after)).await;
        }
    }

    async fn say_oddly(&mut self, step: &Step) -> Verdict {
        self.note("node:   something odd");
        let Some(wire) = &mut self.wire else { return Ok(()) };
        match step {
            // What is JSON goes in the connection's encoding.
            Step::Say(text) => match serde_json::from_str::<Value>(text) {
                Ok(frame) => wire.say(&frame, Way::Whole).await,
                Err(_) => wire.text(text).await,
            },
            Step::Binary(bytes) => wire.binary(bytes).await,
            Step::Bytes(bytes) => wire.bytes(bytes).await,
            _ => wire.ping().await,
        }
        Ok(())
    }

    // ---- The program

    async fn write(&mut self, ids: &[String], to: &str, more: &Map<String, Value>) -> Verdict {
        for id in ids {
            let body = more.get("body").cloned().unwrap_or_else(|| json!(id));
            self.referee.writes(id, to, body.clone());
            let deed = json!({"do": "send", "id": id, "to": to, "body": body});
            self.note(format!("asked:   {deed}"));
            self.program.ask(&deed).await;
        }
        Ok(())
    }
}

/// The time on the node's clock.
fn at(after: Duration) -> u64 {
    now_millis() + u64::try_from(after.as_millis()).unwrap_or(0)
}

fn merge(frame: &mut Value, more: &Map<String, Value>) {
    if let Some(fields) = frame.as_object_mut() {
        fields.extend(more.clone());
    }
}
