//! Which secret the commands sign tokens with. Used by token, bench and, through `identity`, by send and tail.

use std::path::PathBuf;

use super::report::Hint;
use crate::{
    auth::dev_secret_path,
    config::{Auth, Config},
};

/// Where the secret comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Signing {
    /// Sign with the secret that natter dev keeps in this data folder [default: the configured secret, or that of the
    /// configured data folder]
    #[arg(long, value_name = "DIR", conflicts_with = "secret_file")]
    pub data: Option<PathBuf>,
    /// Sign with the secret in this file
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl Signing {
    /// The secret to sign with, and the audience and issuer that the nodes expect.
    ///
    /// # Errors
    /// When there is no secret.
    pub(super) fn auth(&self, config: &Config) -> anyhow::Result<Auth> {
        let configured = &config.auth;
        let file = |path| Auth {
            hs256_secret: None,
            hs256_secret_file: Some(path),
            hs256_previous_secret: None,
            hs256_previous_secret_file: None,
            public_key_files: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            ..configured.clone()
        };
        if let Some(path) = &self.secret_file {
            return Ok(file(path.clone()));
        }
        let has_secret = configured.hs256_secret.is_some() || configured.hs256_secret_file.is_some();
        let has_keys =
            !configured.public_key_files.is_empty() || configured.jwks_file.is_some() || configured.jwks_url.is_some();
        if self.data.is_none() && (has_secret || has_keys) {
            return Ok(configured.clone());
        }
        let path = dev_secret_path(self.data.as_deref().unwrap_or(&config.store.embedded.data_dir));
        if path.exists() {
            return Ok(file(path));
        }
        // Creating one here would give a token that no node accepts.
        Err(Hint::on(
            anyhow::anyhow!("there is no secret at {}", path.display()),
            "start natter dev in this folder first, or say where the secret is: --data, --secret-file or --config",
        ))
    }
}
