//! HTTP from a node to somebody else: hyper's own client over TCP or TLS, small and bounded, with nothing that a node must not
//! depend on: no redirects, no proxies, no cookies. Whoever calls limits the time.
//!
//! Used by `auth` (key sets) and `events` (webhooks).

use std::{fmt::Display, path::Path, sync::Arc};

use hyper::{
    Uri,
    body::Body,
    client::conn::http1::{self, SendRequest},
    header::HeaderValue,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// Why something could not be asked, in words.
pub(crate) type Reason = String;

/// What natter calls itself.
pub(crate) const AGENT: HeaderValue = HeaderValue::from_static(concat!("natter/", env!("CARGO_PKG_VERSION")));

/// A URL, and whose certificates are trusted there.
pub(crate) struct Place {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

/// A connection, which ends when this is dropped.
pub(crate) struct Connection<B> {
    /// Takes one request after the other.
    pub(crate) sender: SendRequest<B>,
    _driver: AbortOnDropHandle<()>,
}

impl Place {
    /// Trusts the authorities in a file, which stands under `key` in the configuration, or those of the system.
    ///
    /// # Errors
    /// When the URL or the authorities cannot be used.
    pub(crate) fn new(url: &str, ca_file: Option<&Path>, key: &str) -> Result<Self, Reason> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let host = uri.host().ok_or("names no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure { Some(TlsConnector::from(Arc::new(tls(ca_file, key)?))) } else { None };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    /// The path and what follows it.
    pub(crate) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// What stands in the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default()
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn connect<B>(&self) -> Result<Connection<B>, Reason>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        let Some(tls) = &self.tls else { return Connection::on(stream).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        Connection::on(tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?).await
    }
}

impl<B> Connection<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Reason> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| no_answer(&error))?;
        // Whoever waits for an answer hears of its error.
        let driver = async { drop(connection.await) };
        Ok(Self { sender, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }
}

/// A connection that broke, in words.
pub(crate) fn no_answer(error: &hyper::Error) -> Reason {
    format!("no answer: {error}")
}

fn tls(ca_file: Option<&Path>, key: &str) -> Result<ClientConfig, Reason> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let named = |error: &dyn Display| format!("{key} {}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| named(&error))? {
                roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(format!("no certificate authorities to trust: install ca-certificates, or set {key}"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
