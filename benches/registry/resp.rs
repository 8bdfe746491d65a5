//! `SET` and `GET` of Redis: a server of a hash map, and a client that pipelines on one connection as a good library does.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, oneshot},
};

type Values = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;
type Reply = oneshot::Sender<Option<Vec<u8>>>;

/// Serves an empty map; returns where.
pub(crate) async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let values = Values::default();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, values.clone()));
        }
    });
    address
}

async fn answer(socket: TcpStream, values: Values) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (read, write) = socket.into_split();
    let (mut read, mut write) = (BufReader::new(read), BufWriter::new(write));
    while let Some(words) = command(&mut read).await? {
        let said = match words.as_slice() {
            [word, key] if word == b"GET" => values.lock().expect("the map").get(key).cloned(),
            [word, key, value] if word == b"SET" => {
                values.lock().expect("the map").insert(key.clone(), value.clone());
                Some(b"OK".to_vec())
            }
            _ => None,
        };
        match said {
            Some(value) => {
                write.write_all(format!("${}\r\n", value.len()).as_bytes()).await?;
                write.write_all(&value).await?;
                write.write_all(b"\r\n").await?;
            }
            None => write.write_all(b"$-1\r\n").await?,
        }
        if read.buffer().is_empty() {
            write.flush().await?;
        }
    }
    Ok(())
}

/// The words of a command; none at the end.
async fn command(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(count) = number(read).await? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(bulk(read).await?.unwrap_or_default());
    }
    Ok(Some(words))
}

async fn number(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<i64>> {
    let mut line = String::new();
    read.read_line(&mut line).await?;
    Ok(line.get(1..).and_then(|text| text.trim_end().parse().ok()))
}

async fn bulk(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let Some(Ok(len)) = number(read).await?.map(usize::try_from) else { return Ok(None) };
    let mut value = vec![0; len + 2];
    read.read_exact(&mut value).await?;
    value.truncate(len);
    Ok(Some(value))
}

/// One connection, on which many requests are under way.
#[derive(Clone)]
pub(crate) struct Client(mpsc::UnboundedSender<(Vec<u8>, Reply)>);

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.expect("the registry must be there");
        socket.set_nodelay(true).expect("an option");
        let (read, write) = socket.into_split();
        let (asks, mut asked) = mpsc::unbounded_channel::<(Vec<u8>, Reply)>();
        let waiting = Arc::new(Mutex::new(VecDeque::<Reply>::new()));
        let answers = waiting.clone();
        tokio::spawn(async move {
            let (mut write, mut some) = (BufWriter::new(write), Vec::new());
            while asked.recv_many(&mut some, 256).await > 0 {
                for (bytes, reply) in some.drain(..) {
                    answers.lock().expect("the queue").push_back(reply);
                    write.write_all(&bytes).await.expect("the registry takes requests");
                }
                write.flush().await.expect("the registry takes requests");
            }
        });
        tokio::spawn(async move {
            let mut read = BufReader::new(read);
            loop {
                // A simple string, which a real Redis says to SET, has no length.
                let is_simple = read.fill_buf().await.is_ok_and(|bytes| bytes.first() == Some(&b'+'));
                let value = match is_simple {
                    true => read.read_line(&mut String::new()).await.map(|_| None),
                    false => bulk(&mut read).await,
                };
                let Ok(value) = value else { return };
                let Some(reply) = waiting.lock().expect("the queue").pop_front() else { return };
                let _ = reply.send(value);
            }
        });
        Self(asks)
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.ask(&["GET", key]).await
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        self.ask(&["SET", key, value]).await;
    }

    async fn ask(&self, words: &[&str]) -> Option<Vec<u8>> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let (reply, answer) = oneshot::channel();
        self.0.send((bytes.into_bytes(), reply)).ok()?;
        answer.await.ok().flatten()
    }
}
