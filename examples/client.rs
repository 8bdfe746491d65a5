//! The Rust client as a program on the command line: what it is told on its standard input it sends, what it gets it writes to
//! its standard output, as `docs/conform.md` says. `natter conform -- target/debug/examples/client` puts it through everything.

use std::{env, error::Error, io::BufRead as _, pin::Pin};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use natter::{
    client::{Client, ClientOptions, ConnectError, Event, RequestError, SentInfo, TokenSource},
    model::Cid,
    protocol::{Body, ask::SendOptions},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What the program is asked for.
#[derive(Deserialize)]
struct Deed {
    id: String,
    to: String,
    body: Body,
}

type Sending = Pin<Box<dyn Future<Output = (String, Result<SentInfo, RequestError>)>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let token = TokenSource::of_file(env::var("NATTER_TOKEN_FILE")?);
    let options = ClientOptions::new("", token, env::var("NATTER_DEVICE")?).in_flight(1_000);
    let client = Client::start(options.urls(env::var("NATTER_URL")?.split(',')));
    let mut deeds = deeds();
    let mut sending = FuturesUnordered::<Sending>::new();
    loop {
        tokio::select! {
            event = client.next() => match event {
                Some(Event::Message(message)) => {
                    let mut told = serde_json::to_value(&message)?;
                    told["event"] = json!("message");
                    tell(&told);
                }
                Some(Event::Closed(ConnectError::Closed { code, .. })) => tell(&json!({"event": "closed", "code": code})),
                Some(Event::Closed(error)) => tell(&json!({"event": "closed", "reason": error.to_string()})),
                Some(_) => {}
                None => return Ok(()),
            },
            deed = deeds.recv() => match deed {
                // What is written first is sent first, and waits for no answer.
                Some(Deed { id, to, body }) => match client.post(&to, Cid::fresh().as_str(), body, SendOptions::default()).await {
                    Ok(answer) => sending.push(Box::pin(async move { (id, answer.await) })),
                    Err(error) => tell_end(&id, Err(error)),
                },
                None => {
                    client.close().await;
                    return Ok(());
                }
            },
            Some((id, sent)) = sending.next(), if !sending.is_empty() => tell_end(&id, sent),
        }
    }
}

fn tell_end(id: &str, sent: Result<SentInfo, RequestError>) {
    match sent {
        Ok(SentInfo { conv, seq, .. }) => tell(&json!({"event": "sent", "id": id, "conv": conv, "seq": seq})),
        Err(RequestError::Refused { code, .. }) => tell(&json!({"event": "refused", "id": id, "code": code})),
        // Of a client that is closed for good nobody knows what became of it.
        Err(_) => {}
    }
}

fn tell(event: &Value) {
    println!("{event}");
}

/// The lines of the standard input; ends with it.
fn deeds() -> mpsc::Receiver<Deed> {
    let (give, deeds) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let given = match serde_json::from_str(&line) {
                Ok(deed) => give.blocking_send(deed).is_ok(),
                Err(error) => {
                    eprintln!("{error}: {line}");
                    true
                }
            };
            if !given {
                return;
            }
        }
    });
    deeds
}
