//! Clients that reconnect and remember what they received, and the checker for all their logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use natter::{
    client::{Client, ClientOptions, Event},
    model::{ConvId, Row, Seq, UserId},
    store::{Inbox as _, Logs as _, Span, scylla::ScyllaStore},
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    harness::wait::{until_ok, until_within},
    mesh::{ledger::Ledger, token},
};

/// How long something that must happen may take while servers come back on a loaded machine.
pub const LONG: Duration = Duration::from_secs(90);

/// Waits until `holds`, at most [`LONG`].
pub async fn patiently(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(LONG, what, holds).await;
}

/// A message as a log has it: seq, sender, cid.
type Place = (Seq, String, String);

/// What one client received, in order of arrival, by conversation.
type Heard = BTreeMap<String, Vec<Place>>;

/// A user on one device. Its client fails over between nodes and retries what was not answered, with the same cid; it
/// drops duplicates, so what is recorded here must be each log exactly once.
pub struct Person {
    /// The user.
    pub user: String,
    /// The device.
    pub device: String,
    /// Its connection.
    pub client: Client,
    heard: Arc<Mutex<Heard>>,
    reader: JoinHandle<()>,
}

impl Person {
    /// Connects to the first of `urls`, later to the others.
    pub async fn join(urls: Vec<String>, user: &str, device: &str) -> Self {
        let mut options = ClientOptions::new("", token(user), device);
        options.urls = urls;
        options.connect_timeout = Duration::from_secs(30);
        let client = Client::connect(options).await.unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let reader = tokio::spawn(listen(client.clone(), heard.clone()));
        Self { user: user.to_owned(), device: device.to_owned(), client, heard, reader }
    }

    /// Waits until this many messages have arrived, in all conversations together.
    pub async fn hears(&self, wanted: usize) {
        let heard = async || self.heard.lock().values().map(Vec::len).sum::<usize>() >= wanted;
        patiently(&format!("{} has {wanted} messages", self.name()), heard).await;
    }

    /// Waits until what has arrived of a conversation is these, in this order.
    pub async fn hears_in(&self, conv: &str, wanted: &[Seq]) {
        let what = format!("{} has its {} rows of {conv}", self.name(), wanted.len());
        until_ok(LONG, &what, async || {
            let heard = self.heard.lock();
            let got: Vec<Seq> = heard.get(conv).into_iter().flatten().map(|place| place.0).collect();
            let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
            let (next, instead) = (wanted.get(same), got.get(same));
            if got == wanted { Ok(()) } else { Err(format!("{same} in order, then {instead:?}, not {next:?}")) }
        })
        .await;
    }

    /// Who this is, for the messages of failed tests.
    pub fn name(&self) -> String {
        format!("{}/{}", self.user, self.device)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn listen(client: Client, heard: Arc<Mutex<Heard>>) {
    while let Some(event) = client.next().await {
        if let Event::Message(message) = event {
            let cid = message.cid.map(|cid| cid.to_string()).unwrap_or_default();
            let place = (message.seq, message.from.to_string(), cid);
            heard.lock().entry(message.conv.to_string()).or_default().push(place);
        }
    }
}

/// Checks all conversations of these people with each other and with themselves: see [`check_logs`].
pub async fn check(store: &ScyllaStore, ledger: &Ledger, people: &[&Person]) {
    let users: BTreeSet<&str> = people.iter().map(|person| person.user.as_str()).collect();
    let convs = users.iter().flat_map(|a| users.iter().map(move |b| direct(a, b))).collect();
    check_logs(store, ledger, &convs, people).await;
}

/// What must hold in the end, when every send was answered. I4: every log is dense, holds each cid once, and what was
/// answered is where the answer said. I2 and I3: everyone received each of their logs whole, in order, once. And the
/// heads are at the tops.
pub async fn check_logs(store: &ScyllaStore, ledger: &Ledger, convs: &BTreeSet<ConvId>, people: &[&Person]) {
    let answered = ledger.len();
    let mut logs = Heard::new();
    for conv in convs {
        let log = read(store, conv).await;
        for (seq, sender, cid) in &log {
            // Fails when it was answered with another seq, or another message with this one.
            ledger.answered(sender, cid, conv.as_str(), *seq);
        }
        logs.insert(conv.to_string(), log);
    }
    let stored: usize = logs.values().map(Vec::len).sum();
    assert_eq!(ledger.len(), stored, "something was answered and is not stored");
    assert_eq!(answered, stored, "something is stored and was never answered");
    heads_are_at_the_tops(store, &logs).await;
    for person in people {
        received_all(person, &logs).await;
    }
    println!("{stored} messages in {} logs", logs.len());
}

/// The conversation of two users.
pub fn direct(a: &str, b: &str) -> ConvId {
    ConvId::direct(&UserId::new(a).unwrap(), &UserId::new(b).unwrap())
}

async fn read(store: &ScyllaStore, conv: &ConvId) -> Vec<Place> {
    let all = Span { rows: 1_000_000, bytes: usize::MAX };
    let rows = store.read_after(conv, 0, all).await.unwrap();
    let place = |row: Row| (row.seq, row.sender.to_string(), row.cid.to_string());
    let log: Vec<Place> = rows.into_iter().map(place).collect();
    assert!(log.iter().map(|place| place.0).eq(1..=log.len() as Seq), "{conv} has a gap");
    assert_eq!(store.top(conv).await.unwrap(), log.len() as Seq, "{conv} was not read to its end");
    log
}

async fn heads_are_at_the_tops(store: &ScyllaStore, logs: &Heard) {
    let mut wanted: BTreeMap<&str, BTreeMap<String, Seq>> = BTreeMap::new();
    for (conv, log) in logs.iter().filter(|(_, log)| !log.is_empty()) {
        for user in conv.split(':').skip(1) {
            wanted.entry(user).or_default().insert(conv.clone(), log.len() as Seq);
        }
    }
    for (user, wanted) in wanted {
        let page = store.conversations(&UserId::new(user).unwrap(), None, 10_000).await.unwrap();
        let heads: BTreeMap<_, _> = page.items.into_iter().map(|item| (item.conv.to_string(), item.head)).collect();
        assert_eq!(heads, wanted, "the heads of {user}");
    }
}

async fn received_all(person: &Person, logs: &Heard) {
    let mine = |conv: &&String| conv.split(':').skip(1).any(|name| name == person.user);
    let count = |heard: &Heard| heard.values().map(Vec::len).sum::<usize>();
    let wanted: Heard = logs.iter().filter(|(conv, log)| mine(conv) && !log.is_empty()).map(clone).collect();
    let missing = || {
        let heard = person.heard.lock();
        let lacks = wanted.iter().map(|(conv, log)| lacking(conv, log, heard.get(conv).map_or(&[][..], Vec::as_slice)));
        lacks.flatten().next().map_or(Ok(()), Err)
    };
    until_ok(LONG, &format!("{} has received all", person.name()), async || missing()).await;
    assert_eq!(count(&person.heard.lock()), count(&wanted), "{} heard more than was stored", person.name());
}

/// What part of a log was not received, or not in its place.
fn lacking(conv: &str, log: &[Place], got: &[Place]) -> Option<String> {
    let same = log.iter().zip(got).take_while(|(a, b)| a == b).count();
    let (next, instead) = (log.get(same), got.get(same));
    (log != got).then(|| format!("got {same} of {} of {conv} in order, then {instead:?}, not {next:?}", log.len()))
}

fn clone((conv, log): (&String, &Vec<Place>)) -> (String, Vec<Place>) {
    (conv.clone(), log.clone())
}

/// A send with a time limit: clients retry without end.
pub async fn send(client: &Client, user: &str, to: &str, cid: &str, ledger: &Ledger) -> Duration {
    let asked = Instant::now();
    let body = natter::protocol::Body::text(cid);
    let sent = timeout(LONG, client.send_with_cid(&format!("@{to}"), cid, body)).await;
    let sent = sent.unwrap_or_else(|_| panic!("{cid} of {user} was never answered")).unwrap();
    ledger.answered(user, cid, sent.conv.as_str(), sent.seq);
    asked.elapsed()
}
