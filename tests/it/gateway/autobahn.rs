//! The cases of the Autobahn test suite, which everybody's WebSocket is held to, against natter's own: as a server that
//! says back what it hears. `kosoku` from PyPI runs them; the suite itself needs Python 2.

use std::{collections::BTreeMap, path::Path, process::Command};

use natter::gateway::websocket::{Connection, End, Incoming};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::harness::{python::python_with, skip::skip};

const PACKAGE: &str = "kosoku>=0.1,<0.2";

/// The sections, and how many cases each has: framing, pings, reserved bits, opcodes, fragments, UTF-8, the closing
/// handshake, large messages, and messages in many pieces. 12 and 13 are those of permessage-deflate, which natter has not.
const SECTIONS: [(&str, usize); 9] =
    [("1", 16), ("2", 11), ("3", 7), ("4", 10), ("5", 20), ("6", 145), ("7", 37), ("9", 54), ("10", 1)];

/// The largest message of the cases is 16 MiB.
const MOST: usize = 16 << 20;

#[derive(Debug, Deserialize)]
struct Judged {
    case: String,
    behavior: String,
    close: String,
    why: String,
}

impl Judged {
    /// Strictly: "NON-STRICT" does not pass. Cases that only inform expect nothing.
    fn has_passed(&self) -> bool {
        [&self.behavior, &self.close].into_iter().all(|verdict| ["OK", "INFORMATIONAL"].contains(&verdict.as_str()))
    }

    fn words(&self) -> String {
        format!("{}: {}, closing {}: {}", self.case, self.behavior, self.close, self.why)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_autobahn_cases_pass_strictly() {
    let python = match tokio::task::spawn_blocking(|| python_with("kosoku", PACKAGE)).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return skip("the Autobahn cases", &reason),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/autobahn/cases.py");
    let mut command = Command::new(python);
    command.arg(script).arg(url).args(SECTIONS.map(|(section, _)| format!("{section}.*")));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    serving.abort();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let judged: Vec<Judged> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<_> = judged.iter().filter(|judged| !judged.has_passed()).map(Judged::words).collect();
    assert!(failed.is_empty(), "{} of {} did not pass: {failed:#?}", failed.len(), judged.len());
    let mut counts = BTreeMap::new();
    for judged in &judged {
        *counts.entry(judged.case.split('.').next().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from(SECTIONS), "cases that did not run, or new ones");
}

/// Says back what it hears, and closes with the code of what the peer did wrong.
async fn echo(mut stream: TcpStream) {
    let Some(key) = read_key(&mut stream).await else { return };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: natter\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    if stream.set_nodelay(true).is_err() || stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut connection = Connection::new(stream, &[], MOST);
    loop {
        match connection.next().await {
            Ok(Incoming::Text(text)) => connection.text(&text),
            Ok(Incoming::Binary(bytes)) => connection.binary(&bytes),
            Ok(Incoming::Control) => {}
            Err(End::Fault(fault)) => {
                connection.close(fault.code(), "");
                break;
            }
            Err(End::Closed | End::Gone) => break,
        }
    }
    connection.finish().await;
}

/// Reads the head of the request; gives its key.
async fn read_key(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    })
}
