//! Pid 1 of a moved tree's own PID namespace: mounts its `/proc`, keeps low numbers free for CRIU, reaps, and writes
//! down how the tree's root ended.
//!
//! Once the namespaces are made it keeps [`crate::rights::TREE_INIT`] alone.
//!
//! Owns: the namespaces' life (they end with it) and the file `exit`. Never decides, never listens on anything.
//! It survives the agent that started it; the agent finds it again by its number and start time.

use grid_types::event::ExitStatus;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name under which `ps` shows it.
pub const COMM: &str = "grid-tree-init";
/// Numbers below this are kept for restored processes; CRIU's own helpers start here.
const FIRST_HELPER_PID: i32 = 1_000_000;

/// The files of one tree, in a directory of the agent's.
#[derive(Clone, Debug)]
pub struct TreeDir(pub PathBuf);

impl TreeDir {
    /// The agent writes the root's number (in the tree's PID namespace) here before the tree may run.
    pub fn root_file(&self) -> PathBuf {
        self.0.join("root")
    }
    /// Pid 1 writes here how the root ended.
    pub fn exit_file(&self) -> PathBuf {
        self.0.join("exit")
    }
    /// How the root ended, where it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        parse_exit(&fs::read_to_string(self.exit_file()).ok()?)
    }
}

fn parse_exit(text: &str) -> Option<ExitStatus> {
    let (word, number) = text.trim().split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "code" => Some(ExitStatus::Code(number)),
        "signal" => Some(ExitStatus::Signal(number)),
        _ => None,
    }
}

/// Writes a file so that a reader finds it whole or not at all, also after a crash.
pub fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Descriptor whose other end the agent holds while it stages.
const LIFELINE: i32 = 4;

/// The body of pid 1. Says it is ready by one byte on descriptor 3, then reaps until the root has ended and nothing
/// is left of the tree. An agent that dies before it named a root lets go of the lifeline (descriptor 4): then there is
/// nothing to wait for, and everything in the namespace ends. On the mounts of a `guest` nobody becomes another user.
///
/// # Errors
/// What failed while the namespace was set up; afterwards it does not fail.
pub fn run(dir: &TreeDir, guest: bool) -> io::Result<()> {
    let mut waited = SigSet::empty();
    waited.add(Signal::SIGCHLD);
    waited.add(Signal::SIGTERM);
    waited.add(Signal::SIGIO);
    waited.thread_block()?;
    nix::sys::prctl::set_name(c"grid-tree-init")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), hardened, none)?;
    if guest {
        without_set_id()?;
    }
    keep_low_numbers_free()?;
    let ready = fs::OpenOptions::new().write(true).open("/proc/self/fd/3")?;
    (&ready).write_all(b"r")?;
    drop(ready);
    nix::unistd::close(3)?;
    watch_lifeline()?;
    crate::rights::keep_only(&crate::rights::TREE_INIT)?;
    reap(dir, &waited)
}

/// The body of who leads the session of a tree's terminal: does nothing, for as long as the tree's pid 1 lives.
///
/// # Errors
/// What failed at its start; afterwards it does not return.
pub fn keep_session() -> io::Result<()> {
    SigSet::all().thread_block()?;
    nix::sys::prctl::set_name(c"grid-tree-tty")?;
    crate::rights::keep_only(&[])?;
    loop {
        SigSet::all().wait()?;
    }
}

/// On a lender a guest stays who it is: no set-user-id program and no file capability counts on its mounts.
#[allow(unsafe_code)]
fn without_set_id() -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_NOSUID, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: plain system call on a live local of the size that is named.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn keep_low_numbers_free() -> io::Result<()> {
    let max: i32 = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse().map_err(io::Error::other)?;
    fs::write("/proc/sys/kernel/ns_last_pid", FIRST_HELPER_PID.min(max / 4 * 3).to_string())
}

/// The end of file of the lifeline becomes SIGIO.
fn watch_lifeline() -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let lifeline = lifeline();
    set_owner(LIFELINE)?;
    fcntl(lifeline, FcntlArg::F_SETFL(OFlag::O_ASYNC | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[allow(unsafe_code)]
fn lifeline() -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the agent started us with this descriptor, and nothing here closes it.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(LIFELINE) }
}

#[allow(unsafe_code)]
fn set_owner(fd: i32) -> io::Result<()> {
    // SAFETY: plain system calls.
    let result = unsafe { libc::fcntl(fd, libc::F_SETOWN, libc::getpid()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The agent is gone and never named a root.
fn abandoned(dir: &TreeDir) -> bool {
    let gone = nix::unistd::read(lifeline(), &mut [0u8; 1]) == Ok(0);
    gone && !dir.root_file().exists()
}

fn reap(dir: &TreeDir, waited: &SigSet) -> io::Result<()> {
    let mut root_ended = false;
    if abandoned(dir) {
        return Ok(());
    }
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => root_ended |= record(dir, pid, &format!("code {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                root_ended |= record(dir, pid, &format!("signal {}", signal as i32));
            }
            // Without its directory (the cluster is down, the tree lived on at home) nobody waits for the exit status.
            Err(Errno::ECHILD) if root_ended || !dir.0.exists() => return Ok(()),
            _ => match waited.wait()? {
                Signal::SIGIO if !abandoned(dir) => {}
                Signal::SIGTERM | Signal::SIGIO => {
                    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                    return Ok(());
                }
                _ => {}
            },
        }
    }
}

/// Writes down the root's end. Others are CRIU's helpers and orphans of the tree.
fn record(dir: &TreeDir, pid: Pid, status: &str) -> bool {
    let root = fs::read_to_string(dir.root_file()).ok().and_then(|t| t.trim().parse::<i32>().ok());
    if root != Some(pid.as_raw()) {
        return false;
    }
    // Nothing better can be done where the disk is full: the agent then reports an unknown status.
    let _ = write_durably(&dir.exit_file(), status);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let tree = TreeDir(dir.path().to_owned());
        assert_eq!(tree.exit(), None);
        fs::write(tree.root_file(), "12\n").unwrap();
        assert!(!record(&tree, Pid::from_raw(11), "code 1"));
        assert!(record(&tree, Pid::from_raw(12), "signal 9"));
        assert_eq!(tree.exit(), Some(ExitStatus::Signal(9)));
    }
}
