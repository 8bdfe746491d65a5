//! A connection on a real TCP stream: what it keeps, what it gives back, and how it ends.

use futures_util::FutureExt as _;
use tokio::net::TcpSocket;

use super::{super::decoder::tests::frame, *};

/// Both ends of a stream whose buffers in the system are small.
async fn pair(most: usize) -> (Connection, TcpStream) {
    let small = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.set_send_buffer_size(4 << 10).unwrap();
        socket
    };
    let listening = small();
    listening.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = listening.listen(1).unwrap();
    let peer = small().connect(listener.local_addr().unwrap()).await.unwrap();
    (Connection::new(listener.accept().await.unwrap().0, &[], most), peer)
}

/// Polls once.
fn poll_once<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(poll).now_or_never()
}

#[tokio::test]
async fn nothing_is_kept_between_frames() {
    let (mut connection, mut peer) = pair(1 << 20).await;
    let said = [frame(0x81, b"one"), frame(0x01, b"two"), frame(0x89, b"ping"), frame(0x80, b" halves")].concat();
    peer.write_all(&said).await.unwrap();
    for expected in [&b"one"[..], b"", b"two halves"] {
        match connection.next().await.unwrap() {
            Incoming::Text(text) => assert_eq!(&*text, expected),
            other => assert_eq!((other, expected), (Incoming::Control, &b""[..])),
        }
    }
    assert!(poll_once(|cx| connection.poll_next(cx).map(|_| ())).is_none());
    connection.text(b"an answer");
    connection.flush().await.unwrap();
    assert_eq!(connection.held(), 0);
    let mut answers = [0; 17];
    peer.read_exact(&mut answers).await.unwrap();
    assert_eq!(&answers, b"\x8a\x04ping\x81\x09an answer");
}

/// What a reader leaves is kept to the byte, and the thread has its buffer for others.
#[tokio::test]
async fn who_rests_keeps_what_is_left_and_nothing_more() {
    let (mut connection, mut peer) = pair(1 << 20).await;
    let second = frame(0x82, b"second");
    peer.write_all(&[frame(0x82, b"first"), second.clone()].concat()).await.unwrap();
    assert_eq!(connection.next().await, Ok(Incoming::Binary(b"first".into())));
    assert_eq!(connection.held(), second.len());
    assert_eq!(connection.next().await, Ok(Incoming::Binary(b"second".into())));
    assert_eq!(connection.held(), 0);
}

/// What was read beyond the handshake comes first, also where a frame is cut there.
#[tokio::test]
async fn what_was_read_ahead_comes_first() {
    let (connection, mut peer) = pair(1 << 20).await;
    let (first, second) = (frame(0x82, b"first"), frame(0x82, b"second"));
    let ahead = [&first[..], &second[..3]].concat();
    let mut connection = Connection::new(connection.stream, &ahead, 100);
    peer.write_all(&second[3..]).await.unwrap();
    assert_eq!(connection.next().await, Ok(Incoming::Binary(b"first".into())));
    assert_eq!(connection.next().await, Ok(Incoming::Binary(b"second".into())));
}

/// A peer that reads nothing: what waits for it is held in at most twice as much memory, and goes out in order.
#[tokio::test]
async fn a_slow_reader_has_what_waits_for_it_and_little_more() {
    const FRAMES: usize = 400;
    let (mut connection, mut peer) = pair(1 << 20).await;
    let payload = |i: usize| vec![i as u8; 100 + i * 20];
    let mut most = 0;
    for i in 0..FRAMES {
        connection.binary(&payload(i));
        let flushed = poll_once(|cx| connection.poll_flush(cx)).is_some();
        let (held, waiting) = (connection.held(), connection.waiting());
        assert!(if flushed { held == 0 } else { held <= waiting * 4 }, "{held} bytes for {waiting}");
        most = most.max(waiting);
    }
    assert!(most > 10 * LENT, "only {most} bytes ever waited: this tests nothing");
    let reading = async {
        for i in 0..FRAMES {
            let mut head = [0; 4];
            peer.read_exact(&mut head[..2]).await.unwrap();
            let expected = payload(i);
            if head[1] == 126 {
                peer.read_exact(&mut head[2..]).await.unwrap();
            }
            let mut bytes = vec![0; expected.len()];
            peer.read_exact(&mut bytes).await.unwrap();
            assert_eq!((head[0], bytes), (0x82, expected), "frame {i}");
        }
    };
    let (flushed, ()) = tokio::join!(connection.flush(), reading);
    flushed.unwrap();
    assert_eq!(connection.held(), 0);
}

/// Answers to pings do not pile up for a peer that reads none: then its pings are not read either.
#[tokio::test]
async fn pings_of_a_peer_that_reads_nothing_wait_with_it() {
    let (mut connection, mut peer) = pair(1 << 20).await;
    let pings = frame(0x89, &[7; 125]).repeat(1_000);
    let writing = tokio::spawn(async move { while peer.write_all(&pings).await.is_ok() {} });
    let mut heard = 0;
    loop {
        match timeout(Duration::from_millis(200), connection.next()).await {
            Ok(next) => assert_eq!(next, Ok(Incoming::Control)),
            Err(_) if connection.waiting() > LENT => break,
            Err(_) => {}
        }
        heard += 1;
        assert!(connection.waiting() <= 2 * LENT, "{} bytes of answers wait", connection.waiting());
        assert!(heard < 100_000, "pings are taken for ever from a peer that reads nothing");
    }
    writing.abort();
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_comes_after_it() {
    let (mut connection, mut peer) = pair(1 << 20).await;
    let close = frame(0x88, &[&4321_u16.to_be_bytes()[..], b"bye"].concat());
    peer.write_all(&[close, frame(0x81, b"too late")].concat()).await.unwrap();
    assert_eq!(connection.next().await, Err(End::Closed));
    assert_eq!(connection.next().await, Err(End::Closed));
    connection.text(b"too late");
    connection.close(1000, "");
    let reading = async {
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        drop(peer);
        answer
    };
    let ((), answer) = tokio::join!(connection.finish(), reading);
    assert_eq!(answer, [&b"\x88\x02"[..], &4321_u16.to_be_bytes()].concat());
}

/// A peer that never ends its side is waited for, but not for long; and it has the code although it was still writing.
#[tokio::test]
async fn who_is_closed_in_the_middle_of_writing_has_the_code() {
    let (mut connection, mut peer) = pair(1 << 20).await;
    peer.write_all(&frame(0x81, b"unread").repeat(100)).await.unwrap();
    connection.close(4003, "why");
    let reading = async {
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let begin = std::time::Instant::now();
    let ((), answer) = tokio::join!(connection.finish(), reading);
    drop(connection);
    assert_eq!(answer, b"\x88\x05\x0f\xa3why");
    assert!(begin.elapsed() < CLOSING + LINGER + Duration::from_secs(10), "{:?}", begin.elapsed());
}
