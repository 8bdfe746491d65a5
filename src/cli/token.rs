//! `natter token`: makes a token, for a first run, for tests and for tools.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Global, print, signing::Signing};
use crate::{
    auth::{Minter, Verifier},
    model::UserId,
};

/// Arguments of `natter token`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The user it is for
    #[arg(required_unless_present = "service")]
    user: Option<UserId>,
    /// Make one for a service instead, which asks over HTTP with it
    #[arg(long, value_name = "NAME", conflicts_with = "user")]
    service: Option<UserId>,
    #[command(flatten)]
    signing: Signing,
    /// How long it is valid: 90s, 15m, 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_ttl)]
    ttl: Duration,
    /// Print an object with the token, its user and its expiry
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter token alice                               for a node started by natter dev in this folder
  natter token alice --ttl 1h --data /srv/natter   the same with another data folder
  natter token alice --secret-file /etc/natter/hs256.secret
  natter --config /etc/natter.toml token alice --json
  natter token --service billing --ttl 90d         for the HTTP API (services.billing.http)";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty or there is no secret to sign with.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let auth = args.signing.auth(&global.load()?.config)?;
    let (minter, verifier) = (Minter::from_config(&auth)?, Verifier::from_config(&auth)?);
    // Read back, not computed again: this is what a node will see.
    let refused = "the token would be refused";
    let (token, seen) = match (&args.service, &args.user) {
        (Some(service), _) => {
            let token = minter.mint_service(service, args.ttl)?;
            let claims = verifier.verify_service(&token).context(refused)?;
            (token, json!({ "service": claims.service, "exp": claims.exp }))
        }
        (None, Some(user)) => {
            let token = minter.mint(user, args.ttl)?;
            let claims = verifier.verify(&token).context(refused)?;
            (token, json!({ "user": claims.user, "exp": claims.exp }))
        }
        (None, None) => anyhow::bail!("name a user, or a service with --service"),
    };
    if args.json {
        print(&with_token(seen, token).to_string())?
    } else {
        print(&token)?
    }
    Ok(ExitCode::SUCCESS)
}

fn with_token(mut seen: Value, token: String) -> Value {
    seen["token"] = token.into();
    seen
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
