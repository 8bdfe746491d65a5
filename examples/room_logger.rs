//! Writes what happens in a room to a file, a JSON object for each row of its log: each once, in order, without holes, over restarts
//! and kills. The file says how far it is; what it has is acknowledged, and what it lacks is read from the history.

use std::{env, error::Error, fs, fs::File, io::Write as _, process::ExitCode, slice};

use natter::{
    client::{Client, ClientOptions, Event, TokenSource},
    model::{ConvId, RoomId, Seq},
    protocol::{HistoryFrom, Message},
};

const USAGE: &str = "\
room_logger URL TOKEN_FILE ROOM FILE: joins a room and writes every message to the end of a file, as JSON lines

  URL         ws://127.0.0.1:8080/v1/ws, wss://…; of several nodes with commas between, the next one is tried
  TOKEN_FILE  the token of the user to be, read before every connection

SSL_CERT_FILE names the authorities for wss:// where they are not the system's.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [urls, token_file, room, path] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match log_room(urls, token_file, room, path).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("room_logger: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn log_room(urls: &str, token_file: &str, room: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let (mut file, mut last) = open(path)?;
    let options = ClientOptions::new("", TokenSource::of_file(token_file), "room-logger").urls(urls.split(','));
    let (client, here) = (Client::connect(options.auto_ack(false)).await?, ConvId::room(&RoomId::new(room)?));
    client.join_room(&RoomId::new(room)?).await?;
    while let Some(event) = client.next().await {
        let (conv, seq, message) = match event {
            Event::Message(message) => (message.conv.clone(), message.seq, Some(message)),
            Event::Unknown { conv, seq } => (conv, seq, None),
            Event::Closed(error) => return Err(error.into()),
            _ => continue,
        };
        // What comes twice is in the file; of what comes after a hole, all is read: the backlog was cut, or the file lost its end.
        while conv == here && seq > last {
            last = match &message {
                Some(message) if seq == last + 1 => write(&mut file, slice::from_ref(message))?,
                _ => {
                    let page = client.raw_history(&here, HistoryFrom::After(last), 200).await?;
                    write(&mut file, &page.messages)?.max(page.next.unwrap_or(seq))
                }
            };
        }
        client.ack(&conv, seq).await?;
    }
    Ok(())
}

/// Returns the place of the last row when all are on the disk.
fn write(file: &mut File, rows: &[Message]) -> Result<Seq, Box<dyn Error>> {
    for row in rows {
        file.write_all(format!("{}\n", serde_json::to_string(row)?).as_bytes())?;
    }
    file.sync_data()?;
    Ok(rows.last().map_or(0, |row| row.seq))
}

/// The file, and the place of its last row. A line without its end was cut off by a kill, and is written anew.
fn open(path: &str) -> Result<(File, Seq), Box<dyn Error>> {
    let file = File::options().create(true).append(true).open(path)?;
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    file.set_len(whole.len() as u64)?;
    let last = whole.lines().last().map_or(Ok(0), |line| serde_json::from_str::<Message>(line).map(|row| row.seq))?;
    Ok((file, last))
}
