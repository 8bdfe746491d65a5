//! The client under test: a program that is told on its standard input what to send, and tells on its standard output what it
//! got, a JSON object a line (docs/conform.md). Called by the stage, which starts one for each scenario.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

/// How much of what it says on standard error is kept.
const COMPLAINTS: usize = 4 << 10;

/// What a program tells.
#[derive(Debug)]
pub(super) enum Told {
    /// A line.
    Line(String),
    /// It has ended.
    Ended(ExitStatus),
}

/// A program that runs. Its process group is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    silent: bool,
    complaints: Arc<Mutex<Vec<u8>>>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub(super) fn start(command: &[String], urls: &str, token_file: &Path, device: &str) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("which command?")?;
        let mut started = Command::new(program);
        started.args(arguments).env("NATTER_URL", urls).env("NATTER_TOKEN_FILE", token_file);
        started.env("NATTER_DEVICE", device).process_group(0).kill_on_drop(true);
        started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = started.spawn().with_context(|| format!("{program} cannot be started"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no standard output")?);
        let complaints = Arc::new(Mutex::new(Vec::new()));
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(keep(errors, complaints.clone()));
        }
        Ok(Self { child, input, lines: BufReader::new(output).lines(), silent: false, complaints })
    }

    /// What it tells next. Cancel safe.
    pub(super) async fn told(&mut self) -> Told {
        while !self.silent {
            match self.lines.next_line().await {
                Ok(Some(line)) => return Told::Line(line),
                Ok(None) | Err(_) => self.silent = true,
            }
        }
        match self.child.wait().await {
            Ok(status) => Told::Ended(status),
            // It was waited for already: nothing more comes of it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks it for something. A program that is gone is noticed elsewhere.
    pub(super) async fn ask(&mut self, deed: &Value) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{deed}\n").as_bytes()).await;
            let _ = input.flush().await;
        }
    }

    /// Ends its input.
    pub(super) fn end(&mut self) {
        self.input = None;
    }

    /// The end of what it said on standard error.
    pub(super) fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complaints.lock()).trim().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
            // SAFETY: kill touches no memory; a child that has not been waited for keeps its pid, and it leads its group.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
    }
}

async fn keep(mut errors: ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut piece).await {
        let mut kept = kept.lock();
        kept.extend_from_slice(&piece[..read]);
        let over = kept.len().saturating_sub(COMPLAINTS);
        kept.drain(..over);
    }
}
