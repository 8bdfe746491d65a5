//! The background task of a client: gets a connection, lets `pump` use it until it ends, waits, and gets the next one.
//! The handle talks to it through commands.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use compact_str::CompactString;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    ClientOptions, ConnectError, Connection, Endpoint, Event, RequestError, attempts,
    events::Events,
    marks::Marks,
    places::Places,
    pump::{Ended, Pump},
    refusals::Refusals,
    requests::{Call, PendingCall, Requests},
    watched::Watched,
};
use crate::{
    backoff::Backoff,
    model::{ConvId, Recipient, Seq},
    protocol::{Body, CloseReason, client::Outgoing, server::Welcome},
};

/// Signals that wait for the socket: beyond that the oldest goes, which is worth the least.
const SIGNALS: usize = 64;
/// One try, from the first packet to `welcome`.
const CONNECT_TRY: Duration = Duration::from_secs(10);

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Call(PendingCall),
    Read(ConvId, Seq),
    Ack(ConvId, Seq),
    Signal { to: Recipient, kind: String, body: Option<Body> },
    Close(oneshot::Sender<()>),
}

/// Everything that outlives a connection.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) options: Arc<ClientOptions>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: Arc<Events>,
    /// Who is waiting for the first connection.
    ready: Option<oneshot::Sender<Result<(), ConnectError>>>,
    pub(super) requests: Requests,
    pub(super) places: Places,
    /// Holes that a new connection is to fill, by what came behind them. One that it does not fill is in the log.
    pub(super) gaps: HashMap<ConvId, Seq>,
    pub(super) marks: Marks,
    pub(super) watched: Watched,
    pub(super) refusals: Refusals,
    pub(super) signals: VecDeque<(Recipient, String, Option<Body>)>,
    pub(super) backoff: Backoff,
    /// When to come back, as told by a draining node.
    pub(super) come_back: Option<Duration>,
    attempt: u64,
    /// The last that a node gave: with it a login compares nothing while nothing has changed.
    pub(super) since: Option<CompactString>,
    tries: usize,
    started: Instant,
}

/// Why there will be no further connection.
pub(super) enum End {
    /// Refused for good, or reconnecting is off.
    Closed(ConnectError),
    /// The user of the client is done with it.
    Dropped(Option<oneshot::Sender<()>>),
}

impl Driver {
    pub(super) fn new(
        options: ClientOptions,
        commands: mpsc::Receiver<Command>,
        events: Arc<Events>,
        ready: Option<oneshot::Sender<Result<(), ConnectError>>>,
    ) -> Self {
        Self {
            attempt: options.attempt,
            places: Places::new(options.pace.gather),
            backoff: Backoff::new(options.pace.reconnect, options.pace.reconnect_most),
            options: Arc::new(options),
            commands,
            events,
            ready,
            requests: Requests::default(),
            gaps: HashMap::new(),
            marks: Marks::default(),
            watched: Watched::default(),
            refusals: Refusals::default(),
            signals: VecDeque::new(),
            come_back: None,
            since: None,
            tries: 0,
            started: Instant::now(),
        }
    }

    /// Runs until the client is closed, by either side.
    pub(super) async fn run(mut self) {
        match self.serve().await {
            End::Closed(error) => self.on_closed(error),
            End::Dropped(done) => {
                self.events.end();
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
        }
    }

    fn on_closed(mut self, error: ConnectError) {
        self.commands.close();
        self.requests.fail_all(&error);
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Call(request) = command {
                let _ = request.reply.send(Err(RequestError::Closed(error.clone())));
            }
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error.clone()));
        }
        self.events.push(Event::Closed(error));
    }

    async fn serve(&mut self) -> End {
        loop {
            let (connection, welcome) = match self.connected().await {
                Ok(connected) => connected,
                Err(end) => return end,
            };
            match Pump::new(self, connection, welcome).run().await {
                Ended::Lost(error) if self.returns_after(&error) => self.events.push(Event::Disconnected(error)),
                Ended::Lost(error) => return End::Closed(error),
                Ended::Dropped(done) => return End::Dropped(done),
            }
        }
    }

    fn returns_after(&self, error: &ConnectError) -> bool {
        let expired = CloseReason::TokenExpired.code();
        let renewable = matches!(error, ConnectError::Closed { code, .. } if *code == expired);
        self.options.reconnect && (error.may_retry() || renewable && self.options.token.renews())
    }

    /// Tries until there is a connection.
    async fn connected(&mut self) -> Result<(Connection, Welcome), End> {
        loop {
            if self.tries > 0 {
                let wait = self.come_back.take().unwrap_or_else(|| self.backoff.next());
                self.meanwhile(sleep(wait)).await?;
            }
            let url = self.options.urls.get(self.tries % self.options.urls.len().max(1)).cloned().unwrap_or_default();
            self.tries += 1;
            self.attempt = attempts::after(self.attempt);
            let attempt = open(self.options.clone(), url, self.attempt, self.since.clone());
            let error = match self.meanwhile(timeout(CONNECT_TRY, attempt)).await? {
                Ok(Ok((connection, welcome))) => {
                    if let Some(ready) = self.ready.take() {
                        let _ = ready.send(Ok(()));
                    }
                    return Ok((connection, welcome));
                }
                Ok(Err((error, come_back))) => {
                    self.come_back = come_back;
                    error
                }
                Err(_) => ConnectError::Timeout,
            };
            tracing::debug!(%error, "no connection");
            // Who has never been connected hears at once of a certificate that is not accepted; who has, waits for a
            // better one.
            let hopeless =
                matches!(error, ConnectError::Tls { .. }) || self.started.elapsed() >= self.options.connect_timeout;
            let given_up = self.ready.is_some() && hopeless;
            if given_up || !self.returns_after(&error) {
                return Err(End::Closed(error));
            }
        }
    }

    /// Waits for `future` and takes commands in the meantime; requests wait for the next connection.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                done = &mut future => return Ok(done),
                command = self.commands.recv() => match command {
                    None => return Err(End::Dropped(None)),
                    Some(Command::Close(done)) => return Err(End::Dropped(Some(done))),
                    // A signal is only worth something at the moment it is sent.
                    Some(Command::Signal { .. }) => {}
                    Some(other) => self.on_command(other),
                },
            }
        }
    }

    /// Takes any command but `Close`.
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Call(request) => {
                if let Call::Presence { users, watch: Some(watch) } = &request.ask {
                    self.watched.set(users, *watch);
                }
                self.requests.add(request);
            }
            Command::Read(conv, seq) => self.marks.set(conv, seq),
            Command::Ack(conv, seq) => self.places.done(conv, seq, Instant::now()),
            Command::Signal { to, kind, body } => {
                if self.signals.len() >= SIGNALS {
                    self.signals.pop_front();
                }
                self.signals.push_back((to, kind, body));
            }
            Command::Close(done) => drop(done),
        }
    }
}

/// A connection that was not made, and when to come back where the node said that.
type NotConnected = (ConnectError, Option<Duration>);

async fn open(
    options: Arc<ClientOptions>,
    url: String,
    attempt: u64,
    since: Option<CompactString>,
) -> Result<(Connection, Welcome), NotConnected> {
    let token = options.token.get().await.map_err(|words| (ConnectError::Token(words), None))?;
    let endpoint = Endpoint { authorities: options.authorities.clone(), ..Endpoint::new(url, options.encoding) };
    let mut connection = Connection::open(&endpoint).await.map_err(|error| (error, None))?;
    let (device, client, since) = (&options.device, &options.client, since.as_deref());
    let hello = Outgoing::Hello { token: Some(&token), device, client, attempt, since };
    match connection.hello(&hello).await {
        Ok(welcome) => Ok((connection, welcome)),
        Err(error) => Err((error, connection.come_back())),
    }
}
