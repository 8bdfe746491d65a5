//! One checked item. Made by every part of `natter doctor`.

use serde::Serialize;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// A node runs, but someone should look into it.
    Warn,
    /// A node does not run, or not as it should.
    Fail,
}

impl State {
    /// Four columns wide.
    pub(super) fn shown(self, colours: bool) -> String {
        let (word, colour) = match self {
            Self::Ok => ("ok  ", "\x1b[32m"),
            Self::Warn => ("warn", "\x1b[33m"),
            Self::Fail => ("fail", "\x1b[1;31m"),
        };
        if colours { format!("{colour}{word}\x1b[0m") } else { word.to_owned() }
    }
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) state: State,
    /// `nats`, `queue`, `services`, `store` or `host`.
    pub(super) part: &'static str,
    /// What was checked.
    pub(super) check: &'static str,
    /// What was found.
    pub(super) says: String,
    /// How to fix it; always present when something is wrong.
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(part: &'static str, check: &'static str, says: impl Into<String>) -> Self {
        Self { state: State::Ok, part, check, says: says.into(), fix: None }
    }

    pub(super) fn warn(
        part: &'static str,
        check: &'static str,
        says: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Warn, part, check, says: says.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(
        part: &'static str,
        check: &'static str,
        says: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Fail, part, check, says: says.into(), fix: Some(fix.into()) }
    }
}

/// A duration in a readable form.
pub(super) fn millis(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
