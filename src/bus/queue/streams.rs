//! The two streams: what they are, made where they are missing, examined for `doctor`. Called by [`super::QueueLink`].

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Config as Stream, DiscardPolicy, Info, RetentionPolicy, StorageType, SubjectTransform},
};

use super::{DEAD_STREAM, QUEUE_STREAM, QueueError, QueueLink};
use crate::{config::Config, subject::Subject};

/// The shortest time within which the server takes one message for the repeat of another with the same `Nats-Msg-Id`. It
/// looks at all services together: one could keep another's message out by its id (R27). Repeats are known by their cid.
const NO_WINDOW: Duration = Duration::from_millis(100);

/// The same for what was given up: only nodes write there, and their ids are places in the queue.
const DEAD_WINDOW: Duration = Duration::from_secs(3600);

/// Room that a message needs more when it is given up: for the reason.
const ROOM_FOR_REASON: usize = 8 << 10;

/// The largest message, whatever the servers take.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

/// Room for the headers of a message.
const ROOM_FOR_HEADERS: usize = 4 << 10;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// Its name.
    pub stream: &'static str,
    /// It was not there.
    pub created: bool,
    /// It was there, and was not what it should be.
    pub changed: bool,
}

/// A stream that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Messages in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most it takes.
    pub max_bytes: u64,
    /// Its copies.
    pub replicas: usize,
    /// In what it differs from the config.queue.
    pub differs: Vec<&'static str>,
}

fn queue(link: &QueueLink, config: &Config) -> Stream {
    let [source, destination] = Subject::queue_parts().map(|subject| subject.as_str().to_owned());
    Stream {
        name: QUEUE_STREAM.to_owned(),
        description: Some("natter: what services publish to the durable way in".to_owned()),
        subjects: vec![Subject::all_queues().as_str().to_owned()],
        subject_transform: Some(SubjectTransform { source, destination }),
        // A message is gone once it is stored, and a part has one consumer at a time: the server's own rule.
        retention: RetentionPolicy::WorkQueue,
        // Full is told to whoever publishes; nothing that was acknowledged is dropped.
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(config.queue.max_bytes).unwrap_or(i64::MAX),
        duplicate_window: NO_WINDOW,
        ..kept(link, config)
    }
}

fn dead(link: &QueueLink, config: &Config) -> Stream {
    Stream {
        name: DEAD_STREAM.to_owned(),
        description: Some("natter: messages of services that were given up, with the reason".to_owned()),
        subjects: vec![Subject::all_dead().as_str().to_owned()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: i64::try_from(config.queue.dead_max_bytes).unwrap_or(i64::MAX),
        max_age: DAY * config.queue.dead_days,
        duplicate_window: DEAD_WINDOW,
        max_message_size: message_size(link, 0, usize::MAX),
        ..kept(link, config)
    }
}

/// What both have.
fn kept(link: &QueueLink, config: &Config) -> Stream {
    Stream {
        storage: StorageType::File,
        num_replicas: config.queue.replicas as usize,
        max_messages: -1,
        max_messages_per_subject: -1,
        // More could only be refused; whoever publishes it hears of that at once, and what nodes hold is bounded.
        max_message_size: message_size(link, ROOM_FOR_REASON, config.limits.max_frame_bytes() + ROOM_FOR_HEADERS),
        // The server answers a publish wherever the publisher says, also on the subjects of JetStream itself: before 2.12 that
        // made a service purge the stream.
        deny_delete: true,
        deny_purge: true,
        ..Stream::default()
    }
}

fn message_size(link: &QueueLink, less: usize, most: usize) -> i32 {
    let taken = link.client.server_info().max_payload.min(MAX_MESSAGE).saturating_sub(less);
    i32::try_from(taken.min(most)).unwrap_or(i32::MAX)
}

/// In what a stream is not what it should be: what only `migrate` changes.
fn differences(is: &Stream, should: &Stream) -> Vec<&'static str> {
    [
        ("subjects", is.subjects != should.subjects),
        ("subject_transform", is.subject_transform != should.subject_transform),
        ("retention", is.retention != should.retention),
        ("storage", is.storage != should.storage),
        ("discard", is.discard != should.discard),
        ("max_bytes", is.max_bytes != should.max_bytes),
        ("max_age", is.max_age != should.max_age),
        ("max_msg_size", is.max_message_size != should.max_message_size),
        ("duplicate_window", is.duplicate_window != should.duplicate_window),
        ("num_replicas", is.num_replicas != should.num_replicas),
        ("deny_delete", is.deny_delete != should.deny_delete),
        ("deny_purge", is.deny_purge != should.deny_purge),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

fn both(link: &QueueLink, config: &Config) -> [(&'static str, Stream); 2] {
    [(QUEUE_STREAM, queue(link, config)), (DEAD_STREAM, dead(link, config))]
}

pub(super) async fn prepare(link: &QueueLink, config: &Config) -> Result<(), QueueError> {
    for (name, should) in both(link, config) {
        match find(link, name).await? {
            None => create(link, should).await?,
            Some(info) => {
                let differs = differences(&info.config, &should);
                if !differs.is_empty() {
                    let differs = differs.join(", ");
                    tracing::warn!(stream = name, differs, "the stream is not what [queue] says: run natter migrate");
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn migrate(link: &QueueLink, config: &Config) -> Result<Vec<Made>, QueueError> {
    let mut all = Vec::new();
    for (stream, should) in both(link, config) {
        let found = find(link, stream).await?;
        let (created, changed) = match &found {
            None => (true, false),
            Some(info) => (false, !differences(&info.config, &should).is_empty()),
        };
        if created {
            create(link, should).await?;
        } else if changed {
            let updated = link.jetstream.update_stream(&should).await;
            updated.map_err(|error| QueueError::Refused(format!("{stream} cannot be changed: {error}")))?;
        }
        all.push(Made { stream, created, changed });
    }
    Ok(all)
}

pub(super) async fn examine(
    link: &QueueLink,
    config: &Config,
) -> Result<Vec<(&'static str, Option<StreamState>)>, QueueError> {
    let mut all = Vec::new();
    for (name, should) in both(link, config) {
        let state = find(link, name).await?.map(|info| StreamState {
            messages: info.state.messages,
            bytes: info.state.bytes,
            max_bytes: u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX),
            replicas: info.config.num_replicas,
            differs: differences(&info.config, &should),
        });
        all.push((name, state));
    }
    Ok(all)
}

async fn find(link: &QueueLink, name: &str) -> Result<Option<Info>, QueueError> {
    let error = match link.jetstream.get_stream(name).await {
        Ok(stream) => return Ok(Some(stream.cached_info().clone())),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        GetStreamErrorKind::JetStream(answer) => Err(QueueError::Refused(format!("{name}: {answer}"))),
        _ => Err(QueueError::away(error)),
    }
}

/// Another node may have made it in between, also by other config.queue.
async fn create(link: &QueueLink, should: Stream) -> Result<(), QueueError> {
    let name = should.name.clone();
    let error = match link.jetstream.create_stream(should).await {
        Ok(_) => {
            tracing::info!(stream = name, "made the stream");
            return Ok(());
        }
        Err(error) => error,
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
        CreateStreamErrorKind::JetStream(answer) => {
            Err(QueueError::Refused(format!("{name} cannot be made (queue.replicas, queue.max_bytes): {answer}")))
        }
        _ => Err(QueueError::away(error)),
    }
}
