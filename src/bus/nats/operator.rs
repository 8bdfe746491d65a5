//! An operator's connection: asks nodes and gathers what they answer. Used by the commands `natter nodes`, `why`, `trace`,
//! `disconnect` and `drain`, which are no nodes: they come and go, and have an account of their own.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectErrorKind, Event, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::connect::identified;
use crate::{
    bus::{
        BusError,
        options::{NatsOptions, checked},
    },
    subject::Subject,
};

/// Answers to one question that are kept, at most: more than a mesh has nodes.
const MOST: usize = 1_024;

/// Why an operator has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The servers do not take the account.
    #[error("the NATS server refuses the account: {0}")]
    Account(String),
    /// No server answers, or the connection broke.
    #[error("NATS: {0}")]
    Away(String),
    /// The account may not do this.
    #[error("NATS does not permit this account to: {0}")]
    Forbidden(String),
    /// Options that can never work.
    #[error(transparent)]
    Options(#[from] BusError),
}

/// A connection as an operator.
#[derive(Debug)]
pub struct Operator {
    client: Client,
    violation: Arc<Mutex<Option<String>>>,
}

impl Operator {
    /// Connects, or says why not.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn connect(options: &NatsOptions) -> Result<Self, OperatorError> {
        let (options, addrs) = checked(options.clone())?;
        let violation = Arc::<Mutex<Option<String>>>::default();
        let noted = violation.clone();
        let library = identified(&options).await?.name("natter operator").event_callback(move |event| {
            if let Event::ServerError(error) = &event {
                let words = error.to_string();
                if words.contains("Permissions Violation") || words.contains("permissions violation") {
                    noted.lock().get_or_insert(words);
                }
            }
            std::future::ready(())
        });
        let client = library.connect(addrs).await.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                OperatorError::Account(error.to_string())
            }
            _ => OperatorError::Away(error.to_string()),
        })?;
        Ok(Self { client, violation })
    }

    /// Asks, and gathers what is answered within `patience`, or until there are `most` answers; or sooner, when none came for a
    /// fifth of it after the last one and `is_all` of those so far. Empty where nobody hears it.
    ///
    /// # Errors
    /// When the connection is gone, or the account may not ask this.
    pub async fn ask(
        &self,
        subject: &Subject,
        payload: Bytes,
        patience: Duration,
        most: usize,
        is_all: impl Fn(&[Bytes]) -> bool,
    ) -> Result<Vec<Bytes>, OperatorError> {
        let inbox = Subject::operator_inbox(rand::random());
        let mut answers = self.client.subscribe(inbox.to_string()).await.map_err(away)?;
        let asked = self.client.publish_with_reply(subject.to_string(), inbox.to_string(), payload);
        asked.await.map_err(away)?;
        let (until, mut all) = (Instant::now() + patience, Vec::new());
        while all.len() < most.min(MOST) {
            let lull = if all.is_empty() || !is_all(&all) { until } else { until.min(Instant::now() + patience / 5) };
            match timeout_at(lull, answers.next()).await {
                Ok(Some(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => break,
                Ok(Some(message)) => all.push(Bytes::copy_from_slice(&message.payload)),
                Ok(None) | Err(_) => break,
            }
        }
        match self.violation.lock().take() {
            Some(words) => Err(OperatorError::Forbidden(words)),
            None => Ok(all),
        }
    }

    /// Hears what is told on a subject from now on: what is asked after this is told there.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn hear(&self, subject: &Subject) -> Result<Told, OperatorError> {
        Ok(Told(self.client.subscribe(subject.to_string()).await.map_err(away)?))
    }

    /// Publishes, and waits until it has left.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn tell(&self, subject: &Subject, payload: Bytes) -> Result<(), OperatorError> {
        self.client.publish(subject.to_string(), payload).await.map_err(away)?;
        self.client.flush().await.map_err(away)
    }
}

/// What is told on a subject.
#[derive(Debug)]
pub struct Told(Subscriber);

impl Told {
    /// The next payload; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await.map(|message| Bytes::copy_from_slice(&message.payload))
    }
}

fn away(error: impl std::fmt::Display) -> OperatorError {
    OperatorError::Away(error.to_string())
}
