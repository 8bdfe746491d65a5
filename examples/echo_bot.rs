//! A bot that answers every direct message with the same words. Each message gets one answer, whatever is killed in between: it is
//! acknowledged only once it is answered, and the answer's cid follows from the message.

use std::{env, error::Error, process::ExitCode};

use natter::{
    client::{Client, ClientOptions, Event, RequestError, TokenSource},
    model::{Kind, UserId},
    protocol::{Message, ask::SendOptions},
};

const USAGE: &str = "\
echo_bot URL TOKEN_FILE: answers every direct message with the same words

  URL         ws://127.0.0.1:8080/v1/ws, wss://…; of several nodes with commas between, the next one is tried
  TOKEN_FILE  the token of the user to be, read before every connection

Beside a running `natter dev`:

  natter token echo > echo.token
  cargo run --example echo_bot ws://127.0.0.1:8080/v1/ws echo.token
  natter send --user alice --to @echo \"hello?\" && natter tail --user alice -n 1

SSL_CERT_FILE names the authorities for wss:// where they are not the system's.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [urls, token_file] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match answer_all(urls, token_file).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_bot: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn answer_all(urls: &str, token_file: &str) -> Result<(), Box<dyn Error>> {
    let options = ClientOptions::new("", TokenSource::of_file(token_file), "echo-bot").urls(urls.split(','));
    let client = Client::connect(options.auto_ack(false)).await?;
    let mut me = None;
    while let Some(event) = client.next().await {
        match event {
            Event::Connected(welcome) => me = Some(welcome.user),
            Event::Message(message) => {
                answer(&client, me.as_ref(), &message).await?;
                // Only now: what a kill leaves unanswered comes again.
                client.ack(&message.conv, message.seq).await?;
            }
            Event::Unknown { conv, seq } => client.ack(&conv, seq).await?,
            Event::Disconnected(error) => eprintln!("echo_bot: {error}; coming back"),
            Event::Closed(error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

async fn answer(client: &Client, me: Option<&UserId>, message: &Message) -> Result<(), RequestError> {
    let Message { conv, seq, from, kind: Kind::Message, body: Some(body), .. } = message else { return Ok(()) };
    if conv.is_room() || me == Some(from) {
        return Ok(());
    }
    // Sent again, even by a later run, it is stored once.
    let (cid, options) = (format!("echo-{seq}"), SendOptions { reply_to: Some(*seq), ..SendOptions::default() });
    match client.send_with(&format!("@{from}"), &cid, body.clone(), options).await {
        // Whoever blocks the bot gets no answer; the others do.
        Err(error) if error.code().is_some() => eprintln!("echo_bot: {from}: {error}"),
        sent => drop(sent?),
    }
    Ok(())
}
