//! The verdict: where a message's way to a user ended, and what it waits for. Pure.

use serde::Serialize;

use super::{DeviceFacts, Here, SessionFacts, Standing, Stored};
use crate::{
    model::{Seq, now_millis},
    operators::wire::{State, WhyAsk},
};

/// Where the way ended. The worst of a user's devices counts, if they differ it is [`Verdict::Partly`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All devices have it.
    Acknowledged,
    /// Handed to the device, which has not acknowledged it.
    HandedOut,
    /// Written for the device, which does not read its socket.
    NotReading,
    /// As much is handed out as may be without an acknowledgement.
    WindowFull,
    /// The session has not heard of it: the notice was lost.
    Unheard,
    /// The session has not heard of it, and its node has no connection to NATS.
    CutOff,
    /// The session has heard of it and reads the log.
    Reading,
    /// A session did not say how it stands.
    Silent,
    /// No session of the device.
    Offline,
    /// Some devices have it and some do not.
    Partly,
    /// The user has no device.
    NoDevice,
    /// The device began behind it: it is in the history only.
    LeftToHistory,
    /// There is no such message.
    NeverAppended,
    /// There is none, and sends are refused: one of the two blocks the other.
    Blocked,
    /// Its row is gone, though the log goes further.
    Lost,
    /// It is in the log, and the user's head is below it.
    BelowHead,
    /// It was deleted before the user's devices had it.
    Deleted,
    /// It expired before the user's devices had it.
    Expired,
    /// The user was no member of the room then.
    NotMember,
    /// The conversation is between others, or there is no such room.
    NotTheirs,
    /// A service has no devices.
    Service,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// In one word.
    pub verdict: Verdict,
    /// In words, with what to do.
    pub text: String,
    /// Each hop of the way, in order.
    pub hops: Vec<String>,
    /// Each device.
    pub devices: Vec<Device>,
}

/// How far it came with a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Which.
    pub device: String,
    /// On which node it has a session, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// In one word.
    pub verdict: Verdict,
    /// In words.
    pub text: String,
}

impl Device {
    fn of(facts: &DeviceFacts, node: Option<&str>, verdict: Verdict, text: String) -> Self {
        Self { device: facts.device.to_string(), node: node.map(str::to_owned), verdict, text }
    }

    fn has_it(&self) -> bool {
        matches!(self.verdict, Verdict::Acknowledged | Verdict::LeftToHistory)
    }
}

/// Judges what the nodes said. `silent`: nodes that are known and did not answer.
pub fn judge(asked: &WhyAsk, stored: &Stored, nodes: &[(String, Here)], silent: &[String]) -> Report {
    let devices: Vec<_> = stored.devices.iter().map(|facts| device(asked.seq, stored, facts, nodes)).collect();
    let (verdict, text) = end_of_log(asked, stored)
        .or_else(|| gone(stored, &devices))
        .unwrap_or_else(|| with_devices(asked, stored, &devices, silent));
    Report { verdict, text, hops: hops(asked, stored, nodes, silent), devices }
}

/// What keeps the message from everybody, or from this user whatever the devices do.
fn end_of_log(asked: &WhyAsk, stored: &Stored) -> Option<(Verdict, String)> {
    let WhyAsk { conv, seq, user } = asked;
    let (top, head) = (stored.top, stored.head.unwrap_or(0));
    Some(match (&stored.standing, &stored.row) {
        (Standing::Foreign, _) => (Verdict::NotTheirs, format!("{user} is none of the two of {conv}")),
        (Standing::NoRoom, _) => (Verdict::NotTheirs, format!("there is no {conv}")),
        (_, None) if *seq > top => match &stored.blocked {
            Some((other, true)) => (
                Verdict::Blocked,
                format!(
                    "never appended: {conv} ends at {top}, and of {user} and {other} one blocks the other, so sends are refused"
                ),
            ),
            _ => (
                Verdict::NeverAppended,
                format!(
                    "never appended: {conv} ends at {top}. Nobody was told that it was sent; the sender tries again with the same cid"
                ),
            ),
        },
        (_, None) => (
            Verdict::Lost,
            format!(
                "the row of {conv} {seq} is gone, though the log goes on to {top}: the store lost it (natter verify, natter repair)"
            ),
        ),
        (Standing::NotThen { since, until }, Some(_)) => (Verdict::NotMember, not_member(asked, *since, *until)),
        (Standing::In, Some(_)) if stored.is_service => (
            Verdict::Service,
            format!("{user} is a service: it has no devices, and is told by the answer to its request"),
        ),
        (Standing::In, Some(_)) if head < *seq => (
            Verdict::BelowHead,
            format!(
                "the head of {user} is at {head}: the append has not come to its end, or the head was lost (natter repair heads)"
            ),
        ),
        (Standing::In, Some(_)) => return None,
    })
}

fn not_member(asked: &WhyAsk, since: Option<Seq>, until: Option<Seq>) -> String {
    let WhyAsk { conv, seq, user } = asked;
    match (since, until) {
        (Some(since), _) => {
            format!("{user} was no member of {conv} when {seq} was written, but is one now, since {since}")
        }
        (None, Some(until)) => format!("{user} left {conv} at {until}, before {seq} was written"),
        (None, None) => format!("{user} was never a member of {conv}"),
    }
}

/// Deleted or expired, as far as there is still a device that does not have it.
fn gone(stored: &Stored, devices: &[Device]) -> Option<(Verdict, String)> {
    let row = stored.row.as_ref()?;
    if !devices.is_empty() && devices.iter().all(Device::has_it) {
        return None;
    }
    if let Some(by) = &row.deleted_by {
        let text = format!(
            "deleted by {by} before all devices had it: they get it, and that it was deleted, in order; histories show no body"
        );
        return Some((Verdict::Deleted, text));
    }
    let ago = |at: u64| now_millis().saturating_sub(at) / 1_000;
    let expired = row.expires.filter(|_| row.is_expired)?;
    Some((
        Verdict::Expired,
        format!("expired {} s ago, before all devices had it: they get it without its body", ago(expired)),
    ))
}

fn with_devices(asked: &WhyAsk, stored: &Stored, devices: &[Device], silent: &[String]) -> (Verdict, String) {
    let user = &asked.user;
    let (have, lack): (Vec<_>, Vec<_>) = devices.iter().partition(|device| device.has_it());
    let Some(first) = lack.first() else {
        return match have.first() {
            None => no_device(asked, stored),
            Some(one) if have.iter().all(|device| device.verdict == Verdict::LeftToHistory) => {
                (Verdict::LeftToHistory, one.text.clone())
            }
            Some(_) => (Verdict::Acknowledged, format!("delivered: {} of {user} acknowledged it", listed(&have))),
        };
    };
    let mut text = format!("{}: {}", first.device, first.text);
    if let Some(other) = lack.iter().skip(1).find(|device| device.verdict != first.verdict) {
        text += &format!("; {}: {}", other.device, other.text);
    }
    if lack.iter().all(|device| device.node.is_none()) && !silent.is_empty() {
        text += &format!(" (as far as is known: {} did not answer)", silent.join(", "));
    }
    if have.is_empty() {
        return (first.verdict, text);
    }
    (Verdict::Partly, format!("{} acknowledged it and {} did not. {text}", listed(&have), listed(&lack)))
}

fn no_device(asked: &WhyAsk, stored: &Stored) -> (Verdict, String) {
    let WhyAsk { seq, user, .. } = asked;
    let gets = if stored.read >= *seq {
        format!("the first one finds it in the history, for the read mark is at {}", stored.read)
    } else {
        "the first one gets it when it logs in".to_owned()
    };
    (Verdict::NoDevice, format!("{user} has no device: {gets}"))
}

fn listed(devices: &[&Device]) -> String {
    devices.iter().map(|device| device.device.as_str()).collect::<Vec<_>>().join(", ")
}

fn device(seq: Seq, stored: &Stored, facts: &DeviceFacts, nodes: &[(String, Here)]) -> Device {
    let mut sessions = nodes.iter().flat_map(|(node, here)| {
        here.sessions.iter().filter(|session| session.device == facts.device).map(move |session| (node, here, session))
    });
    let Some((node, here, session)) = sessions.next() else {
        return without_session(seq, stored, facts);
    };
    let of = |verdict, text| Device::of(facts, Some(node), verdict, format!("{text} (on {node})"));
    let Some(seen) = &session.seen else {
        return of(Verdict::Silent, "its session does not say how it stands: its task is stuck".to_owned());
    };
    let view = &seen.view;
    // The cursor was read after the session was asked, so what the session knows to be stored is in it.
    if facts.cursor < seq && seq <= view.stored {
        let text = format!(
            "it was away for more than limits.backlog_per_conversation messages and began behind {}, so it is in its history only",
            view.stored
        );
        return Device::of(facts, Some(node), Verdict::LeftToHistory, text);
    }
    if facts.cursor.max(view.acked) >= seq {
        return has_it(seq, stored, facts, Some(node));
    }
    let waits = match view.blocked_for {
        Some(millis) => format!("its peer has taken nothing for {millis} ms, {} bytes wait", seen.waiting_bytes),
        None => format!("{} bytes wait in its socket", seen.waiting_bytes),
    };
    let is_stuck = view.blocked_for.is_some() || view.is_full || seen.waiting_bytes > 0;
    let (unacked, window, heard) = (view.unacked, view.window, view.heard);
    match view.position {
        Some(position) if position >= seq && is_stuck => of(Verdict::NotReading, format!("written for it, but {waits}")),
        Some(position) if position >= seq => {
            of(Verdict::HandedOut, format!("handed out and not acknowledged; {unacked} such messages in all"))
        }
        _ if heard < seq && !on_nats(here) => {
            of(Verdict::CutOff, "its node has no connection to the NATS that carries this: it comes when that is back, or at the next sweep".to_owned())
        }
        _ if heard < seq => of(
            Verdict::Unheard,
            format!("its session has heard of nothing above {heard}: the notice was lost or is on its way; the next comparison of heads finds it"),
        ),
        _ if view.closed => of(Verdict::NotMember, "its session knows the user to be out of the room, and looks again".to_owned()),
        _ if is_stuck => of(Verdict::NotReading, format!("its session is behind: {waits}")),
        _ if unacked >= window => {
            of(Verdict::WindowFull, format!("{unacked} messages are handed out and not acknowledged, which is the most: it waits for an ack"))
        }
        _ => of(Verdict::Reading, reading(session)),
    }
}

fn on_nats(here: &Here) -> bool {
    here.on_nats && here.room_on_nats
}

fn reading(session: &SessionFacts) -> String {
    let Some(seen) = &session.seen else { return String::new() };
    match (seen.view.row_missing_for, seen.view.asks_again_in) {
        (Some(millis), _) => format!("its session is behind, and the store has not had the next row for {millis} ms"),
        (None, Some(millis)) => {
            format!("its session is behind; the store did not answer and is asked again in {millis} ms")
        }
        (None, None) => "its session is behind and reads the log".to_owned(),
    }
}

fn without_session(seq: Seq, stored: &Stored, facts: &DeviceFacts) -> Device {
    if facts.cursor >= seq {
        return has_it(seq, stored, facts, None);
    }
    let ago = now_millis().saturating_sub(facts.seen) / 1_000;
    let text =
        format!("offline, seen {ago} s ago, has acknowledged up to {}: it gets it when it connects", facts.cursor);
    Device::of(facts, None, Verdict::Offline, text)
}

/// A cursor that nobody's acknowledgement raised is where the device began: at the user's read mark.
fn has_it(seq: Seq, stored: &Stored, facts: &DeviceFacts, node: Option<&str>) -> Device {
    if stored.delivered < seq && facts.cursor >= seq && stored.read >= seq {
        let text =
            format!("it became known when the user had read up to {}, so it is in its history only", facts.cursor);
        return Device::of(facts, node, Verdict::LeftToHistory, text);
    }
    let text = format!("acknowledged, stored up to {}", facts.cursor);
    Device::of(facts, node, Verdict::Acknowledged, text)
}

fn hops(asked: &WhyAsk, stored: &Stored, nodes: &[(String, Here)], silent: &[String]) -> Vec<String> {
    let WhyAsk { conv, seq, user } = asked;
    let mut hops = Vec::new();
    match &stored.row {
        Some(row) => {
            let kind = format!("{:?}", row.kind).to_lowercase();
            hops.push(format!(
                "appended: {kind} {seq} of {conv} from {} at {}, message number {}",
                row.from, row.ts, row.count
            ));
            let mut made = Vec::new();
            made.extend(row.is_edited.then(|| "edited".to_owned()));
            made.extend(row.deleted_by.as_ref().map(|by| format!("deleted by {by}")));
            made.extend(
                row.expires.map(|at| format!("{} at {at}", if row.is_expired { "expired" } else { "expires" })),
            );
            if !made.is_empty() {
                hops.push(format!("made of it: {}", made.join(", ")));
            }
        }
        None => hops.push(format!("appended: no, the log ends at {}", stored.top)),
    }
    let is_at = |head: Seq| if head >= *seq { "at or above it" } else { "below it" };
    hops.push(match stored.head {
        Some(head) => format!("head of {user}: {head}, {}", is_at(head)),
        None => format!("head of {user}: none"),
    });
    if let Some((other, true)) = &stored.blocked {
        hops.push(format!("blocked: yes, between {user} and {other}"));
    }
    hops.push(format!("marks: read up to {}, acknowledged by a device up to {}", stored.read, stored.delivered));
    let holding: Vec<_> = nodes.iter().filter(|(_, here)| !here.sessions.is_empty()).collect();
    let names: Vec<_> = holding.iter().map(|(node, _)| node.as_str()).collect();
    hops.push(match names.is_empty() {
        true => format!("interest: no node holds a session of {user}"),
        false => format!("interest: {}", names.join(", ")),
    });
    for (node, here) in &holding {
        let nats = if on_nats(here) { "" } else { ", cut off from NATS" };
        let state = if here.state == State::Serving { "" } else { ", stopping" };
        for SessionFacts { session, device, seen, .. } in &here.sessions {
            let stands = seen.as_ref().map_or_else(
                || "does not say".to_owned(),
                |seen| {
                    let view = &seen.view;
                    let position = view.position.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
                    format!("heard {}, handed out {position}, acknowledged {}", view.heard, view.acked)
                },
            );
            hops.push(format!("session {session} of {device} on {node}{nats}{state}: {stands}"));
        }
    }
    for DeviceFacts { device, cursor, .. } in &stored.devices {
        hops.push(format!("cursor of {device}: {cursor}, {}", is_at(*cursor)));
    }
    if !silent.is_empty() {
        hops.push(format!("not answering: {}", silent.join(", ")));
    }
    hops
}
