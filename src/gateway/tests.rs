//! What an idle session costs, by type: whoever makes one of these larger sees by how much, for each of 100,000 users,
//! and says so by a new number here. `Pump` holds the socket, the session and the caller; the task, the handle and the
//! timer are pieces of memory of their own.

use tokio::{net::TcpStream, time::Sleep};

use super::{accept::run, pump::Pump, socket::Socket, websocket::Connection};
use crate::{
    ops::Caller,
    routing::SessionHandle,
    session::{Delivery, Session},
};

fn never<T>() -> T {
    unreachable!("only its type is looked at")
}

fn size_of_what_it_gives<T>(_: impl FnOnce() -> T) -> usize {
    size_of::<T>()
}

#[test]
fn an_idle_session_is_no_larger_than_it_was() {
    let running = size_of_what_it_gives(|| run(never(), never()));
    let sizes = [
        ("the stream, without what tokio keeps of it", size_of::<TcpStream>(), 40),
        ("the WebSocket on it", size_of::<Connection>() - size_of::<TcpStream>(), 88),
        ("the socket of a session around both", size_of::<Socket>() - size_of::<Connection>(), 16),
        ("the order and completeness of its messages", size_of::<Delivery>(), 336),
        ("the session besides", size_of::<Session>() - size_of::<Delivery>(), 320),
        ("who it is for ops", size_of::<Caller>(), 40),
        ("what moves frames between them", size_of::<Pump>(), 880),
        ("its timer", size_of::<Sleep>(), 112),
        ("what the node sees of it, with its mailbox", size_of::<SessionHandle>(), 240),
        ("the task", running, 64),
    ];
    let grown: Vec<_> = sizes.into_iter().filter(|(_, size, most)| size > most).collect();
    assert!(grown.is_empty(), "larger than they were: {grown:?}");
}
