//! TLS itself, by rustls with aws-lc. Called by [`super`]; part of the build with the feature `tls` only.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, Error as TlsError, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{
        Error as WsError,
        handshake::client::{Request, Response},
        protocol::WebSocketConfig,
    },
};

/// A connector that accepts what `file` or, without one, the system's authorities have signed.
pub(super) fn connector(file: Option<&Path>) -> Result<Connector, String> {
    let roots = file.map_or_else(system_roots, roots_of)?;
    // The provider is named, not the process's own: a program may have chosen none, or another one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let named = |error: &dyn std::fmt::Display| format!("cannot use the authorities in {}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| named(&error))? {
        let certificate = certificate.map_err(|error| named(&error))?;
        roots.add(certificate).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&"there is no certificate in it; it must be PEM"));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system has some that no longer count; one that is needed is missed by name when a certificate is checked.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        return Err(format!(
            "this system has no certificate authorities{why}: install its ca-certificates, or name a file of your own"
        ));
    }
    Ok(roots)
}

/// Connects, with TLS if that is what the connector is for.
pub(in super::super) async fn dial(
    request: Request,
    config: WebSocketConfig,
    connector: Connector,
) -> Result<(WebSocketStream<MaybeTlsStream<TcpStream>>, Response), WsError> {
    connect_async_tls_with_config(request, Some(config), true, Some(connector)).await
}

/// Why the handshake failed, if TLS is what failed.
pub(in super::super) fn why_failed(error: &io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<TlsError>()?;
    Some(match tls {
        TlsError::InvalidCertificate(why) => format!("its certificate is not accepted: {why}"),
        TlsError::InvalidMessage(_) => "what listens there does not speak TLS: is it ws://?".to_owned(),
        other => format!("TLS failed: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for file in ["/nonexistent/ca.pem", file!()] {
            let Err(why) = connector(Some(Path::new(file))) else { panic!("{file} was accepted") };
            assert!(why.contains(file), "{why}");
        }
    }
}
