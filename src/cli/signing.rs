//! Which secret the commands sign tokens with. Used by token, bench and, through `identity`, by send and tail.

use std::path::PathBuf;

use super::{
    report::Hint,
    running::{self, RunningDev},
};
use crate::{
    auth::dev_secret_path,
    config::{Auth, Config},
};

/// Where the secret comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Signing {
    /// Sign with the secret that natter dev keeps in this data folder [default: the configured secret, or that of the
    /// running natter dev, or of the configured data folder]
    #[arg(long, value_name = "DIR", conflicts_with = "secret_file", global = true)]
    pub data: Option<PathBuf>,
    /// Sign with the secret in this file
    #[arg(long, value_name = "FILE", global = true)]
    pub secret_file: Option<PathBuf>,
}

impl Signing {
    /// The secret to sign with, and the audience and issuer that the nodes expect.
    ///
    /// # Errors
    /// When there is no secret.
    pub(super) fn auth(&self, config: &Config) -> anyhow::Result<Auth> {
        match self.named(config)? {
            Some(auth) => Ok(auth),
            None => of_dev(config, running::find(&[], &config.store.embedded.data_dir)?.as_ref()),
        }
    }

    /// The secret that a flag or the configuration names.
    ///
    /// # Errors
    /// There is none in the data folder that was given.
    pub(super) fn named(&self, config: &Config) -> anyhow::Result<Option<Auth>> {
        let configured = &config.auth;
        if let Some(path) = &self.secret_file {
            return Ok(Some(signed_with(config, path.clone())));
        }
        if let Some(data) = &self.data {
            return existing(config, dev_secret_path(data)).map(Some);
        }
        let has_secret = configured.hs256_secret.is_some() || configured.hs256_secret_file.is_some();
        let has_keys =
            !configured.public_key_files.is_empty() || configured.jwks_file.is_some() || configured.jwks_url.is_some();
        Ok((has_secret || has_keys).then(|| configured.clone()))
    }
}

/// The secret of a running `natter dev`; without one, that of the configured data folder.
///
/// # Errors
/// When there is none.
pub(super) fn of_dev(config: &Config, running: Option<&RunningDev>) -> anyhow::Result<Auth> {
    match running {
        None => existing(config, dev_secret_path(&config.store.embedded.data_dir)),
        Some(RunningDev { secret: Some(path), .. }) => existing(config, path.clone()),
        Some(RunningDev { pid, .. }) => Err(Hint::on(
            anyhow::anyhow!("the running natter dev (pid {pid}) has a secret that is in no file"),
            "give the configuration that it was started with: --config, or NATTER_AUTH__HS256_SECRET",
        )),
    }
}

fn existing(config: &Config, path: PathBuf) -> anyhow::Result<Auth> {
    if path.exists() {
        return Ok(signed_with(config, path));
    }
    // Creating one here would give a token that no node accepts.
    Err(Hint::on(
        anyhow::anyhow!("there is no secret at {}", path.display()),
        "start natter dev (it is found from any folder), or say where the secret is: --data, --secret-file or --config",
    ))
}

fn signed_with(config: &Config, path: PathBuf) -> Auth {
    Auth {
        hs256_secret: None,
        hs256_secret_file: Some(path),
        hs256_previous_secret: None,
        hs256_previous_secret_file: None,
        public_key_files: Vec::new(),
        jwks_file: None,
        jwks_url: None,
        ..config.auth.clone()
    }
}
