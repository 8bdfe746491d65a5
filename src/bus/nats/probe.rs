//! Examines the NATS servers as a node would find them: one connection to each, its permissions, how long things take.
//! Called by `natter doctor`. Everything goes over subjects of a user, a room and a node with random names.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{Client, ConnectErrorKind, Event, ServerInfo, Subscriber};
use compact_str::format_compact;
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::timeout;

use super::connect::identified;
use crate::{
    bus::{
        BusError,
        claim::{self, Claim},
        options::{NatsOptions, addresses, checked, refused},
    },
    config::ServerUrl,
    model::{RoomId, UserId},
    subject::Subject,
};

/// How long an answer may take. A server that needs longer is useless to a node.
const PATIENCE: Duration = Duration::from_secs(2);

/// The library reports errors on a task of its own, a moment after it hands out the message that followed them.
const ERRORS_LATE: Duration = Duration::from_millis(100);

/// The pause between two messages of the propagation probe.
const AGAIN: Duration = Duration::from_millis(1);

/// Everything the probe found.
#[derive(Debug)]
pub struct NatsReport {
    /// Each URL of the options, in their order.
    pub servers: Vec<(ServerUrl, Result<ServerFound, NatsFault>)>,
    /// The time from a subscribe on one server until a message published on another reaches it; an error when it never
    /// does. `None` when fewer than two servers answer.
    pub propagation: Option<Result<Duration, String>>,
    /// How many processes run under the node's name: one at most.
    pub namesakes: usize,
}

/// A server that answers.
#[derive(Debug, Clone)]
pub struct ServerFound {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The largest message it takes, in bytes.
    pub max_payload: usize,
    /// How many servers its cluster has, itself included: at least one.
    pub cluster: usize,
    /// The time until a message comes back to its sender; `None` when it never does.
    pub round_trip: Option<Duration>,
    /// What a node needs and this account is not permitted to do, in the server's words.
    pub forbidden: Vec<String>,
}

/// Why a server is useless to a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NatsFault {
    /// It refuses this account.
    #[error("it refuses the node's account")]
    Unauthorized,
    /// The TLS handshake fails.
    #[error("TLS fails: {0}")]
    Tls(String),
    /// It does not answer.
    #[error("it does not answer: {0}")]
    Silent(String),
}

/// Examines each server of the options.
///
/// # Errors
/// Only for options that can never work, as for a node.
pub async fn probe(options: &NatsOptions) -> Result<NatsReport, BusError> {
    let (options, _) = &checked(options.clone())?;
    let looks = join_all(options.urls.iter().map(|url| look(options, url))).await;
    let looks: Vec<_> = looks.into_iter().collect::<Result<_, _>>()?;
    let clients: Vec<&Client> = looks.iter().filter_map(|look| Some(&look.as_ref().ok()?.0)).collect();
    let propagation = match two_servers(&clients) {
        Some((one, other)) => Some(propagation(one, other).await),
        None => None,
    };
    let namesakes = match clients.first() {
        Some(client) => namesakes(client, &options.node).await,
        None => 0,
    };
    let servers = options.urls.iter().cloned().zip(looks.into_iter().map(|look| look.map(|(_, found)| found)));
    Ok(NatsReport { servers: servers.collect(), propagation, namesakes })
}

/// Asks whoever answers on a subject, once, over any server of the options.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(
    options: &NatsOptions,
    subject: &Subject,
    question: bytes::Bytes,
    within: Duration,
) -> Result<bytes::Bytes, String> {
    let (options, addrs) = checked(options.clone()).map_err(|error| error.to_string())?;
    let library = identified(&options).await.map_err(|error| error.to_string())?;
    let client = library.connect(addrs).await.map_err(|error| error.to_string())?;
    let asked = async_nats::Request::new().payload(question).timeout(Some(within));
    let answer = client.send_request(subject.to_string(), asked).await.map_err(|error| error.to_string())?;
    Ok(answer.payload)
}

async fn look(options: &NatsOptions, url: &ServerUrl) -> Result<Result<(Client, ServerFound), NatsFault>, BusError> {
    let errors = ServerErrors::default();
    let noted = errors.clone();
    let addrs = addresses(std::slice::from_ref(url))?;
    let library = identified(options).await?.ignore_discovered_servers().event_callback(move |event| {
        noted.note(&event);
        std::future::ready(())
    });
    let client = match library.connect(addrs).await {
        Ok(client) => client,
        Err(error) => return Ok(Err(fault(&error))),
    };
    let info = client.server_info();
    let found = examine(&client, &errors, info, &options.inbox_prefix).await?;
    Ok(Ok((client, found)))
}

fn fault(error: &async_nats::ConnectError) -> NatsFault {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => NatsFault::Unauthorized,
        ConnectErrorKind::Tls => NatsFault::Tls(error.to_string()),
        _ => NatsFault::Silent(error.to_string()),
    }
}

/// The errors that the server reported, in its own words.
#[derive(Debug, Clone, Default)]
struct ServerErrors(Arc<Mutex<Vec<String>>>);

impl ServerErrors {
    fn note(&self, event: &Event) {
        if let Event::ServerError(error) = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A name that nobody uses: 64 random bits.
fn nobody() -> String {
    format!("doctor-{:016x}", rand::random::<u64>())
}

async fn examine(
    client: &Client,
    errors: &ServerErrors,
    info: ServerInfo,
    inbox_prefix: &str,
) -> Result<ServerFound, BusError> {
    let held = try_permissions(client, inbox_prefix).await?;
    let round_trip = round_trip(client).await;
    tokio::time::sleep(ERRORS_LATE).await;
    drop(held);
    Ok(ServerFound {
        name: info.server_name,
        version: info.version,
        max_payload: info.max_payload,
        cluster: info.connect_urls.len().max(1),
        round_trip,
        forbidden: errors.take(),
    })
}

/// Does once what a node does all the time. What is not permitted is reported as an event.
async fn try_permissions(client: &Client, inbox_prefix: &str) -> Result<Vec<Subscriber>, BusError> {
    let name = nobody();
    let user = UserId::new(&name).map_err(|e| refused(&e.to_string()))?;
    let room = RoomId::new(&name).map_err(|e| refused(&e.to_string()))?;
    let inbox = Subject::inbox(inbox_prefix, &name);
    // The appends of a slot that does not exist: a subscription to one that does would make a missing home look present.
    let log = Subject::log(u16::MAX);
    let presence = Subject::presence(&user);
    let both = [Subject::user(&user), Subject::room(&room), presence, Subject::node(&name, "probe"), log];
    // The sends of a service that does not exist: a subscription to all sends would take work from the nodes.
    let heard = [Subject::send_user(&user, &user), Subject::all_signals(), Subject::nodes("probe")];
    let mut held = Vec::new();
    for subject in both.iter().chain(&heard).chain(&inbox) {
        let subscribed = client.subscribe(subject.to_string()).await;
        held.push(subscribed.map_err(|e| refused(&e.to_string()))?);
    }
    // An event of a kind that no service knows, and what is for a service that does not exist.
    let told = [Subject::event("doctor"), Subject::feed(&user), Subject::hook_send(&user)];
    for subject in both.iter().chain(&told) {
        let published = client.publish(subject.to_string(), "{}".into()).await;
        published.map_err(|e| refused(&e.to_string()))?;
    }
    Ok(held)
}

async fn round_trip(client: &Client) -> Option<Duration> {
    let subject = Subject::node(&nobody(), "echo").to_string();
    let mut echo = client.subscribe(subject.clone()).await.ok()?;
    let mut took = None;
    // The second one is measured: the first pays for the subscription.
    for _ in 0..2 {
        let begin = Instant::now();
        client.publish(subject.clone(), "".into()).await.ok()?;
        timeout(PATIENCE, echo.next()).await.ok()??;
        took = Some(begin.elapsed());
    }
    took
}

/// Two connections to different servers, not to one server under two names.
fn two_servers<'a>(clients: &[&'a Client]) -> Option<(&'a Client, &'a Client)> {
    let one = clients.first()?;
    let id = one.server_info().server_id;
    let other = clients.iter().find(|client| client.server_info().server_id != id)?;
    Some((one, other))
}

/// Claims the node's name as a node does at its start, and counts who answers.
async fn namesakes(client: &Client, node: &str) -> usize {
    let Ok(mut answers) = client.subscribe(Claim::taken(node).to_string()).await else { return 0 };
    if client.publish(Claim::question(node).to_string(), nobody().into()).await.is_err() {
        return 0;
    }
    let mut found = BTreeSet::new();
    // Each answers once, so the only end is the time.
    let _ = timeout(claim::PATIENCE, async {
        while let Some(answer) = answers.next().await {
            found.insert(answer.payload);
        }
    })
    .await;
    found.len()
}

async fn propagation(one: &Client, other: &Client) -> Result<Duration, String> {
    let subject = Subject::node(&nobody(), &format_compact!("far")).to_string();
    let mut far = one.subscribe(subject.clone()).await.map_err(|e| e.to_string())?;
    one.flush().await.map_err(|e| e.to_string())?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        other.publish(subject.clone(), "".into()).await.map_err(|e| e.to_string())?;
        if timeout(AGAIN, far.next()).await.is_ok() {
            return Ok(begin.elapsed());
        }
    }
    Err(format!("nothing arrived within {PATIENCE:?}"))
}
