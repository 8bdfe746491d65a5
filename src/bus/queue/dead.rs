//! Messages that were given up: kept with the reason in a stream of their own, and read again for people. Called by
//! [`super::QueueLink`].

use async_nats::{
    HeaderMap,
    jetstream::{context::PublishAckFuture, message::PublishMessage, stream::RawMessageErrorKind},
};
use bytes::Bytes;

use super::{DEAD_STREAM, QueueError, QueueLink};
use crate::subject::Subject;

const CODE: &str = "Natter-Code";
const REASON: &str = "Natter-Message";
const TRIES: &str = "Natter-Tries";
const SUBJECT: &str = "Natter-Subject";
const SEQUENCE: &str = "Natter-Sequence";
const CID: &str = "Natter-Cid";

/// The most of a reason that is kept, in bytes.
const REASON_BYTES: usize = 1024;

/// A message that is given up.
#[derive(Debug)]
pub struct Dead<'a> {
    /// What the service published it to.
    pub subject: &'a Subject,
    /// Its place in the queue.
    pub sequence: u64,
    /// The id that stood beside the body, or was made for it.
    pub cid: &'a str,
    /// As it was published.
    pub payload: Bytes,
    /// The word of the code.
    pub code: &'static str,
    /// Why, in words.
    pub reason: &'a str,
    /// How often it was tried.
    pub tries: u32,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Buried {
    /// Its place among them.
    pub place: u64,
    /// When it was given up, in milliseconds since 1970.
    pub ts: i64,
    /// The word of the code.
    pub code: String,
    /// Why.
    pub message: String,
    /// How often it was tried.
    pub tries: u32,
    /// What the service published it to.
    pub subject: String,
    /// Its place in the queue.
    pub sequence: u64,
    /// The id beside the body.
    pub cid: String,
    /// As it was published; what is no UTF-8 is replaced.
    pub body: String,
}

pub(super) async fn bury(link: &QueueLink, dead: &Dead<'_>) -> Result<(), QueueError> {
    let mut headers = HeaderMap::new();
    headers.insert(CODE, dead.code);
    headers.insert(REASON, line(dead.reason).as_str());
    headers.insert(TRIES, dead.tries.to_string().as_str());
    headers.insert(SUBJECT, dead.subject.as_str());
    headers.insert(SEQUENCE, dead.sequence.to_string().as_str());
    headers.insert(CID, line(dead.cid).as_str());
    let message = PublishMessage::build()
        .payload(dead.payload.clone())
        .headers(headers)
        // Whoever gives it up again, after a failure in between, does not keep it again.
        .message_id(format!("{}.{}", dead.sequence, line(dead.cid)));
    let subject = Subject::dead(dead.subject.as_str()).to_string();
    let sent: PublishAckFuture = link.jetstream.send_publish(subject, message).await.map_err(QueueError::away)?;
    sent.await.map(drop).map_err(|error| QueueError::Refused(format!("a dead letter was not kept: {error}")))
}

/// One line that a header may hold.
fn line(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(REASON_BYTES));
    for c in text.chars() {
        if kept.len() + c.len_utf8() > REASON_BYTES {
            break;
        }
        kept.push(if c.is_control() { ' ' } else { c });
    }
    kept
}

pub(super) async fn buried(link: &QueueLink, from: u64, most: usize) -> Result<Vec<Buried>, QueueError> {
    let stream = link.jetstream.get_stream(DEAD_STREAM).await.map_err(QueueError::away)?;
    let mut found = Vec::new();
    // An empty stream says that its first is 0.
    let mut place = from.max(stream.cached_info().state.first_sequence).max(1);
    while found.len() < most && place <= stream.cached_info().state.last_sequence {
        match stream.get_raw_message(place).await {
            Ok(message) => {
                let text = |name: &str| message.headers.get(name).map(|value| value.to_string()).unwrap_or_default();
                found.push(Buried {
                    place,
                    ts: i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
                    code: text(CODE),
                    message: text(REASON),
                    tries: text(TRIES).parse().unwrap_or_default(),
                    subject: text(SUBJECT),
                    sequence: text(SEQUENCE).parse().unwrap_or_default(),
                    cid: text(CID),
                    body: String::from_utf8_lossy(&message.payload).into_owned(),
                });
            }
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {}
            Err(error) => return Err(QueueError::away(error)),
        }
        place += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_bounded_line() {
        assert_eq!(line("a\r\nb\u{0}c"), "a  b c");
        assert!(line(&"ä".repeat(REASON_BYTES)).len() <= REASON_BYTES);
    }
}
