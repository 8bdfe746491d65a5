//! `natter token`: a token for a first run, for tests and for tools.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::json;

use super::{Global, print, report::Hint};
use crate::{
    auth::{Minter, Verifier, dev_secret_path},
    config::{Auth, Config},
    model::UserId,
};

/// Arguments of `natter token`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The user it is for
    user: UserId,
    /// Sign with the secret that natter dev keeps in this data folder [default: the configured secret, or that of
    /// the configured data folder]
    #[arg(long, value_name = "DIR", conflicts_with = "secret_file")]
    data: Option<PathBuf>,
    /// Sign with the secret in this file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How long it is good for: 90s, 15m, 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_ttl)]
    ttl: Duration,
    /// Print an object with the token, its user and its end
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter token alice                               for a node started by natter dev in this folder
  natter token alice --ttl 1h --data /srv/natter   the same with another data folder
  natter token alice --secret-file /etc/natter/hs256.secret
  natter --config /etc/natter.toml token alice --json";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty or there is no secret to sign with.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let auth = signing(&args, &global.load()?.config)?;
    let token = Minter::from_config(&auth)?.mint(&args.user, args.ttl)?;
    if args.json {
        // Read back, not computed again: it is what a node will see.
        let claims = Verifier::from_config(&auth)?.verify(&token).context("the token would be refused")?;
        print(&json!({ "token": token, "user": claims.user, "exp": claims.exp }).to_string())?;
    } else {
        print(&token)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one secret to sign with, beside the audience and issuer that the nodes ask for.
fn signing(args: &Args, config: &Config) -> anyhow::Result<Auth> {
    let configured = &config.auth;
    let file = |path| Auth {
        hs256_secret: None,
        hs256_secret_file: Some(path),
        public_key_files: Vec::new(),
        jwks_file: None,
        ..configured.clone()
    };
    if let Some(path) = &args.secret_file {
        return Ok(file(path.clone()));
    }
    let has_secret = configured.hs256_secret.is_some() || configured.hs256_secret_file.is_some();
    let has_keys = !configured.public_key_files.is_empty() || configured.jwks_file.is_some();
    if args.data.is_none() && (has_secret || has_keys) {
        return Ok(configured.clone());
    }
    let path = dev_secret_path(args.data.as_deref().unwrap_or(&config.store.embedded.data_dir));
    if path.exists() {
        return Ok(file(path));
    }
    // Making one here would give a token that no node takes.
    Err(Hint::on(
        anyhow::anyhow!("there is no secret at {}", path.display()),
        "start natter dev in this folder first, or say where the secret is: --data, --secret-file or --config",
    ))
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    const LONGEST_SECS: u64 = 10 * 365 * 86_400;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_secs = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("use a number with s, m, h, d or w, such as 12h".to_owned()),
    };
    let secs = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_secs));
    match secs {
        Some(secs @ 1..=LONGEST_SECS) => Ok(Duration::from_secs(secs)),
        _ => Err("use a time from 1s to 3650d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, secs) in
            [("90s", 90), ("90", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("1w", 604_800)]
        {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in
            ["", "0s", "h", "1y", "-1h", "1.5h", "99999999999999999999d", "18446744073709551615w", "3651d", "1hh"]
        {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
