//! The handle that a program holds. Called by send, tail and the tests; only passes requests on to the driver.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    ClientOptions, ConnectError, Event, RequestError,
    driver::{Command, Driver},
    events::Events,
    requests::{Call, ConversationsPage, HistoryPage, PendingCall, Reply, SentInfo},
};
use crate::{
    model::{Cid, ConvId, Millis, Recipient, Seq, SessionId},
    protocol::{
        Body, HistoryFrom,
        ask::{EndSession, SendOptions, SessionsPage},
    },
};

/// What a client hears, as a stream: see [`Client::events`].
#[derive(Debug, Clone)]
pub struct EventStream(Client);

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.events.poll_next(cx)
    }
}

/// Commands on their way to the driver, which takes them whatever the state of the connection.
const COMMANDS: usize = 64;

/// A client. Clones share one connection, and each event goes to one of them. When the last clone is dropped the
/// connection is closed.
///
/// ```no_run
/// # async fn talk(token: String) -> Result<(), Box<dyn std::error::Error>> {
/// use natter::{client::{Client, ClientOptions, Event}, protocol::Body};
///
/// let client = Client::connect(ClientOptions::new("ws://127.0.0.1:8080/v1/ws", token, "laptop")).await?;
/// let sent = client.send("@bob", Body::text("hi")).await?;
/// println!("stored as {} {}", sent.conv, sent.seq);
/// while let Some(event) = client.next().await {
///     match event {
///         Event::Message(message) => println!("{}: {:?}", message.from, message.body),
///         Event::Disconnected(error) => eprintln!("{error}, coming back"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    in_flight: Arc<Semaphore>,
    events: Arc<Events>,
}

impl Client {
    /// Connects, and returns when a node has said `welcome`.
    ///
    /// # Errors
    /// The last reason, when the node refuses for good or `connect_timeout` has passed.
    pub async fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        let (ready, first) = oneshot::channel();
        let client = Self::spawn(options, Some(ready));
        match first.await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectError::Protocol("the client's task ended".into())),
        }
    }

    /// Starts connecting and returns at once; requests wait for the connection. Must be called inside a runtime.
    pub fn start(options: ClientOptions) -> Self {
        Self::spawn(options, None)
    }

    fn spawn(options: ClientOptions, ready: Option<oneshot::Sender<Result<(), ConnectError>>>) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let events = Arc::new(Events::new(options.auto_ack));
        let in_flight = Arc::new(Semaphore::new(options.in_flight.max(1)));
        tokio::spawn(Driver::new(options, commands, events.clone(), ready).run());
        Self { commands: sender, in_flight, events }
    }

    /// The next event; `None` after [`Event::Closed`] or [`Client::close`]. Cancel safe.
    pub async fn next(&self) -> Option<Event> {
        self.events.next().await
    }

    /// The same as a [`Stream`], for the combinators of `futures`. It shares the events with whoever calls [`Client::next`],
    /// and keeps the connection like a clone.
    ///
    /// ```no_run
    /// # async fn texts(client: natter::client::Client) {
    /// use std::pin::pin;
    ///
    /// use futures_util::StreamExt as _;
    /// use natter::client::Event;
    ///
    /// let mut texts = pin!(client.events().filter_map(async |event| match event {
    ///     Event::Message(message) => message.body?.parse::<String>().ok(),
    ///     _ => None,
    /// }));
    /// while let Some(text) = texts.next().await {
    ///     println!("{text}");
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> EventStream {
        EventStream(self.clone())
    }

    /// Sends a message with a fresh cid and waits until it is durable, across reconnects if need be. Put your own time
    /// limit around it: a send that is given up may or may not be stored. Waits while [`ClientOptions::in_flight`]
    /// other requests are unanswered.
    ///
    /// Messages to one recipient keep their order as long as each is sent after the previous one was answered; with
    /// [`Client::post`] they need not wait for that.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn send(&self, to: &str, body: Body) -> Result<SentInfo, RequestError> {
        self.send_with_cid(to, Cid::fresh().as_str(), body).await
    }

    /// The same with the caller's own cid: sending it again, even from another process, stores nothing twice.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn send_with_cid(&self, to: &str, cid: &str, body: Body) -> Result<SentInfo, RequestError> {
        self.send_with(to, cid, body, SendOptions::default()).await
    }

    /// The same with what the message refers to, and how long it counts.
    ///
    /// ```no_run
    /// # async fn answer(client: &natter::client::Client) -> Result<(), natter::client::RequestError> {
    /// use natter::protocol::{Body, ask::SendOptions};
    ///
    /// let options = SendOptions { reply_to: Some(7), ..SendOptions::default() };
    /// client.send_with("@bob", "answer-to-7", Body::text("yes"), options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn send_with(
        &self,
        to: &str,
        cid: &str,
        body: Body,
        options: SendOptions,
    ) -> Result<SentInfo, RequestError> {
        self.post(to, cid, body, options).await?.await
    }

    /// The same in two steps: the first ends when the message has its place behind all that were posted before, the second
    /// when it is durable. So many may be on their way at once, in the order of writing.
    ///
    /// # Errors
    /// In the first step a bad name, or that the client is closed; in the second also why it was refused.
    ///
    /// ```no_run
    /// # async fn send_all(client: &natter::client::Client, lines: Vec<String>) -> Result<(), natter::client::RequestError> {
    /// use futures_util::{StreamExt as _, stream::FuturesOrdered};
    /// use natter::{model::Cid, protocol::{Body, ask::SendOptions}};
    ///
    /// let mut answers = FuturesOrdered::new();
    /// for line in lines {
    ///     answers.push_back(client.post("#lobby", Cid::fresh().as_str(), Body::text(&line), SendOptions::default()).await?);
    /// }
    /// while let Some(sent) = answers.next().await {
    ///     println!("stored at {}", sent?.seq);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn post(
        &self,
        to: &str,
        cid: &str,
        body: Body,
        options: SendOptions,
    ) -> Result<impl Future<Output = Result<SentInfo, RequestError>> + Send + use<>, RequestError> {
        let to: Recipient = to.parse().map_err(|error| RequestError::Name { field: "to", error })?;
        let cid = Cid::new(cid).map_err(|error| RequestError::Name { field: "cid", error })?;
        let answer = self.begin(Call::Send { to, cid, body, options }).await?;
        Ok(async move {
            match answer.await.unwrap_or(Err(RequestError::Dropped))? {
                Reply::Sent(info) => Ok(info),
                other => Err(mismatch(&other)),
            }
        })
    }

    /// A page of a conversation, at most 200 messages, with edits, deletions and reactions in the messages that they are about.
    /// It may be smaller and have a next one all the same.
    ///
    /// ```no_run
    /// # async fn read_all(client: &natter::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use natter::{model::ConvId, protocol::HistoryFrom};
    ///
    /// let (conv, mut after) = (ConvId::new("dm:alice:bob")?, Some(0));
    /// while let Some(from) = after {
    ///     let page = client.history(&conv, HistoryFrom::After(from), 100).await?;
    ///     page.messages.iter().for_each(|message| println!("{} {}", message.seq, message.from));
    ///     after = page.next;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn history(&self, conv: &ConvId, from: HistoryFrom, limit: usize) -> Result<HistoryPage, RequestError> {
        self.page(conv, from, limit, false).await
    }

    pub(super) async fn page(
        &self,
        conv: &ConvId,
        from: HistoryFrom,
        limit: usize,
        raw: bool,
    ) -> Result<HistoryPage, RequestError> {
        match self.ask(Call::History { conv: conv.clone(), from, limit, raw }).await? {
            Reply::History(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// A page of the list of conversations, at most 100. `after` is the `next` of the previous page.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn conversations(&self, after: Option<String>, limit: usize) -> Result<ConversationsPage, RequestError> {
        match self.ask(Call::Conversations { after, limit }).await? {
            Reply::Conversations(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// The user's devices and live sessions. A session on a node that does not answer within a quarter of a second is
    /// missing.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn sessions(&self) -> Result<SessionsPage, RequestError> {
        match self.ask(Call::Sessions).await? {
            Reply::Sessions(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Ends another session of the user, or all of a device, which is forgotten; returns which were ended. Said again after
    /// a reconnect, it may be answered with `not_found` though it was this client that ended them.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn end_session(&self, which: EndSession) -> Result<Vec<SessionId>, RequestError> {
        match self.ask(Call::EndSession(which)).await? {
            Reply::Ended(sessions) => Ok(sessions),
            other => Err(mismatch(&other)),
        }
    }

    /// Gives the node a fresh token of the same user, without a reconnect. Returns the time at which the new token
    /// expires.
    ///
    /// # Errors
    /// Why it was refused, or that the client is closed.
    pub async fn refresh_token(&self, token: &str) -> Result<Millis, RequestError> {
        match self.ask(Call::Token { token: token.to_owned() }).await? {
            Reply::Token(exp) => Ok(exp),
            other => Err(mismatch(&other)),
        }
    }

    /// Asks the node for a sign of life and waits for it, over a reconnect if need be. Put your own time limit around
    /// it: a link that is gone is noticed only after twice the time between the node's pings.
    ///
    /// # Errors
    /// That the client is closed.
    pub async fn ping(&self) -> Result<(), RequestError> {
        match self.ask(Call::Ping).await? {
            Reply::Pong => Ok(()),
            other => Err(mismatch(&other)),
        }
    }

    /// Marks everything up to `seq` as read. Has no answer; is said again after a reconnect.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn read(&self, conv: &ConvId, seq: Seq) -> Result<(), RequestError> {
        self.command(Command::Read(conv.clone(), seq)).await
    }

    /// Acknowledges everything up to `seq`; needed only with `auto_ack` off.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn ack(&self, conv: &ConvId, seq: Seq) -> Result<(), RequestError> {
        self.command(Command::Ack(conv.clone(), seq)).await
    }

    /// A live signal such as `typing`; lost when there is no connection.
    ///
    /// ```no_run
    /// # async fn types(client: &natter::client::Client) -> Result<(), natter::client::RequestError> {
    /// client.signal("#lobby", "typing", None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A bad recipient, or that the client is closed.
    pub async fn signal(&self, to: &str, kind: &str, body: Option<Body>) -> Result<(), RequestError> {
        let to: Recipient = to.parse().map_err(|error| RequestError::Name { field: "to", error })?;
        self.command(Command::Signal { to, kind: kind.to_owned(), body }).await
    }

    /// Writes the pending acknowledgements and closes the connection. Unanswered requests fail.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.command(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    pub(super) async fn ask(&self, ask: Call) -> Result<Reply, RequestError> {
        self.begin(ask).await?.await.unwrap_or(Err(RequestError::Dropped))
    }

    async fn begin(&self, ask: Call) -> Result<oneshot::Receiver<Result<Reply, RequestError>>, RequestError> {
        let permit = self.in_flight.clone().acquire_owned().await.ok();
        let (reply, answer) = oneshot::channel();
        self.command(Command::Call(PendingCall { ask, reply, permit })).await?;
        Ok(answer)
    }

    async fn command(&self, command: Command) -> Result<(), RequestError> {
        self.commands.send(command).await.map_err(|_| RequestError::Dropped)
    }
}

pub(super) fn mismatch(answer: &Reply) -> RequestError {
    RequestError::Closed(ConnectError::Protocol(format!("the answer is of another kind: {answer:?}")))
}
