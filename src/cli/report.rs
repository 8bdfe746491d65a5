//! What a person sees when a command fails: `natter: cause: cause`, and a line on what to do about it if that is known.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
};

use crate::{auth::KeyError, config::ConfigErrors};

/// The exit code for wrong arguments and a wrong configuration.
pub(super) const USAGE: u8 = 2;

/// A hint on what to do about an error: `result.map_err(|e| Hint::on(e, "start a NATS server"))?`.
#[derive(Debug)]
pub struct Hint {
    hint: String,
    source: anyhow::Error,
}

impl Hint {
    /// Adds a hint to an error.
    pub fn on(source: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
        Self { hint: hint.into(), source: source.into() }.into()
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for Hint {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The reader of the output has gone away, which is not a failure. For standard output only: a broken connection is a
/// failure.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has gone away")]
pub struct ReaderGone;

/// Prints why a command failed and returns its exit code.
pub(super) fn failure(error: &anyhow::Error) -> ExitCode {
    if find::<ReaderGone>(error).is_some() {
        return ExitCode::SUCCESS;
    }
    // There is nothing left to do if standard error is gone.
    let _ = writeln!(io::stderr(), "{}", describe(error, colours(&io::stderr())));
    let usage = find::<ConfigErrors>(error).is_some();
    if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Whether to colour what goes to `stream`: on a terminal, unless `NO_COLOR` says otherwise.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn find<T: Error + 'static>(error: &anyhow::Error) -> Option<&T> {
    error.chain().find_map(|cause| cause.downcast_ref::<T>())
}

fn describe(error: &anyhow::Error, colours: bool) -> String {
    let (red, dim, off) = if colours { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}natter:{off} ");
    let mut last = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own words.
        if last.is_empty() {
            text.push_str(&cause);
        } else if !last.ends_with(&cause) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
        }
        last = cause;
    }
    if let Some(hint) = hint(error) {
        let _ = write!(text, "\n{dim}hint: {hint}{off}");
    }
    text
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(hint) = find::<Hint>(error) {
        return Some(hint.hint.clone());
    }
    let known = if find::<ConfigErrors>(error).is_some() {
        "natter config --default shows every key, its default and what it is for"
    } else if let Some(KeyError::NoSecret | KeyError::None) = find::<KeyError>(error) {
        "natter config --default shows the keys of [auth]"
    } else {
        match find::<io::Error>(error)?.kind() {
            io::ErrorKind::AddrInUse => "another process listens there: choose another port with http.listen",
            io::ErrorKind::PermissionDenied => "check who owns it and who may read and write it",
            _ => return None,
        }
    };
    Some(known.to_owned())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn causes_stand_behind_each_other_and_the_hint_below() {
        let io = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let error = Err::<(), _>(io).context("cannot listen on 127.0.0.1:80").unwrap_err();
        assert_eq!(
            describe(&error, false),
            "natter: cannot listen on 127.0.0.1:80: address in use\n\
             hint: another process listens there: choose another port with http.listen"
        );
        assert!(describe(&error, true).starts_with("\x1b[1;31mnatter:\x1b[0m cannot"));
        assert_eq!(describe(&anyhow!("plain"), false), "natter: plain");
    }

    #[test]
    fn a_hint_of_the_command_comes_first_and_nothing_is_said_twice() {
        let error = Hint::on(anyhow!("refused").context("cannot connect"), "start a NATS server");
        let error = error.context("no mesh");
        assert_eq!(describe(&error, false), "natter: no mesh: cannot connect: refused\nhint: start a NATS server");
    }
}
