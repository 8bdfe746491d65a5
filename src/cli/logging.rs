//! Log lines to standard error, as text for people or JSON for machines. Called once by the commands that run for
//! long; the others print what they have to say.

use std::io;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::report::colours;
use crate::config::{Log, LogFormat};

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one; `Config::validate` finds this first.
    #[error("log.filter is not a filter, use one like info or info,natter::session=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process.
///
/// # Errors
/// On a bad filter, or when logging was started before.
pub fn start(log: &Log) -> Result<(), LoggingError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(&log.filter)?);
    match log.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(io::stderr).with_ansi(colours(&io::stderr()))).try_init()?
        }
        // Spans carry conv and seq: one flat object per line, with the spans beside the event's own fields.
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()?,
    }
    Ok(())
}
