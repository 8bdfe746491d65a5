//! Checks whether a server answers, and to which servers of its cluster it has routes. Called by [`super::running`].
//! Uses plain sockets: a client library would retry, and here the first answer is what matters.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_millis(500);

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Logs in and pings; `Ok` means that the server serves this user.
pub(super) fn ping(addr: SocketAddr, user: &str, password: &str) -> io::Result<()> {
    let mut stream = BufReader::new(connect(addr)?);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.starts_with("INFO ") {
        return Err(io::Error::other(format!("not a NATS server: it greets with {line:?}")));
    }
    let login = serde_json::json!({"verbose": false, "pedantic": false, "user": user, "pass": password});
    stream.get_mut().write_all(format!("CONNECT {login}\r\nPING\r\n").as_bytes())?;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim() {
            "PONG" => return Ok(()),
            refused if refused.starts_with("-ERR") => return Err(io::Error::other(refused.to_owned())),
            _ => {}
        }
    }
}

/// The servers to which the one with this monitoring address has a route.
pub(super) fn routes(monitor: SocketAddr) -> io::Result<BTreeSet<String>> {
    let mut stream = connect(monitor)?;
    stream.write_all(b"GET /routez HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(&[][..], |head| &answer[head + 4..]);
    let routez: Routez = serde_json::from_slice(body)?;
    Ok(routez.routes.into_iter().map(|route| route.remote_name).collect())
}

#[derive(serde::Deserialize)]
struct Routez {
    /// Several per server: the servers keep pools of routes.
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(serde::Deserialize)]
struct Route {
    remote_name: String,
}
