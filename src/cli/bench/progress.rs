//! What the bench is doing, on standard error, drawn only on a terminal. Called by every scenario.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what is being done and how far it is.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// `done` of `all` things.
    pub(super) fn step(&self, what: &str, done: usize, all: usize) {
        if !self.0.is_hidden() {
            self.draw(done as u64, all as u64, format!("{what}, {done} of {all}"));
        }
    }

    /// `passed` of the time that it takes.
    pub(super) fn time(&self, passed: Duration, all: Duration, what: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.draw(passed.as_millis() as u64, all.as_millis() as u64, what());
        }
    }

    fn draw(&self, done: u64, all: u64, words: String) {
        self.0.set_length(all.max(1));
        self.0.set_position(done.min(all));
        self.0.set_message(words);
    }

    /// Takes the line away: the report comes.
    pub(super) fn done(&self) {
        self.0.finish_and_clear();
    }
}
