//! `natter doctor`: checks everything a node needs, and says what is wrong and how to fix it.
//!
//! Each part is a module that returns findings; here they are gathered, printed, and turned into an exit code. None of
//! them writes user data: probes use subjects that belong to nobody, one question to the service that checks messages, and one
//! row of the table `health`.

use std::{fmt::Write as _, io, process::ExitCode};

use serde::Serialize;

use super::{Global, print, report};
use crate::config::{Config, StoreKind};

mod embedded;
mod finding;
mod machine;
mod nats;
mod queue;
mod scylla;
mod services;
mod supervisor;

use finding::{Finding, State};

/// Arguments of `natter doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter doctor --config /etc/natter.toml
  natter doctor --json | jq -r '.findings[] | select(.state == \"fail\") | .fix'

Run it where a node runs or will run, as its user and with its configuration: docs/operations.md has it for systemd and Kubernetes. Exit code 1 when something fails.";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let sources = global.sources();
    let loaded = Config::load_with_origins(&sources)?;
    let mut findings = examine(&loaded.config).await;
    findings.extend(supervisor::examine(&loaded, sources.file.as_deref()));
    let report = Report::of(findings);
    print(&if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.text(report::colours(&io::stdout()))
    })?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(config: &Config) -> Vec<Finding> {
    let store = async {
        match config.store.kind {
            StoreKind::Embedded => embedded::examine(&config.store.embedded).await,
            StoreKind::Scylla => scylla::examine(config).await,
        }
    };
    let (mut findings, store, machine) = tokio::join!(nats::examine(config), store, machine::examine(config));
    // After NATS, which it goes by.
    findings.extend(queue::examine(config).await);
    findings.extend(services::examine(config).await);
    findings.extend(store);
    findings.extend(machine);
    findings
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn of(findings: Vec<Finding>) -> Self {
        Self { ok: findings.iter().all(|finding| finding.state != State::Fail), findings }
    }

    /// One line per finding, and below it the fix where something is wrong.
    fn text(&self, colours: bool) -> String {
        let width = |of: fn(&Finding) -> &str| self.findings.iter().map(|f| of(f).len()).max().unwrap_or(0);
        let (part, check) = (width(|f| f.part), width(|f| f.check));
        let mut text = String::new();
        for finding in &self.findings {
            let state = finding.state.shown(colours);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{state}  {:part$}  {:check$}  {}", finding.part, finding.check, finding.says);
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "{:width$}{fix}", "", width = part + check + 10);
            }
        }
        let count = |state| self.findings.iter().filter(|finding| finding.state == state).count();
        let _ = match (count(State::Fail), count(State::Warn)) {
            (0, 0) => writeln!(text, "\nall is well"),
            (0, warnings) => writeln!(text, "\nnothing fails; {warnings} to think about"),
            (failed, warnings) => writeln!(text, "\n{failed} failed; {warnings} to think about"),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_has_its_cure_below_it() {
        let report = Report::of(vec![
            Finding::ok("nats", "server", "fine"),
            Finding::warn("store", "copies", "one", "make three"),
            Finding::fail("host", "port", "taken", "choose another"),
        ]);
        let shown = report.text(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "ok    nats   server  fine");
        assert_eq!(lines[1], "warn  store  copies  one");
        assert_eq!(lines[2], "                     make three");
        assert_eq!(lines[3], "fail  host   port    taken");
        assert_eq!(lines[6], "1 failed; 1 to think about");
        assert!(!report.ok && Report::of(report.findings[..2].to_vec()).ok);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][2]["state"], "fail");
        assert_eq!(json["findings"][2]["fix"], "choose another");
    }
}
