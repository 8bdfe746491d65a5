//! One GET of a key set over HTTPS: small, bounded, and without anything that a login must not depend on (no redirects, no
//! proxies, no kept connections). Called by [`super::remote`].

use std::{path::Path, sync::Arc};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
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

/// The largest set: hundreds of keys, and nothing that could fill the memory.
const MAX_BYTES: usize = 256 << 10;

/// Why a set could not be fetched, in words.
pub(super) type Reason = String;

/// Fetches from one URL.
pub(super) struct Fetcher {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl Fetcher {
    /// Trusts the authorities in `ca_file`, or those of the system.
    ///
    /// # Errors
    /// When the URL or the authorities cannot be used.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Reason> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let host = uri.host().ok_or("names no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure { Some(TlsConnector::from(Arc::new(tls(ca_file)?))) } else { None };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    /// The text that the URL serves. The caller limits the time.
    pub(super) async fn get(&self) -> Result<String, Reason> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        match &self.tls {
            None => self.ask(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| format!("{error}"))?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
                self.ask(stream).await
            }
        }
    }

    async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<String, Reason> {
        let broken = |error: hyper::Error| format!("no answer: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with this future.
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let authority = self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let request = Request::get(self.uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("natter/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!("it answers {status}, and redirects are not followed: give the final address"));
            }
            status => return Err(format!("it answers {status}")),
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error} (at most {MAX_BYTES} bytes)"))?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| "its answer is not UTF-8 text".to_owned())
    }
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, Reason> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let named = |error: &dyn std::fmt::Display| format!("auth.jwks_ca_file {}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| named(&error))? {
                roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err("no certificate authorities to trust: install ca-certificates, or set auth.jwks_ca_file".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
