//! doctor
use std::process::ExitCode;
use super::Global;
/// Arguments
#[derive(Debug, clap::Args)]
pub struct Args {}
/// Runs
pub async fn run(_args: Args, _global: &Global) -> anyhow::Result<ExitCode> { Ok(ExitCode::SUCCESS) }
