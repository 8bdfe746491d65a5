//! What comes on the standard input goes into a conversation, a message for each line, and what others say there comes out. Many
//! lines are on their way at once, in order; a node that dies costs none of them. It ends when the input has and all is stored.

use std::{env, error::Error, io, process::ExitCode};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use natter::{
    client::{Client, ClientOptions, Event, TokenSource},
    model::{Cid, ConvId, Recipient, UserId},
    protocol::{Body, Message, ask::SendOptions},
};
use tokio::sync::mpsc;

const USAGE: &str = "\
bridge URL TOKEN_FILE TO: lines of the standard input become messages, and the messages of others lines of the output

  URL         ws://127.0.0.1:8080/v1/ws, wss://…; of several nodes with commas between, the next one is tried
  TOKEN_FILE  the token of the user to be, read before every connection
  TO          @user or #room, of which the user must be a member

  journalctl -f | bridge wss://chat.example.org/v1/ws token '#ops'

SSL_CERT_FILE names the authorities for wss:// where they are not the system's.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [urls, token_file, to] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match bridge(urls, token_file, to).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bridge(urls: &str, token_file: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let recipient: Recipient = to.parse()?;
    let options = ClientOptions::new("", TokenSource::of_file(token_file), "bridge").urls(urls.split(','));
    let client = Client::connect(options).await?;
    let (mut lines, mut more, mut answers, mut me) = (lines(), true, FuturesUnordered::new(), None);
    while more || !answers.is_empty() {
        tokio::select! {
            // As many as the client has on its way: one more would wait, and what comes in with it.
            line = lines.recv(), if more && answers.len() < 64 => match line {
                // Takes its place behind those before it, and waits for no answer of theirs.
                Some(line) => answers.push(client.post(to, Cid::fresh().as_str(), Body::text(&line?), SendOptions::default()).await?),
                None => more = false,
            },
            Some(sent) = answers.next() => drop(sent?),
            event = client.next() => match event {
                Some(Event::Connected(welcome)) => me = Some(welcome.user),
                Some(Event::Message(message)) => show(&message, me.as_ref(), &recipient),
                Some(Event::Disconnected(error)) => eprintln!("bridge: {error}; coming back"),
                Some(Event::Closed(error)) => return Err(error.into()),
                _ => {}
            },
        }
    }
    client.close().await;
    Ok(())
}

fn show(Message { conv, from, body, .. }: &Message, me: Option<&UserId>, recipient: &Recipient) {
    let (Some(me), Some(body)) = (me, body) else { return };
    if *conv == ConvId::between(me, recipient) && from != me {
        println!("{from}: {}", body.parse::<String>().unwrap_or_else(|_| serde_json::json!(body).to_string()));
    }
}

fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (give, lines) = mpsc::channel(64);
    std::thread::spawn(move || io::stdin().lines().all(|line| give.blocking_send(line).is_ok()));
    lines
}
