//! Programs that a test runs alongside itself. None outlives the test or the test process, however that ends; a
//! program's output is printed when its test fails.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use tempfile::TempPath;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use super::wait::{PATIENCE, try_until, until_ok};

/// How long a terminating command, or an expected line, may take: includes the recovery of a store.
const LONG: Duration = Duration::from_secs(60);

/// How many lines of its log a failed test shows.
const TAIL: usize = 30;

/// A program that runs until it is stopped or dropped. Dropping it kills its whole process group.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// The log, if it belongs to this process alone.
    _own: Option<TempPath>,
    lines: Option<UnboundedReceiver<String>>,
}

impl Process {
    /// Starts it; all its output goes to its log.
    pub fn start(command: Command) -> Self {
        let own = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut process = Self::logging(command, &own);
        process._own = Some(own);
        process
    }

    /// The same, with the log at the end of this file.
    pub fn logging(mut command: Command, log: &Path) -> Self {
        let file = open_log(log);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = spawn(command).expect("the program must start");
        Self { child, log: log.to_owned(), _own: None, lines: None }
    }

    /// Starts one whose output is read: its stdout arrives as lines, the rest is its log.
    pub fn reading(mut command: Command) -> Self {
        let own = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        command.stdout(Stdio::piped()).stderr(open_log(&own));
        let mut child = spawn(command).expect("the program must start");
        let lines = Some(read_lines(child.stdout.take().unwrap()));
        Self { child, log: own.to_path_buf(), _own: Some(own), lines }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it, not to its children.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill touches no memory, and the child has not been waited for, so the pid is still its own.
        let sent = unsafe { libc::kill(pid_of(&self.child), signal) };
        assert_eq!(sent, 0, "the process must be there to be signalled: {}", io::Error::last_os_error());
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Suspends it: its sockets stay open and answer nothing.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Resumes a paused process.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills it without warning, but not its children, and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        until_ok(PATIENCE, "the process ends", async || self.exited().ok_or_else(String::new)).await
    }

    /// Waits until it does what it was started for, and fails at once if it ends instead.
    pub async fn ready(&mut self, what: &str, holds: impl AsyncFnMut() -> bool) {
        self.ready_within(PATIENCE, what, holds).await;
    }

    /// The same with a different time limit.
    pub async fn ready_within(&mut self, patience: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let ready = try_until(patience, async || {
            if let Some(status) = self.exited() {
                panic!("the process ended ({status}) before {what}; it said:\n{}", self.tail());
            }
            if holds().await { Ok(()) } else { Err(String::new()) }
        });
        if ready.await.is_err() {
            panic!("waited {patience:?} in vain until {what}; the process said:\n{}", self.tail());
        }
    }

    /// Waits until these words appear in its log.
    pub async fn says(&mut self, words: &str) {
        let log = self.log.clone();
        let said = async || fs::read_to_string(&log).unwrap_or_default().contains(words);
        self.ready(&format!("it says {words:?}"), said).await;
    }

    /// Its output so far: only stderr if its lines are read.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the log.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// Its next line; `None` when there are no more.
    ///
    /// # Panics
    /// If it was not started with [`Process::reading`].
    pub async fn line(&mut self) -> Option<String> {
        self.lines.as_mut().expect("start it with Process::reading").recv().await
    }

    /// Waits for a line that starts with `word` and returns the rest of it.
    pub async fn line_after(&mut self, word: &str) -> String {
        let find = async {
            while let Some(line) = self.line().await {
                if let Some(rest) = line.strip_prefix(word) {
                    return Some(rest.trim().to_owned());
                }
            }
            None
        };
        match timeout(LONG, find).await {
            Ok(Some(rest)) => rest,
            Ok(None) => panic!("the process ended before it said {word:?}; its log:\n{}", self.tail()),
            Err(_) => panic!("the process never said {word:?}; its log:\n{}", self.tail()),
        }
    }

    /// The processor time that it has used.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let ticks = text.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        // A hundred a second, whatever the kernel's own clock.
        Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// Its current memory, in bytes.
    pub fn rss(&self) -> u64 {
        rss_of(&self.pid().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SAFETY: kill touches no memory; the leader is not waited for yet, so the group is still its own.
            unsafe { libc::kill(-pid_of(&self.child), libc::SIGKILL) };
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- process {} said:\n{}", self.pid(), self.tail());
        }
    }
}

/// Runs a command to its end without blocking the test's other tasks.
pub async fn output(command: Command) -> Output {
    output_of(command, "").await
}

/// The same with `input` on its stdin.
pub async fn output_of(command: Command, input: &str) -> Output {
    output_within(LONG, command, input).await
}

/// The same for a command that may take longer.
pub async fn output_within(limit: Duration, mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).expect("the program must start");
    let (pid, input) = (pid_of(&child), input.to_owned());
    let run = tokio::task::spawn_blocking(move || {
        // It may end without having read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let Ok(output) = timeout(limit, run).await else {
        // SAFETY: kill touches no memory; nobody has waited for the child, so the pid is still its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("the command has not ended after {limit:?}");
    };
    output.unwrap()
}

/// Whether the process runs (and is not a zombie).
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// What the kernel reports about a process.
pub struct Stat {
    /// `Z` for a zombie.
    pub state: char,
    /// The pid of its parent.
    pub parent: u32,
    /// The process group.
    pub group: u32,
}

/// `None` when there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may contain anything: state, parent, process group.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some(Stat { state, parent: words.next()?.parse().ok()?, group: words.next()?.parse().ok()? })
}

/// The current memory of a process, in bytes; `self` is this one.
pub fn rss_of(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn open_log(path: &Path) -> fs::File {
    fs::File::options().create(true).append(true).open(path).unwrap()
}

fn pid_of(child: &Child) -> libc::pid_t {
    libc::pid_t::try_from(child.id()).unwrap()
}

/// The complete lines of a pipe, read by a separate thread.
fn read_lines(pipe: ChildStdout) -> UnboundedReceiver<String> {
    let (told, lines) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        let (mut output, mut line) = (BufReader::new(pipe), String::new());
        // A line without its end was cut off by a kill and is worthless.
        while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
            let _ = told.send(line.trim_end().to_owned());
            line.clear();
        }
    });
    lines
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns a process, the leader of its own group, that the kernel kills when this one ends, kill -9 included. The
/// kernel looks at the thread that spawned, not the process, so one thread that never ends does all of it.
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in waiting {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    command.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: prctl is async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let (answer, child) = mpsc::channel();
    spawner.lock().unwrap().send((command, answer)).expect("the spawner never ends");
    child.recv().expect("the spawner answers")
}
