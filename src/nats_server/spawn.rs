//! Starts a process that cannot outlive this one, however this one ends. Called by [`super::running`], and by `natter dev`
//! for nodes that are processes.
//!
//! On Linux the kernel kills the child when its parent dies. To the kernel the parent is the *thread* that forked, so
//! all children are forked by one thread that lives as long as the process. On other systems the child ends only if
//! this process ends in an orderly way.

use std::{
    io,
    process::{Child, Command},
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    thread,
};

type Job = (Command, Sender<io::Result<Child>>);

/// Starts `command` in its own process group, so that Ctrl-C in the terminal does not stop the server before the nodes
/// have drained.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    bind_to_parent(&mut command);
    let (answer, answered) = mpsc::channel();
    forker().send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts processes has ended")
}

fn forker() -> &'static Sender<Job> {
    static FORKER: OnceLock<Sender<Job>> = OnceLock::new();
    FORKER.get_or_init(|| {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let run = move || {
            for (mut command, answer) in waiting {
                // This fails only if the caller panicked meanwhile; the child then ends with this process.
                let _ = answer.send(command.spawn());
            }
        };
        if let Err(error) = thread::Builder::new().name("natter-forker".to_owned()).spawn(run) {
            tracing::error!(%error, "cannot start a thread");
        }
        jobs
    })
}

#[cfg(target_os = "linux")]
fn bind_to_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let bind = move || {
        // SAFETY: prctl and getppid are async-signal-safe and touch no memory of ours.
        let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before prctl: then nothing would ever stop this child.
        if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    };
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(bind) };
}

#[cfg(not(target_os = "linux"))]
fn bind_to_parent(_command: &mut Command) {}
