//! Whom a node asks and tells outside of the mesh: the service that checks messages, and the targets of webhooks.
//!
//! A target is connected to and posted nothing. The service is asked once about a message of its own, which a node never
//! does; nothing is stored.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::finding::{Finding, millis};
use crate::{
    bus::{NatsOptions, nats::probe},
    config::{Config, Unanswered, Webhook},
    model::{Cid, ConvId, NewMessage, UserId, now_millis},
    outgoing::Place,
    protocol::{
        Body, Encoding,
        hook::{Decision, Question},
    },
    subject::Subject,
};

const PART: &str = "services";

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let targets = join_all(config.webhooks.iter().map(|(name, of)| target(name, of)));
    let (hook, targets) = tokio::join!(hook(config), targets);
    hook.into_iter().chain(targets).collect()
}

async fn target(name: &UserId, of: &Webhook) -> Finding {
    let within = Duration::from_millis(of.timeout_ms);
    let connects = async {
        let place = Place::new(&of.url, of.ca_file.as_deref(), "ca_file")?;
        let connection = timeout(within, place.connect::<http_body_util::Empty<bytes::Bytes>>()).await;
        connection.unwrap_or_else(|_| Err(format!("no connection within {}", millis(within)))).map(drop)
    };
    match connects.await {
        Ok(()) => Finding::ok(PART, "webhook", format!("{name} can be connected to")),
        Err(reason) => {
            let fix = "start it, or correct webhooks.<name>.url or ca_file; its events wait in memory meanwhile";
            Finding::warn(PART, "webhook", format!("{name}: {reason}"), fix)
        }
    }
}

async fn hook(config: &Config) -> Option<Finding> {
    let service = config.hook.service.as_ref()?;
    let began = Instant::now();
    Some(match ask(config, service).await {
        Ok(()) => {
            Finding::ok(PART, "hook", format!("{service} answers what it is asked in {}", millis(began.elapsed())))
        }
        Err(reason) => {
            let says = format!("{service} is to check messages, and does not: {reason}");
            let fix = "start it, with natter.hook.<service>.> and allow_responses in its permissions (nats/), or unset hook.service";
            match config.hook.unanswered {
                Unanswered::Refuse => Finding::fail(PART, "hook", says + "; every message is refused", fix),
                Unanswered::Allow => Finding::warn(PART, "hook", says + "; messages pass unchecked", fix),
            }
        }
    })
}

async fn ask(config: &Config, service: &UserId) -> Result<(), String> {
    let cid = Cid::new("doctor").map_err(|error| error.to_string())?;
    let message = NewMessage::of_user(service.clone(), cid, now_millis(), Body::text("natter doctor"));
    let question = Question::of(&ConvId::direct(service, service), &NewMessage { service: true, ..message });
    let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let within = Duration::from_millis(config.hook.timeout_ms);
    let answer = probe::ask(&options, &Subject::hook_send(service), Encoding::Json.encode(&question), within).await?;
    Encoding::sniff(&answer).decode::<Decision>(&answer).map(drop).map_err(|error| format!("its answer: {error}"))
}
