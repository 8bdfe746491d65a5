//! TLS to a server. Called while a connection is made, each time anew: certificates that were renewed count from the next
//! connection on.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use super::{conn::Stream, dial::Failed};
use crate::bus::options::NatsTls;

/// Reads the files, and the system's authorities where no file names others.
///
/// # Errors
/// In words, with the file.
pub(super) fn config(tls: &NatsTls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| named(file, &error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
            builder.with_client_auth_cert(certificates(cert)?, private).map_err(|error| named(cert, &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| named(file, &error))?;
    read.collect::<Result<_, _>>().map_err(|error| named(file, &error))
}

fn named(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

/// Encrypts a stream to the server called `name`.
pub(super) async fn encrypt(stream: Stream, tls: &NatsTls, name: &str) -> Result<Stream, Failed> {
    let tls = tls.clone();
    let reading = tokio::task::spawn_blocking(move || config(&tls)).await;
    let config = reading.map_err(|error| Failed::Tls(error.to_string()))?.map_err(Failed::Tls)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| Failed::Tls(error.to_string()))?;
    let encrypted = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(encrypted.map_err(|error| Failed::Tls(error.to_string()))?))
}
