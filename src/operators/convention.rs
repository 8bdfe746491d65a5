//! The NATS services convention (ADR-32): nodes show themselves to `nats micro ls`, `info` and `stats` as instances of one
//! service, `natter`. Answered by natter itself, over either link: the library's own needs the library's connection.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Operators;
use crate::{services::Door, subject::QUEUE_GROUP};

const NAME: &str = "natter";

impl Operators {
    /// The answer to a verb of the convention; `None` to one that it does not have.
    pub(super) fn convention(&self, verb: &str) -> Option<Bytes> {
        let mut answer = json!({
            "name": NAME,
            "id": self.parts.node,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "node": self.parts.node },
        });
        let more = match verb {
            "PING" => json!({ "type": "io.nats.micro.v1.ping_response" }),
            "INFO" => json!({
                "type": "io.nats.micro.v1.info_response",
                "description": "A node of a natter mesh; natter nodes shows more.",
                "endpoints": Door::ALL.map(endpoint),
            }),
            "STATS" => json!({
                "type": "io.nats.micro.v1.stats_response",
                "started": rfc3339(self.since),
                "endpoints": Door::ALL.map(|door| self.counted(door)),
            }),
            _ => return None,
        };
        let (Value::Object(answer_map), Value::Object(more)) = (&mut answer, more) else { return None };
        answer_map.extend(more);
        Some(super::json(&answer))
    }

    fn counted(&self, door: Door) -> Value {
        let (requests, errors, nanos) = self.parts.doors.counted(door);
        let Value::Object(mut stats) = endpoint(door) else { return Value::Null };
        stats.remove("metadata");
        stats.insert("num_requests".into(), requests.into());
        stats.insert("num_errors".into(), errors.into());
        stats.insert("last_error".into(), "".into());
        stats.insert("processing_time".into(), nanos.into());
        stats.insert("average_processing_time".into(), nanos.checked_div(requests).unwrap_or(0).into());
        Value::Object(stats)
    }
}

fn endpoint(door: Door) -> Value {
    json!({ "name": door.word(), "subject": door.subject().as_str(), "queue_group": QUEUE_GROUP, "metadata": {} })
}

/// A time as the convention has it: RFC 3339, UTC. By the days of the proleptic calendar, as `date` counts them.
fn rfc3339(millis: u64) -> String {
    let (secs, millis) = (millis / 1_000, millis % 1_000);
    let (day, clock) = (secs / 86_400, secs % 86_400);
    // Years begin in March, so that the leap day is the last of one.
    let since = day + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_102_444_799_007, "2099-12-31T23:59:59.007Z"),
        ] {
            assert_eq!(rfc3339(millis), text);
        }
    }
}
