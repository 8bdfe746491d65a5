//! Programs that a test runs beside itself: their output in a file, an environment of their own, and an end with
//! the test.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

/// The `natter` command in `folder`, in an empty environment: nothing of the machine may leak into a test.
pub fn natter(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natter"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end without holding up the test's other tasks.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// HAProxy, by `NATTER_HAPROXY` or where Debian puts it.
pub fn haproxy() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("NATTER_HAPROXY").filter(|value| !value.is_empty()) {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin".into(), "/usr/local/sbin".into()];
    std::env::split_paths(&folders).chain(sbin).map(|folder| folder.join("haproxy")).find(|program| program.is_file())
}

/// A program that runs until it is stopped or dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it; what it says goes to `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        // SAFETY: prctl is async-signal-safe. The thread it speaks of is the test's own, which outlives the child.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        Self { child: command.spawn().unwrap(), log }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        // SAFETY: kill touches no memory, and the child has not been waited for.
        unsafe { libc::kill(libc::pid_t::try_from(self.child.id()).unwrap(), libc::SIGTERM) };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- {}\n{}", self.log.display(), lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}
