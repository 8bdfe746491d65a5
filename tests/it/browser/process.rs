//! A child process that ends with its owner: killed on drop, and by the kernel when the test process dies.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
};

/// A running child in a process group of its own; a drop kills the group and waits.
pub struct Process(Child);

impl Process {
    /// Starts `command`.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: prctl is async-signal-safe and the closure allocates nothing.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        command.spawn().map(Self)
    }

    /// The child, for its pipes and its state.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Stops it where it is: its sockets stay open and answer nothing.
    pub fn pause(&self) {
        // SAFETY: a plain system call; the child is not waited for yet, so the pid is still its own.
        let sent = unsafe { libc::kill(self.pid(), libc::SIGSTOP) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }

    fn pid(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // SAFETY: a plain system call; the leader is not waited for yet, so the group is still its own.
            unsafe { libc::kill(-self.pid(), libc::SIGKILL) };
            let _ = self.0.wait();
        }
    }
}
