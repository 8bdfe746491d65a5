//! Three NATS servers with routes to each other.

use futures_util::future::try_join_all;
use natter::nats_server::{ClusterOptions, NatsServer, Passwords, ServerOptions, free_ports};
use tempfile::TempDir;

use super::wait::until;

/// The servers and the folder they live in.
pub struct Cluster {
    /// The three servers.
    pub servers: Vec<NatsServer>,
    /// Removed when it is dropped: after the servers.
    pub folder: TempDir,
}

impl Cluster {
    /// Starts servers each of which names the routes to all.
    pub async fn start() -> Self {
        Self::with(Passwords::random()).await
    }

    /// The same with these passwords.
    pub async fn with(passwords: Passwords) -> Self {
        let ports = free_ports(3).unwrap();
        let routes: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Self::routed(&ports, [(); 3].map(|()| routes.clone()), passwords).await
    }

    /// The same, but each server has a port for routes and names its own routes.
    pub async fn routed(ports: &[u16], routes: [Vec<String>; 3], passwords: Passwords) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let starts = ports.iter().zip(routes).enumerate().map(|(i, (port, routes))| {
            let mut options = ServerOptions::new(folder.path().join(i.to_string()));
            options.name = format!("nats-{i}");
            options.passwords = passwords.clone();
            // Nothing listens there: only the named routes may come about.
            let advertise = Some("127.0.0.1:1".to_owned());
            options.cluster = Some(ClusterOptions { port: *port, routes, advertise });
            NatsServer::start(options)
        });
        let cluster = Self { servers: try_join_all(starts).await.unwrap(), folder };
        cluster.whole().await;
        cluster
    }

    /// Waits until every server has a route to the two others.
    pub async fn whole(&self) {
        for server in &self.servers {
            until("every server has a route to the two others", async || server.routes().await.len() == 2).await;
        }
    }

    /// Where clients connect, server by server.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::client_url).collect()
    }
}
