//! TLS in front of a node, as a proxy terminates it: shows a certificate and passes on what is inside.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle},
};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;

/// A terminator on 127.0.0.1 and a free port; stops when dropped.
pub struct Terminator {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    shown: Mutex<Arc<ServerConfig>>,
    connections: Mutex<Vec<AbortHandle>>,
    refused: AtomicUsize,
}

impl Terminator {
    /// Passes on to `node`, and shows the certificate with this name.
    pub async fn start(certificates: &Certificates, name: &str, node: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            shown: Mutex::new(config(certificates, name)),
            connections: Mutex::default(),
            refused: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, node, state.clone()));
        Self { address, state, accepting }
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("wss://{}/v1/ws", self.address)
    }

    /// Shows another certificate from now on, and ends all connections.
    pub fn show(&self, certificates: &Certificates, name: &str) {
        *self.state.shown.lock() = config(certificates, name);
        self.state.connections.lock().drain(..).for_each(|connection| connection.abort());
    }

    /// How many clients did not accept the certificate.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.connections.lock().drain(..).for_each(|connection| connection.abort());
    }
}

async fn accept(listener: TcpListener, node: SocketAddr, state: Arc<State>) {
    while let Ok((outside, _)) = listener.accept().await {
        let acceptor = TlsAcceptor::from(state.shown.lock().clone());
        let of_connection = state.clone();
        let connection = tokio::spawn(async move {
            let Ok(mut outside) = acceptor.accept(outside).await else {
                of_connection.refused.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let Ok(mut inside) = TcpStream::connect(node).await else { return };
            // Either end may go away at any time.
            let _ = copy_bidirectional(&mut outside, &mut inside).await;
        });
        state.connections.lock().push(connection.abort_handle());
    }
}

fn config(certificates: &Certificates, name: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{name}.key"))).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}
