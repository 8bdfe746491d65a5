//! Making one connection: TCP, the server's INFO, TLS, CONNECT, and a PONG that says that the server took it. Called by
//! [`super::keep`].

use std::{future::poll_fn, io};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{
    codec::{Decoded, Malformed, decode, encode},
    conn::{Input, Stream},
    login,
    ops::{ClientOp, Info, ServerOp},
    servers::Server,
    tls,
};
use crate::bus::options::NatsOptions;

/// A connection that a server took.
pub(super) struct Fresh {
    pub(super) stream: Stream,
    /// What came behind the PONG.
    pub(super) input: Input,
    pub(super) info: Info,
}

/// Why a server did not take this node.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// It refuses the account: waiting does not help.
    #[error("{0}")]
    Account(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not the NATS protocol: {0}")]
    Malformed(#[from] Malformed),
    /// In its words, or in those of the login.
    #[error("{0}")]
    Other(String),
}

/// Connects to `server`, in no more than the time that the options give.
pub(super) async fn dial(options: &NatsOptions, server: &Server) -> Result<Fresh, Failed> {
    let dialled = timeout(options.connect_timeout, async {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        stream.set_nodelay(true)?;
        introduce(options, server, Box::new(stream)).await
    });
    dialled.await.unwrap_or_else(|_| Err(Failed::Io(io::ErrorKind::TimedOut.into())))
}

/// Everything that comes after TCP.
pub(super) async fn introduce(options: &NatsOptions, server: &Server, mut stream: Stream) -> Result<Fresh, Failed> {
    let wants_tls = server.wants_tls || options.tls.is_set() || options.tls_first;
    if options.tls_first {
        stream = tls::encrypt(stream, &options.tls, &server.tls_name).await?;
    }
    let mut input = Input::default();
    let mut info = hello(&mut stream, &mut input).await?;
    if !options.tls_first && (wants_tls || info.tls_required) {
        if !info.tls_required && !info.tls_available {
            return Err(Failed::Tls("the server does not offer it".to_owned()));
        }
        // What is there already came before the encryption: from anybody.
        if !input.bytes().is_empty() {
            return Err(Failed::Tls("the server went on without it".to_owned()));
        }
        stream = tls::encrypt(stream, &options.tls, &server.tls_name).await?;
    }
    let is_encrypted = wants_tls || info.tls_required;
    let (asking, asked) = (options.clone(), info.clone());
    let login = tokio::task::spawn_blocking(move || login::connect(&asking, &asked, is_encrypted)).await;
    let login = login.map_err(|error| Failed::Other(error.to_string()))?.map_err(Failed::Other)?;
    let mut commands = Vec::new();
    encode(&ClientOp::Connect(&login), &mut commands);
    encode(&ClientOp::Ping, &mut commands);
    stream.write_all(&commands).await?;
    stream.flush().await?;
    until_pong(&mut stream, &mut input, &mut info).await?;
    Ok(Fresh { stream, input, info })
}

/// The first that a server says.
async fn hello(stream: &mut Stream, input: &mut Input) -> Result<Info, Failed> {
    let mut hello = None;
    read(stream, input, |op| match op {
        ServerOp::Info(info) => {
            hello = Some(*info);
            Ok(true)
        }
        ServerOp::Err(text) => Err(told(text)),
        _ => Err(Failed::Other("this is no NATS server: it does not begin with INFO".to_owned())),
    })
    .await?;
    hello.ok_or_else(|| Failed::Other("no INFO".to_owned()))
}

async fn until_pong(stream: &mut Stream, input: &mut Input, info: &mut Info) -> Result<(), Failed> {
    read(stream, input, |op| match op {
        ServerOp::Pong => Ok(true),
        ServerOp::Err(text) => Err(told(text)),
        // The nonce was for the first one; what the cluster is like may have changed.
        ServerOp::Info(news) => {
            *info = *news;
            Ok(false)
        }
        _ => Ok(false),
    })
    .await
}

/// Reads until `on` says that this was it; what comes behind stays in the input.
async fn read(
    stream: &mut Stream,
    input: &mut Input,
    mut on: impl FnMut(ServerOp<'_>) -> Result<bool, Failed>,
) -> Result<(), Failed> {
    loop {
        let needed = match decode(input.bytes())? {
            Decoded::Op(op, used) => {
                let is_it = on(op)?;
                input.used(used);
                if is_it {
                    return Ok(());
                }
                continue;
            }
            Decoded::Part(needed) => needed,
        };
        if !poll_fn(|cx| input.poll_read(cx, stream, needed)).await? {
            return Err(Failed::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What a server says before it hangs up.
fn told(text: &[u8]) -> Failed {
    let text = String::from_utf8_lossy(text).into_owned();
    let lower = text.to_ascii_lowercase();
    let is_account = lower.contains("authorization violation")
        || ["user authentication", "account authentication"].iter().any(|start| lower.starts_with(start));
    if is_account { Failed::Account(text) } else { Failed::Other(text) }
}
