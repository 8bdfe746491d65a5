//! A private nats-server: it answers once it is started, keeps its ports, and never outlives its parent.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use natter::nats_server::{NatsServer, ServerError, ServerOptions};

use crate::harness::{
    nats::Cluster,
    process::{Process, runs, stat},
    until,
};

fn answers(addr: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

#[tokio::test]
async fn a_restart_keeps_the_ports_and_a_drop_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    let (first, addr) = (server.pid(), server.client_addr());
    assert!(answers(addr));
    server.restart().await.unwrap();
    assert_ne!(server.pid(), first);
    assert_eq!(server.client_addr(), addr);
    assert!(!runs(first) && runs(server.pid()));
    let second = server.pid();
    drop(server);
    assert!(!runs(second) && !answers(addr));
}

#[tokio::test]
async fn it_stops_when_asked_also_when_paused() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    server.pause();
    let begin = Instant::now();
    server.stop().await;
    assert!(server.exited().is_some());
    assert!(begin.elapsed() < Duration::from_secs(4), "it was killed, not stopped");
    let log = std::fs::read_to_string(folder.path().join("nats-server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "{log}");
}

#[tokio::test]
async fn a_server_that_is_watched_over_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    let (pid, addr) = (server.pid(), server.client_addr());
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let back = until("it is back", async || !runs(pid) && answers(addr));
    tokio::select! {
        () = server.watch_over() => unreachable!("it never returns"),
        () = back => {}
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = ServerOptions::new(folder.path());
    options.port = taken.local_addr().unwrap().port();
    let error = NatsServer::start(options).await.unwrap_err();
    assert!(matches!(error, ServerError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("address already in use"), "{error}");
}

#[tokio::test]
async fn the_terminals_ctrl_c_does_not_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    assert_eq!(stat(server.pid()).unwrap().group, server.pid());
}

#[tokio::test]
async fn three_servers_mesh_by_the_routes_they_name() {
    let mut cluster = Cluster::start().await;
    let servers = &mut cluster.servers;
    servers[0].kill9();
    until("the route is gone", async || servers[1].routes().await.len() == 1).await;
    servers[0].restart().await.unwrap();
    until("the route is back", async || servers[0].routes().await.len() == 2).await;
}

/// What the test below runs in a separate process: starts a server, prints its pid, and waits to be killed.
#[tokio::test]
#[ignore = "only as a child of the test below"]
async fn child_that_starts_a_server() {
    let Some(folder) = std::env::var_os("NATTER_TEST_FOLDER") else { return };
    // From a thread that ends at once: the server must not end with it.
    let start = move || tokio::runtime::Runtime::new().unwrap().block_on(NatsServer::start(ServerOptions::new(folder)));
    let server = std::thread::spawn(start).join().unwrap().unwrap();
    println!("\nserver {} {}", server.pid(), server.client_addr());
    std::future::pending().await
}

#[tokio::test]
async fn kill_9_of_the_parent_leaves_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cli::nats_server::child_that_starts_a_server", "--ignored", "--nocapture"])
        .env("NATTER_TEST_FOLDER", folder.path());
    let mut parent = Process::reading(command);
    let line = parent.line_after("server").await;
    let (pid, addr) = line.split_once(' ').unwrap();
    let (pid, addr) = (pid.parse().unwrap(), addr.parse().unwrap());
    assert!(runs(pid) && answers(addr));
    parent.kill9();
    until("the server is gone", async || !runs(pid) && !answers(addr)).await;
}
