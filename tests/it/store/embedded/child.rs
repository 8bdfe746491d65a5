//! Runs an ignored test of this same binary in a process of its own, for what must not happen to this one: to be
//! killed, or to run out of disk.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

const DIR: &str = "NATTER_TEST_STORE_DIR";
/// Far more than any child takes on a loaded machine; a child that hangs fails its test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder to work on, in a child; `None` where somebody ran the ignored test by hand.
pub fn dir() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// A running child and the whole lines it prints.
pub struct Running {
    child: Child,
    pub lines: Receiver<String>,
}

impl Running {
    /// Starts the ignored test `name`, its path below `store::embedded`, on `dir`.
    pub fn start(name: &str, dir: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([&format!("store::embedded::{name}"), "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut by a kill and says nothing.
            while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let _ = told.send(line.trim_end().to_owned());
                line.clear();
            }
        });
        Self { child, lines }
    }

    /// The child's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that starts with `word` and gives back the rest of it.
    pub fn wait_for(&self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the child never said {word}"));
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Kills the child as `kill -9` does and gives back what it had still said.
    pub fn kill9(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.lines, mpsc::channel().1).into_iter().collect()
    }

    /// Waits for the child's own end.
    pub fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already waited for, unless the test failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
