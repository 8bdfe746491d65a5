//! Writes log lines to standard error, as text for people or JSON for machines. Called once by the long-running
//! commands; the others print what they have to say.

use std::io;

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{FilterFn, ParseError, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    reload,
    util::{SubscriberInitExt as _, TryInitError},
};

use super::report::colours;
use crate::config::{Log, LogFormat};

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is invalid; `Config::validate` finds this first.
    #[error("log.filter is not a valid filter, use one like info or info,natter::session=debug")]
    Filter(#[from] ParseError),
    /// Logging was already set up in this process.
    #[error("logs are set up already")]
    Twice(#[from] TryInitError),
}

/// Changes which events are logged, while the process runs.
#[derive(Debug, Clone)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Logs what this filter asks for from now on.
    ///
    /// # Errors
    /// On a bad filter; the old one stays.
    pub fn replace(&self, filter: &str) -> Result<(), LoggingError> {
        let filter = EnvFilter::try_new(filter)?;
        // The handle fails only when the logs have ended, with the process.
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// On a bad filter, or when logging was started before.
pub fn start(log: &Log) -> Result<Filter, LoggingError> {
    let (subscriber, filter) = subscriber(log, io::stderr, colours(&io::stderr()))?;
    subscriber.try_init()?;
    Ok(filter)
}

type Logs = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(log: &Log, writer: W, colours: bool) -> Result<(Logs, Filter), ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.filter)?);
    let registry = tracing_subscriber::registry().with(filter).with(discreet());
    let layer = fmt::layer().with_writer(writer);
    let logs: Logs = match log.format {
        LogFormat::Text => Box::new(registry.with(layer.with_ansi(colours))),
        // `conv`, `seq` and the like are fields of the event itself. The list of spans (of the libraries) has the
        // innermost one too, so it need not be there twice.
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true).with_current_span(false))),
    };
    Ok((logs, Filter(handle)))
}

/// Whatever the filter asks for: at their lowest levels, dependencies print what passes through them, which is tokens
/// and people's messages.
fn discreet() -> FilterFn {
    filter_fn(|event| {
        let (from, level) = (event.target(), *event.level());
        let most = match from.split("::").next() {
            Some("natter") => Level::TRACE,
            // With the peer's words in what it says of a close frame.
            Some("tungstenite" | "tokio_tungstenite") => Level::INFO,
            _ => Level::DEBUG,
        };
        level <= most
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &Log) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(log, move || writer.clone(), false).unwrap().0, || {
            let _span = tracing::info_span!("batch", rows = 2).entered();
            tracing::info!(conv = "dm:a:b", seq = 7, "stored");
            tracing::debug!("not asked for");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_per_line_with_its_spans() {
        let text = logged(&Log { format: LogFormat::Json, ..Log::default() });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["seq"]), (&"stored".into(), &7.into()));
        assert_eq!((&line["conv"], &line["spans"][0]["rows"]), (&"dm:a:b".into(), &2.into()));
    }

    #[test]
    fn no_filter_makes_dependencies_print_what_passes_through_them() {
        let lines = Lines::default();
        let (writer, log) = (lines.clone(), Log { filter: "trace".into(), ..Log::default() });
        tracing::subscriber::with_default(subscriber(&log, move || writer.clone(), false).unwrap().0, || {
            tracing::trace!(target: "tungstenite::protocol", "frame secret-1");
            tracing::debug!(target: "tungstenite::protocol", "close secret-2");
            tracing::trace!(target: "hyper::proto", "head secret-3");
            tracing::debug!(target: "hyper::proto", "flushed");
            tracing::trace!(target: "natter::session", "ours");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("flushed") && text.contains("ours") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn the_filter_can_be_replaced_and_a_bad_one_changes_nothing() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (logs, filter) = subscriber(&Log::default(), move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(logs, || {
            tracing::debug!("first");
            filter.replace("debug").unwrap();
            tracing::debug!("second");
            assert!(matches!(filter.replace("a=="), Err(LoggingError::Filter(_))));
            tracing::debug!("third");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("first") && text.contains("second") && text.contains("third"), "{text}");
    }

    #[test]
    fn text_has_no_colours_where_none_are_wanted() {
        let text = logged(&Log::default());
        assert!(text.contains("conv=\"dm:a:b\"") && text.contains("stored"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains("not asked for"), "{text}");
        assert!(matches!(start(&Log { filter: "a==".into(), ..Log::default() }), Err(LoggingError::Filter(_))));
    }
}
